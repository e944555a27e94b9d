"""Rows computed by this process, and how: the device, engine and batch that hold for all rows of a stack."""

import dataclasses
from typing import NamedTuple

import numpy as np

from extract.compute.pipeline import Done, Reasons, Writers, fill, in_blocks
from extract.network.engines import choose_engine
from extract.network.forward import Forward, choose_device, compile_forward, fastest_forward
from extract.recipe import Recipe
from features.runtime.errors import listed
from features.runtime.log import log


@dataclasses.dataclass(frozen=True)
class Compute:
    """Where and how rows are computed, as asked for. A file that is begun keeps its own device, engine and batch.

    Attributes:
        device, engine, batch, dask: see `extract`.
    """

    device: str = "auto"
    engine: str = "auto"
    batch: int | None = None
    dask: str | None = None


class Compiled(NamedTuple):
    """The result of compiling a recipe's network."""

    device: str  # cpu or gpu
    engine: str  # as recorded: `openvino`, `keras on tensorflow`
    why: str  # that engine was chosen
    batch: int
    weights_sha256: str
    feature_shapes: list[tuple[int, ...]]  # of each layer of the pass


def compile_recipe(recipe: Recipe, compute: Compute, measure: bool) -> tuple[Compiled, Forward]:
    """Build, load and compile the network of a recipe.

    Args:
        recipe: what a stack is made from; its images do not matter here.
        compute: how.
        measure: take the batch that a short measurement finds the fastest, if none is given.

    Raises:
        Refused: the device, the engine or the layer does not exist here, or the weights do not fit.
        Failed: no weights, or no memory.
    """
    device = choose_device(compute.device, recipe.is_onnx)
    engine, why = choose_engine(compute.engine, device, recipe.precision, recipe.is_onnx)
    network = recipe.network
    if compute.batch is None and measure:
        forward = fastest_forward(network, device, engine.name, recipe.precision)
    else:
        forward = compile_forward(network, compute.batch or engine.batch, device, engine.name, recipe.precision)
    found = network.weights_sha256, network.feature_shapes
    return Compiled(device, engine.recorded, why, forward.batch, *found), forward


class Local:
    """Rows are computed by this process. `Cluster` does the same by others."""

    def compile(self, recipe: Recipe, compute: Compute, measure: bool) -> Compiled:
        """See `compile_recipe`; comes before `fill`."""
        compiled, self._forward = compile_recipe(recipe, compute, measure)
        return compiled

    def fill(self, writers: Writers, recipe: Recipe, rows: np.ndarray, batch: int, done: Done) -> Reasons:
        """Compute and write rows (k,), increasing; returns what was rejected."""
        return fill(writers, recipe, in_blocks(rows, batch), self._forward, done, self._forward.lanes)

    def report_changing(self, paths: list[str]) -> None:
        """Warn of images that changed again after being re-read."""
        changing = f"{len(paths)} images are still changing; run this again once they stop"
        log.warning(f"{changing}: {listed(paths)}")
