"""The layers of a backbone or of a model file, to choose one from; and a stack at another layer than its own."""

from pathlib import Path

import numpy as np

from extract.backbones import backbone_named
from extract.compute.local import Compute
from extract.images.dataset import Listing
from extract.model_file import described, found, is_model_file
from extract.network.base import load_base, load_model, weights_identity
from extract.network.onnx_file import read_onnx
from extract.network.onnx_network import layers_of_file
from extract.preprocessing import SIDE
from extract.recipe import Recipe
from extract.stack.changes import Recorded, image_changes, recipe_changes, refuse
from extract.stack.job import Job
from extract.stack.make import make_stacks
from features import Stack, open_stack
from features.check import images_of


def layers_of(model: str, size: int | None = None, axes: str = "") -> dict[str, tuple[int, ...]]:
    """Name → feature shape of each layer at which a network can be cut, in the order in which they are computed.

    Args:
        model: a backbone's name, or a model file or its folder.
        size: side of the square input, pixels; by default the network's own.
        axes: see `extract.network.onnx_file.parsed_axes`.

    Raises:
        Refused, Failed: there is no such network, or it cannot be taken.
    """
    if not is_model_file(model):
        row = backbone_named(model)
        weights = "random" if row.weights == "imagenet" else row.weights  # they change no shape
        base, _ = load_base(row, weights, size or row.size, 0)
    else:
        file = found(Path(model))
        if file.suffix == ".onnx":
            onnx = read_onnx(file, axes)
            side = size or onnx.side or ((said := described(file)) and said.size)
            return layers_of_file(onnx, side or SIDE)
        base = load_model(file)
    return {layer.name: tuple(layer.output.shape[1:]) for layer in base.layers[1:] if hasattr(layer.output, "shape")}


def extract_layer(parent: Stack, layer: str, out: Path) -> Path:
    """A second stack of the very same rows, from the same base cut at another layer.

    Args:
        parent: a finished stack; all rows of its file are taken.
        layer: where to cut.
        out: the stack to write; one that is there and up to date is left alone.

    Returns:
        the stack's path.

    Raises:
        Refused: the images or the weights are no longer those of the parent, or what is at `out` is something else.
        Failed: disk or memory.
    """
    whole, attrs = open_stack(parent.path), parent.attrs
    images_of(parent)
    images = whole.take(whole.view == 0)
    listing = Listing(
        attrs["dataset"],
        Path(attrs["dataset_root"]),
        images.paths,
        images.y,
        images.label_names,
        images.split,
        groups=images.groups,
    )
    recipe = Recipe.recorded(attrs, listing, attrs["weights_file"] or attrs["weights"], layer)
    changes = recipe_changes(attrs, weights_identity(recipe.backbone, recipe.weights, recipe.seed))
    changes += image_changes(Recorded.of(whole)._replace(rejects={}), listing).lines()
    refuse(parent.path, changes, f"Bring it up to date first: {attrs['command']}")
    way = f"Remove {out}: it is made again from {parent.path}."
    refuse(out, recipe_changes(open_stack(out).attrs, recipe.attrs()) if out.exists() else [], way)
    make_stacks([Job(out, recipe, Compute(batch=attrs["batch"]), f"{attrs['command']} --layer {layer}")])
    made = open_stack(out)
    same_rows = np.array_equal(made.field("sha256"), whole.field("sha256")) and np.array_equal(made.view, whole.view)
    refuse(out, [] if same_rows else [f"its images are no longer those of {parent.path}"], way)
    return out
