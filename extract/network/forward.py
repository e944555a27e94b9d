"""The forward pass: one compiled function at one fixed shape."""

import dataclasses
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from extract.network.backends import Run, is_out_of_memory, onnxruntime_sees_gpu, sees_gpu
from extract.network.engines import ENGINES
from extract.network.importing import backend_name
from extract.network.network import Network
from features import Failed, Refused
from features.reader import pool_rows

TRIED = 0.5  # seconds that a batch size is tried for


@dataclasses.dataclass(frozen=True)
class Forward:
    """A compiled network: (k ≤ batch, side, side, 3) uint8 RGB → (k, width) float32 of each of its layers.

    Attributes:
        run: the compiled function, of `batch` images and no other number.
        batch: images a call.
        lanes: calls that may run at once, each in a thread of its own.
        pool: see `Network`.
        shapes: of each layer.

    Raises:
        Failed: the memory that was there when it was compiled no longer is.
    """

    run: Run
    batch: int
    lanes: int = 1
    pool: str = ""
    shapes: Sequence[tuple[int, ...]] = ()

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        whole = images
        if len(images) < self.batch:
            whole = np.zeros((self.batch, *images.shape[1:]), "u1")
            whole[: len(images)] = images
        try:
            layers = [np.asarray(rows, "<f4").reshape(self.batch, -1)[: len(images)] for rows in self.run(whole)]
        except Exception as error:  # each backend has an exception of its own for this
            if not is_out_of_memory(error):
                raise
            # Not halved here: the rows that are written were made in this batch, and another may give other last bits.
            raise Failed(
                f"out of memory in a batch of {self.batch} images that had fitted before. What was finished is kept, "
                f"and the same command goes on from there: leave it more memory. For a smaller --batch, remove the "
                f".partial file first, and the finished stack too if there is one."
            ) from None
        if not self.pool:
            return layers
        return [pool_rows(rows, shape, self.pool) for rows, shape in zip(layers, self.shapes, strict=True)]


def choose_device(device: str, is_onnx: bool = False) -> str:
    """`cpu` or `gpu`, for `auto`, `cpu` or `gpu`; of an ONNX file, whose GPU is ONNX Runtime's, or of Keras.

    Raises:
        Refused: a GPU was asked for and there is none.
    """
    there = device != "cpu" and (onnxruntime_sees_gpu() if is_onnx else sees_gpu())
    if device == "gpu" and not there and is_onnx:
        raise Refused(
            "--device gpu: ONNX Runtime sees no GPU. Install the onnx-gpu extra (pip install -e '.[onnx-gpu]') and the "
            "GPU's driver, or use --device auto or cpu."
        )
    if device == "gpu" and not there:
        raise Refused(
            f"--device gpu: Keras on {backend_name()} sees no GPU. "
            f"Install the gpu extra (pip install -e '.[gpu]') and its driver, or use --device auto or cpu."
        )
    return device if device != "auto" else "gpu" if there else "cpu"


def fastest_forward(network: Network, device: str, engine: str, precision: str) -> Forward:
    """The forward pass at the batch that is fastest on this machine.

    From the engine's own on, four times larger as long as that brings a tenth more images a second. Larger batches are
    compiled for longer and hold more memory, so they have to be worth it; where a call takes as long as `TRIED`, what
    it costs to make one is spread thin already.

    Args, Raises: see `compile_forward`.
    """
    best = compile_forward(network, ENGINES[engine].batch, device, engine, precision)
    speed = _images_per_second(best, network.size)
    while best.batch * best.lanes < speed * TRIED:
        larger = compile_forward(network, 4 * best.batch, device, engine, precision)
        try:
            faster = _images_per_second(larger, network.size)
        except Failed:  # all lanes together are too much for the memory
            break
        if larger.batch < 4 * best.batch or faster < 1.1 * speed:
            break
        best, speed = larger, faster
    return best


def _images_per_second(forward: Forward, size: int) -> float:
    """Speed of all lanes together: the best round within `TRIED` seconds, since other work may slow the rest."""
    images, best = np.zeros((forward.batch, size, size, 3), "u1"), 0.0
    with ThreadPoolExecutor(forward.lanes) as lanes:
        ends = time.perf_counter() + TRIED
        while (began := time.perf_counter()) < ends:
            list(lanes.map(forward, [images] * forward.lanes))
            best = max(best, forward.lanes * forward.batch / (time.perf_counter() - began))
    return best


def compile_forward(
    network: Network, batch: int, device: str, engine: str = "keras", precision: str = "f32"
) -> Forward:
    """Compile a network into one function, and run it once.

    A function of one shape is traced once and gives a row the same bits whatever its neighbours are, so the last,
    shorter batch is padded.

    Args:
        network: what to compute.
        batch: images a call; halved until they fit the device's memory.
        device: `cpu` or `gpu`.
        engine: a name in `ENGINES`.
        precision: of the arithmetic, a name in `PRECISIONS`.

    Returns:
        the function; its `batch` says how many fitted.

    Raises:
        Failed: not even one image fits.
    """
    while True:
        try:
            run, lanes = ENGINES[engine].compile(network, batch, device, precision)
            run(np.zeros((batch, network.size, network.size, 3), "u1"))
            return Forward(run, batch, lanes, network.pool, network.output_shapes)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if batch == 1:
                raise Failed(f"not even one {network.size} px image fits the memory of this {device}") from None
            batch //= 2
