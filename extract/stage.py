"""Stage one: a dataset of images → one feature stack."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from extract.backbones import backbone_named
from extract.compute.local import Compute
from extract.images.dataset import Listing, scan
from extract.images.decode import FILTERS, RESIZES
from extract.images.views import AUGMENTS
from extract.network.base import weights_identity
from extract.network.engines import PRECISIONS
from extract.recipe import Recipe
from extract.result import Made
from extract.stack.changes import Recorded, image_changes, recipe_changes, refuse
from extract.stack.job import Job
from extract.stack.make import make_stack
from extract.stack.warnings import LEAKED, warnings_about
from features import Failed, Refused, Stack, open_stack
from features.check import images_of
from features.open import STACKS
from features.runtime.cli import command_line
from features.runtime.errors import listed
from features.runtime.log import log

DEVICES = ("auto", "cpu", "gpu")
CHOICES: dict[str, tuple[str, Collection[str]]] = {  # option → what its values are called, and all of them
    "device": ("device", DEVICES),
    "augment": ("augmentation", AUGMENTS),
    "precision": ("precision", PRECISIONS),
    "resize": ("resize", RESIZES),
    "filter": ("filter", FILTERS),
}


def extract(
    data: str = "digits",
    backbone: str = "vgg16",
    weights: str | None = None,
    layer: str | None = None,
    classes: int | None = None,
    columns: str | None = None,
    group: str | None = None,
    size: int | None = None,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "f32",
    batch: int | None = None,
    views: int = 0,
    augment: str = "photo",
    resize: str = "squash",
    filter: str = "bilinear",
    seed: int = 0,
    no_leakage: bool = False,
    max_bad: float = 1.0,
    dask: str | None = None,
    out: str | None = None,
) -> Made:
    """Pass every image through a frozen conv base once and write the flattened features to an HDF5 stack.

    A run that was killed goes on where it stopped. A stack that is up to date is left alone. Images that were added or
    changed cost only their own rows; moved images, and other labels or splits, cost none. Other weights or settings are
    refused, with a list of the differences. Without `out`, rows of the same images are taken from the other stacks in
    features/stacks, if these were made with the same settings.

    Args:
        data: folder with one folder of images a class, or with train/ and test/ folders of those, or in Food-101's
            layout, or of images alone; a .tar or .zip file of these; an array (x.npy, x.h5::dataset); a CSV manifest
            (path,label[,split][,group]); or the name of a dataset (digits, food101).
        backbone: the frozen conv base; python -m extract --list shows all.
        weights: imagenet (Keras downloads them once), a weights file, or random (seeded); by default imagenet, and for
            scattering, which has none to choose, its formula.
        layer: cut the base at this layer; by default its last, of scattering the deepest scale that fits the size.
        classes: take only this many classes, the first by name.
        columns: a manifest's columns by what they are for: path=filename,label=class, also split and group.
        group: the manifest's column whose equal values never come into both train and test.
        size: side of the square input in pixels; by default the backbone's own.
        device: auto, cpu or gpu.
        engine: auto, keras or openvino (CPUs only, the faster there); fixed once a stack is begun.
        precision: of the arithmetic: f32, bf16 or f16; rows are always stored as float32.
        batch: images a forward pass, halved where they don't fit; by default the engine's own, and from 2,000 images on
            the fastest by a short measurement. Fixed once a stack is begun.
        views: number of augmented views of each train image, stored as rows beside it.
        augment: how views are made: photo (crop, flip, small tilt, colour) or sources (rotation to 90°, darkening).
        resize: how an image becomes square: squash (stretch all of it), crop (take its middle), pad (put it on black).
        filter: resizes the pixels: bilinear, bicubic, lanczos or box, all antialiased.
        seed: seeds random weights, views, and the split if the dataset has none. Another split alone computes nothing.
        no_leakage: leave out train images that are in test too, byte for byte; else they are counted and listed.
        max_bad: percentage of images that may be unreadable; with more, the stack is finished but the command fails.
        dask: compute on a Dask cluster: a scheduler's address, or local:N for N processes here; this one writes.
        out: the stack to write; by default features/stacks/<dataset>-<backbone>….h5.

    Returns:
        the stack's path; its `table()` counts the images of each class, and a notebook shows that.

    Raises:
        Refused: an argument is unknown, or the stack that is there belongs to something else.
        Failed: disk, network, cluster or memory; or too many images could not be read.
    """
    command = command_line(["python", "-m", "extract"], extract, dict(locals()), positional=("data",))
    for name, value, least in (("batch", batch, 1), ("size", size, 1), ("views", views, 0), ("seed", seed, 0)):
        if value is not None and not least <= value < 2**32:
            raise Refused(f"--{name} {value}: give a number from {least} up")
    if not 0 <= max_bad <= 100:
        raise Refused(f"--max-bad {max_bad:g}: give a percentage from 0 to 100")
    _check_names(device=device, augment=augment, precision=precision, resize=resize, filter=filter)
    row = backbone_named(backbone)
    listing = scan(data, classes, columns, group)
    for line in listing.notes:
        log.info(f"note: {line}")
    recipe = Recipe(
        listing,
        row,
        weights or row.weights,
        layer or row.layer_at(size or row.size),
        size or row.size,
        seed,
        views=views,
        augment=augment,
        precision=precision,
        resize=resize,
        filter=filter,
    )
    place = Path(out) if out else STACKS / recipe.file_name
    compute = Compute(device, engine, batch, dask)
    stack = make_stack(Job(place, recipe, compute, command, no_leakage, takes_rows=not out))
    made = open_stack(stack)
    for line in warnings_about(Recorded.of(made)):
        log.warning(line)
    bad = [f"{path}: {reason}" for path, reason, *_ in made.rejects if not reason.startswith(LEAKED)]
    if len(bad) > max_bad / 100 * len(listing.paths):
        raise Failed(
            f"{len(bad)} of {len(listing.paths)} images could not be read, more than --max-bad {max_bad:g} %: "
            f"{listed(bad)}. {stack} is finished without them and lists them all in `rejects`."
        )
    return Made(stack)


def _check_names(**given: str) -> None:
    """Raise Refused for the first option whose value is no name in its table."""
    for option, name in given.items():
        kind, names = CHOICES[option]
        if name not in names:
            raise Refused(f"no {kind} is called {name!r}; there are {', '.join(names)}")


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
    make_stack(Job(out, recipe, Compute(batch=attrs["batch"]), f"{attrs['command']} --layer {layer}"))
    made = open_stack(out)
    same_rows = np.array_equal(made.field("sha256"), whole.field("sha256")) and np.array_equal(made.view, whole.view)
    refuse(out, [] if same_rows else [f"its images are no longer those of {parent.path}"], way)
    return out
