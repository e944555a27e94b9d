"""A Keras model compiled on each of Keras's backends, for one batch size: uint8 pixels → float32 rows."""

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable
from functools import cache as once
from typing import Any

import numpy as np

from extract.network.importing import backend_name, import_keras
from features.runtime.log import log
from features.runtime.versions import installed

Run = Callable[
    [np.ndarray], list[np.ndarray]
]  # (batch, side, side, 3) uint8 RGB → (batch, h, w, c) float32, each layer
# What the drivers of GPUs put there: NVIDIA's, those of its small boards, AMD's, and Windows' for Linux inside it.
GPU_FILES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/kfd", "/dev/dxg")
IN_FLIGHT = 2  # batches on a GPU: one is copied to it, or from it, while the other is computed


def compile_keras(model: Any, batch: int, device: str) -> tuple[Run, int]:
    """Compile a model on the backend that Keras runs on.

    Args:
        model: (batch, side, side, 3) uint8 → (batch, h, w, c) of each layer.
        batch: images a call.
        device: `cpu` or `gpu`.

    Returns:
        the function, and how many calls of it may run at once.
    """
    on = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}
    return on[backend_name()](model, batch, device)


def in_parts(run: Run, part: int, batch: int) -> Run:
    """A function of `batch` images from one of `part`, which is called as often as it takes."""
    if part == batch:
        return run
    _say_parts(part)

    def whole(images: np.ndarray) -> list[np.ndarray]:
        padded = np.zeros((-(-batch // part) * part, *images.shape[1:]), images.dtype)
        padded[:batch] = images
        made = [run(padded[start : start + part]) for start in range(0, len(padded), part)]
        return [np.concatenate(rows)[:batch] for rows in zip(*made, strict=True)]

    return whole


@once
def _say_parts(part: int) -> None:
    log.info(
        f"this network's batch is fixed at {part}: images go through it {part} at a time, which is slower than in a "
        "batch of its engine's own. An export with a free batch has no such limit"
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of any backend says that memory is too small."""
    text = f"{type(error).__name__} {error}".lower()
    return bool(
        re.search(r"resource_?exhausted|out of memory|\boom\b|memoryerror|bad_alloc|failed to allocate memory", text)
    )


def sees_gpu() -> bool:
    """Whether the backend that Keras runs on has a GPU to compute on. Keras is asked only where there may be one."""
    if not _may_have_gpu():
        return False
    keras = import_keras()
    if backend_name() == "torch":  # Keras lists no devices of it
        return bool(importlib.import_module("torch").cuda.is_available())
    try:
        return bool(keras.distribution.list_devices("gpu"))
    except RuntimeError:  # JAX raises where TensorFlow gives an empty list
        return False


def onnxruntime_sees_gpu() -> bool:
    """Whether ONNX Runtime is installed with a GPU to compute on."""
    if not any(map(os.path.exists, GPU_FILES)) or importlib.util.find_spec("onnxruntime") is None:
        return False
    return "CUDAExecutionProvider" in importlib.import_module("onnxruntime").get_available_providers()


def _may_have_gpu() -> bool:
    if sys.platform == "linux" and not any(map(os.path.exists, GPU_FILES)):
        return False
    return backend_name() != "tensorflow" or "tensorflow-cpu" not in installed(["tensorflow-cpu"])


def _on_tensorflow(model: Any, batch: int, device: str) -> tuple[Run, int]:
    """Use `predict_on_batch`: `Model.predict` in a loop concatenates, retraces the ragged batch and leaks."""
    keras = import_keras()
    model.compile(jit_compile=device == "gpu")  # XLA on the CPU makes depthwise networks ten times slower

    def run(images: np.ndarray) -> list[np.ndarray]:
        with keras.device(f"{device}:0"):
            return [np.asarray(rows, "<f4") for rows in keras.tree.flatten(model.predict_on_batch(images))]

    return run, 1


def _on_jax(model: Any, batch: int, device: str) -> tuple[Run, int]:
    """Compile ahead of time, with the weights on the device: a call moves nothing but bytes there and rows back."""
    jax: Any = importlib.import_module("jax")
    place = jax.devices(device)[0]
    there = jax.sharding.SingleDeviceSharding(place)
    kinds = (model.trainable_variables, model.non_trainable_variables)
    weights = jax.device_put([[variable.value for variable in kind] for kind in kinds], there)
    pixels = jax.ShapeDtypeStruct((batch, *model.input_shape[1:]), np.uint8, sharding=there)

    def forward(weights: Any, pixels: Any) -> Any:
        layers, _ = model.stateless_call(*weights, pixels, training=False)
        return [rows.astype(np.float32) for rows in jax.tree.leaves(layers)]

    compiled = jax.jit(forward).lower(weights, pixels).compile()

    def run(images: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(rows) for rows in compiled(weights, jax.device_put(images, there))]

    return run, IN_FLIGHT if device == "gpu" else 1


def _on_torch(model: Any, batch: int, device: str) -> tuple[Run, int]:
    """Compute each call in a stream of its own, from and to pinned memory, so that copies wait for no other call."""
    torch: Any = importlib.import_module("torch")
    keras = import_keras()
    place = torch.device("cuda" if device == "gpu" else "cpu")
    model.to(place)

    def layers(pixels: Any) -> Any:
        with torch.inference_mode(), keras.device(f"{device}:0"):
            return [rows.float() for rows in keras.tree.flatten(model(pixels, training=False))]

    def on_cpu(images: np.ndarray) -> list[np.ndarray]:
        return [rows.numpy() for rows in layers(torch.from_numpy(images))]

    def on_gpu(images: np.ndarray) -> list[np.ndarray]:
        with torch.cuda.stream(torch.cuda.Stream()):
            made = layers(torch.from_numpy(images).pin_memory().to(place, non_blocking=True))
            back = [torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True) for rows in made]
            for rows, there in zip(made, back, strict=True):
                there.copy_(rows, non_blocking=True)
            torch.cuda.current_stream().synchronize()
        return [rows.numpy() for rows in back]

    return (on_gpu, IN_FLIGHT) if device == "gpu" else (on_cpu, 1)
