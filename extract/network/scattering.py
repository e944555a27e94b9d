"""A wavelet scattering network as a frozen base: nothing to download, nothing trained, every filter a formula.

Two layers of Morlet wavelets, each followed by a modulus and a local average (Mallat, CPAM 2012; Bruna & Mallat,
PAMI 2013). Averages up to 2^J pixels make it stable to shifts and small deformations; the second layer gets back what
the averages lost. kymatio would be the library for it, but its last release (0.3) does not import beside a SciPy that
has dropped `scipy.special.sph_harm`, and it transforms by FFT; here the cascade is subsampled at every octave.
"""

import hashlib
import math
from typing import Any

import numpy as np

ORIENTATIONS = 8
SIGMA = 0.8  # width of the Morlet wavelets' envelope and of the low-pass filter, pixels of their own octave
FREQUENCY = 3 * math.pi / 4  # of the wavelets, radians a pixel of their own octave
SLANT = 4  # an envelope is ORIENTATIONS / SLANT times as long across the wave as along it
RADIUS = 4  # of the wavelets' kernels, pixels
TAPS = 3  # to either side, of the low-pass filter
SMALLEST = 4  # pixels that the deepest scale leaves of each side

# Recorded where other bases have the hash of a weights file. Of constants: the filters' last bits differ by machine.
IDENTITY = hashlib.sha256(
    f"Morlet scattering 1: {ORIENTATIONS} {SIGMA} {FREQUENCY} {SLANT} {RADIUS} {TAPS}".encode()
).hexdigest()


def scattering(size: int, orientations: int = ORIENTATIONS) -> Any:
    """The network for square RGB images.

    Args:
        size: side of the input, pixels.
        orientations: L, of the wavelets.

    Returns:
        the Keras model, (batch, size, size, 3) in 0–1 → every scale. Its layers `scale1`, `scale2`, … are the
        scattering coefficients for J = 1, 2, …: (batch, size / 2^J, size / 2^J, 3·(1 + L·J + L²·J(J−1)/2)), for each
        colour the average, then the first order by (scale, orientation), then the second by (scale, orientation of the
        second wavelet; scale, orientation of the first).

    Raises:
        ValueError: a size that cannot be halved, or not without leaving too little.
    """
    import keras

    if not scales_at(size):
        raise ValueError(f"give an even side from {2 * SMALLEST} up, best a power of two")

    ops = keras.ops
    wavelets, (_, weights) = morlets(orientations), taps()

    def modulus(maps: Any, gain: float) -> Any:
        """|map ∗ ψ| of every map and orientation: (n, h, w, k) → (n, h, w, k·L)."""
        _, height, width, count = maps.shape
        one = ops.reshape(ops.transpose(maps, (0, 3, 1, 2)), (-1, height, width, 1))
        waves = ops.conv(mirrored(one, RADIUS), gain * wavelets, padding="valid")
        real, imaginary = ops.split(waves, 2, axis=-1)
        moduli = ops.reshape(ops.sqrt(real**2 + imaginary**2), (-1, count, height, width, orientations))
        return ops.reshape(ops.transpose(moduli, (0, 2, 3, 1, 4)), (-1, height, width, count * orientations))

    def averaged(maps: Any) -> Any:
        """Every map low-passed and subsampled by 2: (n, h, w, k) → (n, h/2, w/2, k)."""
        kernel = np.tile(np.outer(weights, weights).astype("f4")[:, :, None, None], (1, 1, maps.shape[-1], 1))
        return ops.depthwise_conv(mirrored(maps, TAPS - 1), kernel, strides=2, padding="valid")

    pixels = keras.Input((size, size, 3), name="pixels")
    lower = ops.reshape(ops.transpose(pixels, (0, 3, 1, 2)), (-1, size, size, 1))  # orders 0 and 1, colours apart
    second: list[Any] = []
    scales: list[Any] = []
    for _ in range(scales_at(size)):
        size //= 2
        waves = modulus(lower, gain(len(scales)))
        lower = averaged(ops.concatenate([lower, waves[..., :orientations]], axis=-1))
        if scales:
            second = [averaged(ops.concatenate([*second, waves[..., orientations:]], axis=-1))]
        coefficients = ops.concatenate([lower, *second], axis=-1)
        colours = ops.transpose(ops.reshape(coefficients, (-1, 3, size, size, coefficients.shape[-1])), (0, 2, 3, 1, 4))
        name = f"scale{len(scales) + 1}"
        scales.append(keras.layers.Reshape((size, size, 3 * coefficients.shape[-1]), name=name)(colours))
    return keras.Model(pixels, scales, name="scattering")


def mirrored(maps: Any, width: int) -> Any:
    """Maps (n, h, w, k) with so many pixels more on each side, mirrored at the edge."""
    from keras import backend, ops

    if backend.backend() != "torch":  # where Keras 3.15 repeats the edge instead, and says nothing
        return ops.pad(maps, ((0, 0), (width, width), (width, width), (0, 0)), mode="symmetric")
    for axis in (1, 2):
        places = np.pad(np.arange(maps.shape[axis]), width, mode="symmetric")
        maps = ops.take(maps, places, axis=axis)
    return maps


def scales_at(size: int) -> int:
    """How often a size can be halved, so that enough is left of it: the number of scales."""
    return 0 if size % 2 or size // 2 < SMALLEST else 1 + scales_at(size // 2)


def morlets(orientations: int) -> np.ndarray:
    """Morlet wavelets as a convolution's kernel, (9, 9, 1, 2·orientations) float32: real parts, then imaginary ones.

    A plane wave under a Gaussian, less as much of that Gaussian as leaves a mean of zero, for angles from 0 to π.
    Scaled so that together they pass no frequency of a real image with more than its own energy.
    """
    y, x = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1].astype(float)
    kernels = []
    for angle in np.pi * np.arange(orientations) / orientations:
        along = x * math.cos(angle) + y * math.sin(angle)
        across = y * math.cos(angle) - x * math.sin(angle)
        envelope = np.exp(-(along**2 + (across * SLANT / orientations) ** 2) / (2 * SIGMA**2))
        wave = envelope * np.exp(1j * FREQUENCY * along)
        kernels.append(wave - envelope * wave.sum() / envelope.sum())
    kernel = np.stack(kernels, axis=-1)
    energy = (np.abs(np.fft.fft2(kernel, (64, 64), axes=(0, 1))) ** 2).sum(axis=-1)
    kernel /= math.sqrt((energy + np.roll(energy[::-1, ::-1], 1, axis=(0, 1))).max() / 2)
    return np.concatenate([kernel.real, kernel.imag], axis=-1)[:, :, None].astype("f4")


def gain(octave: int) -> float:
    """Factor for the wavelets of an octave: it makes up for the low-pass filters before it.

    Half of the energy in reach of a coarser octave has passed through the finer one above it already.
    """
    halvings = 2.0 ** np.arange(1, octave + 1)
    places, weights = taps()
    passed = [float(weights @ np.cos(FREQUENCY / halving * (places - 0.5))) for halving in halvings]
    return math.sqrt(0.5 if octave else 1.0) / math.prod(passed)


def taps() -> tuple[np.ndarray, np.ndarray]:
    """The low-pass filter: places of its taps, as seen from the left of two pixels, and their weights, summing to 1."""
    places = np.arange(1 - TAPS, TAPS + 1)
    weights = np.exp(-((places - 0.5) ** 2) / (2 * SIGMA**2))
    return places, weights / weights.sum()
