import math
from pathlib import Path

import numpy as np
import pytest
import warm
from PIL import Image
from scipy import ndimage
from tiny import photos, run

from classify.networks.finetune import Finetune
from extract import BACKBONES, extract
from extract.network.base import load_base
from extract.network.importing import import_keras
from extract.network.scattering import scattering
from features import Failed, Refused, open_stack

pytestmark = pytest.mark.slow

# The definition's constants, once more: the code's own would agree with themselves.
ORIENTATIONS, SIGMA, FREQUENCY = 8, 0.8, 3 * math.pi / 4
PLACES = np.arange(-2, 4) - 0.5
LOW_PASS = np.exp(-(PLACES**2) / (2 * SIGMA**2)) / np.exp(-(PLACES**2) / (2 * SIGMA**2)).sum()
GAIN = math.sqrt(0.5) / float(LOW_PASS @ np.cos(FREQUENCY / 2 * PLACES))  # of the second octave


def coefficients(images: np.ndarray, scale: int) -> np.ndarray:
    """(n, h, w, c) of images (n, side, side, 3) in 0–1."""
    keras = import_keras()
    base = scattering(images.shape[1])
    at = keras.Model(base.input, base.get_layer(f"scale{scale}").output)
    return np.asarray(at(images.astype("f4"), training=False))


def smooth_images(count: int, side: int = 64, seed: int = 0) -> np.ndarray:
    """Random images whose energy falls off with frequency as in photos, (count, side, side, 3) in 0–1."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side))) + 1 / side
    spectrum = np.fft.fft2(random.standard_normal((count, 3, side, side))) / frequency
    images = np.real(np.fft.ifft2(spectrum)).transpose(0, 2, 3, 1)
    return 0.5 + 0.1 * (images - images.mean()) / images.std()


def wave(angle: float) -> np.ndarray:
    """A Morlet wavelet from its definition, 9×9 complex, unscaled."""
    y, x = np.mgrid[-4:5, -4:5].astype(float)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    envelope = np.exp(-(along**2 + (across / 2) ** 2) / (2 * SIGMA**2))
    beta = (envelope * np.exp(1j * FREQUENCY * along)).sum() / envelope.sum()
    return envelope * (np.exp(1j * FREQUENCY * along) - beta)


def correlated(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlation with a complex kernel, mirrored at the edges, by SciPy."""
    return ndimage.correlate(image, kernel.real, mode="reflect") + 1j * ndimage.correlate(
        image, kernel.imag, mode="reflect"
    )


def halved(image: np.ndarray) -> np.ndarray:
    """Gaussian average around the middle of each 2×2 pixels, by SciPy."""
    for axis in (0, 1):
        image = ndimage.correlate1d(np.asarray(image, float), LOW_PASS, axis, mode="reflect", origin=-1)
    return image[::2, ::2]


def test_coefficients_are_the_definition() -> None:
    """Guards the cascade: orders 0, 1 and 2 of one colour, from SciPy's correlations with the formula's wavelets."""
    image = smooth_images(1)[0]
    found = coefficients(image[None], 2)[0].reshape(16, 16, 3, -1)[:, :, 1]
    x = image[:, :, 1]
    angles = [math.pi * i / ORIENTATIONS for i in range(ORIENTATIONS)]
    energy = sum(np.abs(np.fft.fft2(wave(angle), (64, 64))) ** 2 for angle in angles)
    unit = 1 / math.sqrt((energy + np.roll(energy[::-1, ::-1], 1, (0, 1))).max() / 2)
    first = [[unit * np.abs(correlated(x, wave(a))) for a in angles]]
    first.append([GAIN * unit * np.abs(correlated(halved(x), wave(a))) for a in angles])
    second = [GAIN * unit * np.abs(correlated(halved(u), wave(a))) for u in first[0] for a in angles]
    expected = [
        halved(halved(x)),
        *(halved(halved(u)) for u in first[0]),
        *(halved(u) for u in first[1]),
        *(halved(u) for u in second),
    ]
    assert found.shape[-1] == len(expected) == 1 + 2 * 8 + 64
    np.testing.assert_allclose(found, np.stack(expected, axis=-1), rtol=1e-4, atol=1e-6)


def test_energy_is_conserved_and_never_made() -> None:
    """Guards the frame: coefficients keep nearly all of an image's energy and add none (Mallat 2012, Theorem 2.6)."""
    images = smooth_images(8)
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    kept = [float((coefficients(centred, scale) ** 2).sum() * 4**scale / (centred**2).sum()) for scale in (1, 2, 3, 4)]
    assert max(kept) <= 1.1
    assert min(kept) >= 0.75


def test_differences_never_grow() -> None:
    """Guards non-expansiveness: |S(x) − S(y)| ≤ |x − y|, but for the frame's upper bound."""
    x, y = smooth_images(6, seed=1), smooth_images(6, seed=2)
    apart = np.sqrt(((coefficients(x, 3) - coefficients(y, 3)) ** 2).sum((1, 2, 3)) * 4**3)
    assert (apart <= 1.1 * np.sqrt(((x - y) ** 2).sum((1, 2, 3)))).all()


def relative_change(images: np.ndarray, changed: np.ndarray, scale: int | None) -> float:
    """How far images move, in pixels or in coefficients without the average, relative to their own length."""
    mean = images.mean(axis=(1, 2), keepdims=True)
    before, after = images - mean, changed - mean
    if scale:
        before, after = coefficients(before, scale), coefficients(after, scale)
    return float(np.linalg.norm(before - after) / np.linalg.norm(before))


def test_shifts_matter_less_at_each_scale() -> None:
    """Guards stability to translation: a shift by two pixels changes less and less as averages grow (Mallat 2012)."""
    wide = smooth_images(6, side=80)
    images, shifted = wide[:, 8:72, 8:72], wide[:, 10:74, 8:72]
    moved = [relative_change(images, shifted, scale) for scale in (None, 1, 2, 3, 4)]
    assert moved == sorted(moved, reverse=True)
    assert moved[4] < moved[0] / 4


def test_small_deformations_change_little() -> None:
    """Guards stability to deformations: the change is about in proportion to them, and far below the pixels'."""
    images = smooth_images(4)
    y, x = np.mgrid[:64, :64].astype(float)

    def warped(strength: float) -> np.ndarray:
        grid = [y + strength * np.sin(x / 9), x + strength * np.cos(y / 11)]
        warp = [
            [ndimage.map_coordinates(c, grid, order=3, mode="reflect") for c in i.transpose(2, 0, 1)] for i in images
        ]
        return np.array(warp).transpose(0, 2, 3, 1)

    small, large = (relative_change(images, warped(strength), 3) for strength in (0.5, 1.0))
    assert small < large < 3 * small
    assert large < relative_change(images, warped(1.0), None) / 2


def test_stage_one_takes_it_like_any_other(tmp_path: Path) -> None:
    """Guards the door: no weights asked for, rows as the network gives them, the identity recorded."""
    data = photos(tmp_path / "photos")
    stack = open_stack(extract(str(data), "scattering", size=32, layer="scale2", out=str(tmp_path / "a.h5")))
    assert stack.feature_shape == (8, 8, 243)
    images = [
        Image.open(data / path).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR) for path in stack.paths
    ]
    pixels = np.array([np.asarray(image) for image in images]) / 255
    expected = coefficients(pixels, 2).reshape(len(stack), -1)
    np.testing.assert_allclose(stack.X, expected, rtol=1e-4, atol=1e-5)
    assert (stack.attrs["weights"], stack.attrs["preprocessing"]) == ("formula", "unit")
    assert len(stack.attrs["weights_sha256"]) == 64


def test_what_it_cannot_do_is_said(tmp_path: Path) -> None:
    """Guards the messages: weights that it has not, sides that cannot be halved, layers, and nothing to fine-tune."""
    data = photos(tmp_path / "photos")
    with pytest.raises(
        Refused, match="scattering has no weights, a formula gives its filters: leave --weights random out"
    ):
        extract(str(data), "scattering", weights="random")
    with pytest.raises(Refused, match="scattering cannot take 33×33 images: give an even side from 8 up"):
        extract(str(data), "scattering", size=33, out=str(tmp_path / "a.h5"))
    with pytest.raises(Refused, match=r"scattering has no layer 'scale9'\. Did you mean scale"):
        extract(str(data), "scattering", size=32, layer="scale9", out=str(tmp_path / "a.h5"))
    stack = open_stack(extract(str(data), "scattering", size=32, layer="scale1", out=str(tmp_path / "a.h5")))
    with pytest.raises(Failed, match="scattering has nothing to fine-tune: a formula gives its filters"):
        Finetune().fit(stack, stack.y)


def test_the_table_has_its_shape() -> None:
    """Guards the row of the table: size, layer and shape of what `scattering` is without options."""
    row = BACKBONES["scattering"]
    base, identity = load_base(row, row.weights, row.size, seed=0)
    assert base.get_layer(row.layer).output.shape[1:] == (row.positions, row.positions, row.channels)
    assert base.count_params() == 0
    assert len(identity) == 64


def test_jax_gives_the_same_rows(tmp_path: Path) -> None:
    """Guards 'Keras operations only': the same rows on another backend, to 1e-4."""
    pytest.importorskip("jax")
    data = photos(tmp_path / "photos")
    words = ["extract", data, "--backbone", "scattering", "--size", "32", "--layer", "scale3", "--out"]
    for backend, start in (("tensorflow", warm.run), ("jax", run)):
        done = start(*words, tmp_path / f"{backend}.h5", cwd=tmp_path, KERAS_BACKEND=backend)
        assert done.returncode == 0, done.stderr
    one, other = (open_stack(tmp_path / f"{backend}.h5") for backend in ("tensorflow", "jax"))
    assert one.attrs["engine"] != other.attrs["engine"] == "keras on jax"
    assert np.abs(one.X - other.X).max() <= 1e-4 * np.abs(other.X).max()
