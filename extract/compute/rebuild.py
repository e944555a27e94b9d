"""Rebuild stage one as a stack records it, so that a model sees new images as it saw its own."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from extract.backbones import backbone_named
from extract.compute.pipeline import Layers, ahead, read_block
from extract.images.dataset import Listing
from extract.images.decode import framed, reading, to_rgb
from extract.network.base import weights_identity
from extract.network.engines import ENGINES, changed_versions
from extract.network.forward import choose_device, compile_forward
from extract.network.network import Network
from extract.recipe import Recipe, backbone_of
from features import Refused
from features.runtime.log import log
from features.runtime.machine import cores
from features.source import CHANGING, Unreadable

Photo = str | os.PathLike[str] | bytes | np.ndarray | Image.Image  # a file, its bytes, pixels (h, w, 3) uint8, Pillow's
NOWHERE = Listing("images", Path(), [], np.empty(0, "i8"), [], None)  # for images that bring their own paths


class Computed(NamedTuple):
    """A block of images and their rows."""

    photos: list[Photo]
    rows: list[np.ndarray]  # one array for each stage, (k, width) float32; arbitrary where unreadable
    reasons: dict[int, str]  # index in the block → why its image is unreadable


class StageOne:
    """How images become rows.

    Args:
        recipe: how the base sees them.
        forward: (k ≤ batch, side, side, 3) uint8 RGB → (k, width) float32 of each layer of the recipe's pass.
        batch: images a call.
        lanes: calls that may run at once, whoever makes them.
    """

    def __init__(self, recipe: Recipe, forward: Layers, batch: int, lanes: int = 1) -> None:
        self.recipe, self.forward, self.batch, self.lanes = recipe, forward, batch, lanes
        self._free = BoundedSemaphore(lanes)

    def pixels(self, given: Sequence[Photo]) -> tuple[np.ndarray, dict[int, str], np.ndarray]:
        """Decode images for the base: (k, side, side, 3) uint8, index → why unreadable, and (k, 32) file hashes."""
        size, files = self.recipe.size, [i for i, photo in enumerate(given) if isinstance(photo, str | os.PathLike)]
        images, sha256 = np.zeros((len(given), size, size, 3), "u1"), np.zeros((len(given), 32), "u1")
        paths = [os.fspath(given[i]) for i in files]  # type: ignore[arg-type]
        block = read_block(self.recipe, paths, np.zeros(len(files), "i4"), np.array(files, "i8"))
        images[files], sha256[files] = block.images, block.stats["sha256"]
        for i in sorted(set(range(len(given))) - set(files)):
            try:
                images[i] = self.recipe.pixels(self._opened(given[i]), sha256[i], 0)
            except Unreadable as error:
                block.reasons[i] = str(error)
        return images, block.reasons, sha256

    def _opened(self, photo: Any) -> Image.Image:
        """An image that is no file, as `Recipe.open` gives those that are; Pillow's own is taken at its full size."""
        if isinstance(photo, bytes):
            return self.recipe.open(photo)
        if isinstance(photo, np.ndarray):
            return framed(Image.fromarray(photo), self.recipe.resize)
        try:
            photo.load()
        except Exception as error:  # see `decode`
            raise Unreadable(f"cannot be decoded: {error}") from None
        return framed(to_rgb(photo, managed=self.recipe.is_managed, white=self.recipe.white), self.recipe.resize)

    def layers(self, images: np.ndarray) -> list[np.ndarray]:
        """(k, width) float32 of each layer of its pass, of (k, side, side, 3) uint8."""
        blocks = []
        for start in range(0, len(images), self.batch):
            with self._free:
                blocks.append(self.forward(images[start : start + self.batch]))
        return [np.concatenate(layer) for layer in zip(*blocks, strict=True)]

    def rows(self, images: np.ndarray) -> np.ndarray:
        """(k, width) float32 of (k, side, side, 3) uint8."""
        rows = self.layers(images)[self.recipe.output]
        return rows if self.recipe.store == "f32" else self.recipe.stored(rows)[0]


def only_pixels(side: int, made: Mapping[str, Any]) -> StageOne:
    """Stage one of the network that takes images themselves: (k, side, side, 3) uint8, decoded in full and squashed.

    Args:
        side: pixels.
        made: attributes of the stack whose images it was trained on.
    """
    recipe = Recipe(NOWHERE, backbone_named("scattering"), "", "", side, 0, decode="full-srgb", **reading(made))
    return StageOne(recipe, lambda images: [images], batch=64)


def rebuild(made: Mapping[str, Any], weights: Path | None = None, exactly: bool = False) -> StageOne:
    """Rebuild stage one from the attributes that `made_by` kept.

    Differences that touch only the last bits (versions, a missing GPU, a batch that does not fit) are warned of.

    Args:
        made: the attributes.
        weights: where the weights file is now, or a folder that it is in.
        exactly: refuse what touches the last bits, for rows of one stack.

    Raises:
        Refused: weights, engine or backbone are missing, or are not the recorded ones.
        Failed: not even one image fits into memory.
    """
    recipe = recipe_again(made, weights)
    device = _device(made["device"], recipe.is_onnx)
    engine = _engine(made, device, recipe)
    network = recipe.network
    forward = compile_forward(network, made["batch"], device, engine, recipe.precision)
    check_network(network, recipe, made)
    differs = [f"batch {made['batch']} then, {forward.batch} here"] if forward.batch != made["batch"] else []
    differs += changed_versions(made["versions"])
    if device != made["device"]:
        differs.append(f"{made['device']} then, {device} here")
    if differs and exactly:
        raise Refused(f"its rows would differ in their last bits: {'; '.join(differs)}")
    if differs:
        log.warning(f"the last digits of probabilities may differ: {'; '.join(differs)}")
    return StageOne(recipe, forward, forward.batch, forward.lanes)


def recipe_again(made: Mapping[str, Any], weights: Path | None = None) -> Recipe:
    """The recipe of rows that were made, with the weights where they are now; nothing is built yet.

    Args, Raises: see `rebuild`.
    """
    if missing := [name for name in ("engine", "batch", "weights") if name not in made]:
        raise Refused(f"the model does not say by which {missing[0]} its rows were made: extract and fit again")
    source = _weights(made, weights)
    row = backbone_of(made, source)
    if row.preprocessing != made["preprocessing"]:
        raise Refused(
            f"{row.name}: preprocessing was {made['preprocessing']} and is {row.preprocessing} here; fit again"
        )
    wanted = made["weights_sha256"]
    if (sha256 := weights_identity(row, source, made["seed"]).get("weights_sha256", wanted)) != wanted:
        raise Refused(_other_weights(made, source, sha256))
    return Recipe.recorded(made, NOWHERE, source, made["layer"])


def check_network(network: Network, recipe: Recipe, made: Mapping[str, Any]) -> None:
    """Raise Refused if a network that was built has other weights than the recorded ones, or gives other rows."""
    if network.weights_sha256 != made["weights_sha256"]:
        raise Refused(_other_weights(made, recipe.weights, network.weights_sha256))
    if (shape := list(network.feature_shapes[recipe.output])) != made["feature_shape"]:
        name = recipe.backbone.name
        raise Refused(f"{name} gives rows of {shape} here, and {made['feature_shape']} then; fit again")


def compute(stages: Sequence[StageOne], given: Iterable[Photo]) -> Iterator[Computed]:
    """Read, decode and compute images in blocks, in order; only a few blocks are in memory at any time.

    Args:
        stages: one for each of the stacks that a model takes.
        given: the images, any number of them; never listed whole.
    """

    def read(block: list[Photo]) -> tuple[list[Photo], list[np.ndarray], dict[int, str]]:
        images, reasons, sha256 = zip(*(stage.pixels(block) for stage in stages), strict=True)
        merged = {i: why for each in reasons for i, why in each.items()}
        changed = np.flatnonzero((np.stack(sha256) != sha256[0]).any(axis=(0, 2)))
        return block, list(images), {int(i): CHANGING for i in changed} | merged

    def forward(block: list[Photo], images: list[np.ndarray], reasons: dict[int, str]) -> Computed:
        rows = [stage.rows(pixels) for stage, pixels in zip(stages, images, strict=True)]
        for features in rows:
            for i in np.flatnonzero(~np.isfinite(features).reshape(len(block), -1).all(axis=1)):
                reasons.setdefault(int(i), "its features are not finite (NaN or infinity)")
                features[i] = 0
        return Computed(block, rows, reasons)

    size, lanes = max(stage.batch for stage in stages), max(stage.lanes for stage in stages)
    rest = iter(given)
    blocks = iter(lambda: list(islice(rest, size)), [])
    with ThreadPoolExecutor(cores()) as readers, ThreadPoolExecutor(lanes) as lane:
        decoded = ahead(readers, read, ((block,) for block in blocks), depth=cores() + 1)
        yield from ahead(lane, forward, decoded, depth=lanes + 1)


def _weights(made: Mapping[str, Any], moved: Path | None) -> str:
    """The recorded weights as `load_base` takes them: the file where they are now, else where they were."""
    cached = not made["weights_file"]
    if cached and made["weights"] != "imagenet":
        return str(made["weights"])
    file = Path(made["weights_file"] or backbone_named(made["backbone"]).weights_file)
    if moved is not None:
        inside = (moved / file.name, moved / "onnx" / file.name)  # as model hubs lay them out
        file = next((each for each in inside if each.is_file()), inside[0]) if moved.is_dir() else moved
    if cached and (moved is None or (moved.is_dir() and not file.is_file())):  # a folder may be for another base
        return "imagenet"
    if not file.is_file():
        raise Refused(
            f"no weights file at {file}, which the model's rows were made with (SHA-256 {made['weights_sha256']}). "
            f"Put it there, or say where it is with --weights FILE (WEIGHTS=FILE)"
        )
    return str(file)


def _other_weights(made: Mapping[str, Any], source: str, sha256: str) -> str:
    return (
        f"the weights of {made['backbone']} ({source}) have SHA-256 {sha256}, and the model's rows were made with "
        f"{made['weights_sha256']}. Give the file that they were made with: --weights FILE (WEIGHTS=FILE)"
    )


def _device(then: str, is_onnx: bool) -> str:
    try:
        return choose_device(then, is_onnx)
    except Refused:  # no GPU: the same recipe on a CPU, which `rebuild` warns of
        return "cpu"


def _engine(made: Mapping[str, Any], device: str, recipe: Recipe) -> str:
    name = made["engine"].split()[0]
    why = (
        ENGINES[name].unfit(device, recipe.precision, recipe.is_onnx)
        if name in ENGINES
        else "there is none of that name here"
    )
    if not why and ENGINES[name].recorded != made["engine"]:
        why = f"here it is {ENGINES[name].recorded}; set KERAS_BACKEND={made['engine'].split()[-1]}"
    if why:
        raise Refused(f"the model's rows were made by the engine {made['engine']}: {why}")
    return str(name)
