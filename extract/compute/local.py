"""What is settled before the first image is read, and holds for all rows of a stack."""

import sys
from typing import NamedTuple

import numpy as np

from extract.compute.pipeline import Done, fill, in_blocks
from extract.network.base import cut, load_base
from extract.network.engines import choose_engine
from extract.network.forward import Forward, choose_device, compile_forward, fastest_forward
from extract.recipe import Recipe
from features.runtime.errors import listed
from features.writer import StackWriter


class Settled(NamedTuple):
    """What a network became when it was compiled."""

    device: str  # cpu or gpu
    engine: str  # as recorded: `openvino`, `keras on tensorflow`
    why: str  # it is that engine
    batch: int
    weights_sha256: str
    feature_shape: tuple[int, ...]  # (h, w, c)


def settle(recipe: Recipe, device: str, engine: str, batch: int | None, measure: bool) -> tuple[Settled, Forward]:
    """Build, load and compile the network of a recipe.

    Args:
        recipe: what a stack is to be made of; its images do not matter here.
        device, engine, batch: as of `extract`.
        measure: take the batch that a short measurement finds the fastest, if none is given.

    Raises:
        Refused: the device, the engine or the layer cannot be had, or the weights do not fit.
        Failed: no weights, or no memory.
    """
    device = choose_device(device)
    chosen, why = choose_engine(engine, device, recipe.precision)
    base, weights_sha256 = load_base(recipe.backbone, recipe.weights, recipe.size, recipe.seed)
    base = cut(base, recipe.layer)
    if batch is None and measure:
        forward = fastest_forward(base, recipe.backbone, device, chosen.name, recipe.precision)
    else:
        forward = compile_forward(base, recipe.backbone, batch or chosen.batch, device, chosen.name, recipe.precision)
    settled = Settled(device, chosen.recorded, why, forward.batch, weights_sha256, base.output_shape[1:])
    return settled, forward


class Here:
    """Rows are computed by this process. `OnDask` does the same by others."""

    def settle(self, recipe: Recipe, device: str, engine: str, batch: int | None, measure: bool) -> Settled:
        """As `extract.compute.local.settle`; before `fill`."""
        settled, self._forward = settle(recipe, device, engine, batch, measure)
        return settled

    def fill(self, writer: StackWriter, recipe: Recipe, rows: np.ndarray, batch: int, done: Done) -> dict[int, str]:
        """Compute and write rows (k,), increasing; returns row → reason, of the rows rejected."""
        return fill(writer, recipe, in_blocks(rows, batch), self._forward, done, self._forward.lanes)

    def read_otherwise(self, paths: list[str]) -> None:
        """Of images whose rows are not of the bytes that are there, although they were read twice."""
        print(f"warning: {len(paths)} images go on changing; run this again then: {listed(paths)}", file=sys.stderr)
