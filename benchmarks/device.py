"""What a device can do at most with one of Keras's backends: arithmetic, memory, and how exact it is."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from extract.network.importing import import_keras


def seconds(device: str) -> float:
    """How long a speed is measured for."""
    return 2.0 if device == "gpu" else 0.1


def operations(base: Any) -> float:
    """Multiplications and additions for one image, in all layers that have a kernel."""
    layers = [layer for layer in base.layers if hasattr(layer, "kernel")]
    return 2.0 * sum(np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape) for layer in layers)


def arithmetic_limit(device: str, precision: str) -> float:
    """Operations a second of a product of two large square matrices: the best of the rounds."""
    side = 8192 if device == "gpu" else 256
    name = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}[precision]
    if import_keras().backend.backend() == "jax":
        import jax

        key = jax.random.key(0)
        one = jax.device_put(jax.random.normal(key, (side, side)).astype(name), jax.devices(device)[0])
        product: Callable[[Any, Any], Any] = jax.jit(lambda a, b: a @ b)

        def ready(made: Any) -> None:
            made.block_until_ready()
    else:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = True
        place = "cuda" if device == "gpu" else "cpu"
        one = torch.randn((side, side), device=place).to(getattr(torch, name))
        product = torch.matmul

        def ready(made: Any) -> None:
            if device == "gpu":
                torch.cuda.synchronize()

    ready(product(one, one))
    best, ends = 0.0, time.perf_counter() + seconds(device)
    while (began := time.perf_counter()) < ends:
        for _ in range(9):
            product(one, one)
        ready(product(one, one))
        best = max(best, 10 * 2.0 * side**3 / (time.perf_counter() - began))
    return best


@contextmanager
def without_tf32() -> Iterator[None]:
    """Full float32 arithmetic for what is compiled and computed meanwhile."""
    if import_keras().backend.backend() == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    else:
        import torch

        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        yield
        torch.backends.cudnn.allow_tf32 = True


def peak_memory(device: str) -> float:
    """The most GPU memory that this process has held, GB; 0 on a CPU."""
    if device != "gpu":
        return 0.0
    if import_keras().backend.backend() == "jax":
        import jax

        return float(jax.devices("gpu")[0].memory_stats()["peak_bytes_in_use"]) / 1e9
    import torch

    return float(torch.cuda.max_memory_allocated()) / 1e9
