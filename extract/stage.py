"""Stage one: a dataset of images → one feature stack."""

import inspect
import math
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from extract.backbones import Backbone, backbone_named
from extract.compute.local import Compute
from extract.images.corrections import Corrections
from extract.images.dataset import scan
from extract.images.decode import FILTERS, RESIZES
from extract.images.shard import shard_of
from extract.images.views import AUGMENTS
from extract.model_file import ModelFile, is_model_file, saved_model
from extract.network.engines import PRECISIONS
from extract.recipe import Recipe
from extract.result import Made
from extract.stack.changes import Recorded
from extract.stack.job import Job
from extract.stack.leakage import NEAR, is_leak
from extract.stack.make import make_stacks
from extract.stack.warnings import warnings_about
from features import Failed, Refused, open_stack
from features.open import STACKS
from features.runtime.cli import command_line
from features.runtime.errors import at_least, listed
from features.runtime.log import log
from features.schema import POOLINGS, STORES

DEVICES = ("auto", "cpu", "gpu")
CHOICES: dict[str, tuple[str, Collection[str]]] = {  # option → what its values are called, and all of them
    "device": ("device", DEVICES),
    "augment": ("augmentation", AUGMENTS),
    "precision": ("precision", PRECISIONS),
    "resize": ("resize", RESIZES),
    "filter": ("filter", FILTERS),
    "pool": ("pooling", POOLINGS),
    "store": ("type of stored rows", STORES),
}


def extract(
    data: str = "digits",
    backbone: str | Any = "vgg16",
    weights: str | None = None,
    layer: str | None = None,
    classes: int | None = None,
    columns: str | None = None,
    group: str | None = None,
    corrections: str | None = None,
    new_classes: bool = False,
    shard: str | None = None,
    size: int | None = None,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "f32",
    batch: int | None = None,
    views: int = 0,
    augment: str = "photo",
    resize: str | None = None,
    filter: str | None = None,
    page: int = 1,
    white: float | None = None,
    preprocess: str | None = None,
    axes: str | None = None,
    pool: str | None = None,
    store: str = "f32",
    seed: int = 0,
    no_leakage: bool | Literal["near"] = False,
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
        backbone: the frozen conv base; python -m extract --list shows all. Or a model of your own: an .onnx or .keras
            file, a folder as model hubs publish it, or in Python a Keras model.
        weights: imagenet (Keras downloads them once), a weights file, or random (seeded); by default imagenet.
            scattering and models of your own have none to choose.
        layer: cut the base at this layer; by default its last, of scattering the deepest scale that fits the size, of
            an ONNX file its first output. python -m extract --layers shows a model's.
            On the command line several make a stack each, in one pass over the images (`extract_layers`).
        classes: take only this many classes, the first by name.
        columns: a manifest's columns by what they are for: path=filename,label=class, also split and group.
        group: the manifest's column whose equal values never come into both train and test.
        corrections: a CSV file (path,label,reason) of labels to correct and images to leave out (label -), as the page
            of `classify audit` saves it; nothing is computed again. The file is the whole list: what it lacks is as in
            the dataset.
        new_classes: let corrections make classes that the dataset lacks.
        shard: take only one part of N, as I/N: images are dealt by a hash of their paths (of their groups, if they have
            any). classify takes all parts together.
        size: side of the square input in pixels; by default the backbone's own.
        device: auto, cpu or gpu.
        engine: auto, keras, openvino (CPUs only, the faster there) or onnxruntime (ONNX files only); fixed once a stack
            is begun.
        precision: of the arithmetic: f32, bf16 or f16; rows are always stored as float32.
        batch: images a forward pass, halved where they don't fit; by default the engine's own, and from 2,000 images on
            the fastest by a short measurement. Fixed once a stack is begun.
        views: number of augmented views of each train image, stored as rows beside it.
        augment: how views are made: photo (crop, flip, small tilt, colour) or sources (rotation to 90°, darkening).
        resize: how an image becomes square: squash (stretch all of it), crop (take its middle), pad (put it on black);
            by default squash, and for a model of your own what its preprocessing says.
        filter: resizes the pixels: bilinear, bicubic, lanczos, box or hamming, all antialiased, or nearest; by default
            bilinear, or so too.
        page: of files with several pages or frames (TIFF, GIF, WebP), which one; other files are taken as they are.
        white: the value that is white in greys of more than 8 bits, 4095 for a camera of 12 bits; by default what the
            file's header says. Brighter values are white too, and counted.
        preprocess: how a model of your own wants its images, where no preprocessor_config.json lies beside it:
            imagenet, tf, caffe, clip, siglip or none, or settings: mean=… std=… size=… crop=… filter=… scale=… order=….
        axes: which axis is channels, where an ONNX file's graph does not say it: nchw or nhwc for its image, and
            TENSOR=nchw, nhwc, nct or ntc for a map or tokens; several with commas.
        pool: store each row pooled over all positions, avg or max, or its class token, cls; by default all of it.
        store: type of the stored rows: f32, or f16, half as large and rounded to eleven binary digits.
        seed: seeds random weights, views, and the split if the dataset has none. Another split alone computes nothing.
        no_leakage: leave out train images that are in test too, byte for byte; else they are counted and listed. near:
            near copies too, such as crops and mirrored ones; they are grouped, and no split or fold divides them.
        max_bad: percentage of images that may be unreadable; with more, the stack is finished but the command fails.
        dask: compute on a Dask cluster: a scheduler's address, or local:N for N processes here; this one writes.
        out: the stack to write; by default features/stacks/<dataset>-<backbone>….h5. Of several layers the folder.

    Returns:
        the stack's path; its `table()` counts the images of each class, and a notebook shows that.

    Raises:
        Refused: an argument is unknown, or the stack that is there belongs to something else.
        Failed: disk, network, cluster or memory; or too many images could not be read.
    """
    return _extract(dict(locals()), [layer] if layer else [])[0]


def extract_layers(layers: list[str], **settings: Any) -> list[Made]:
    """Write a stack for each of several layers, from one pass over the images. Each can be gone on with by itself.

    Args:
        layers: where the base is cut.
        settings: as `extract` takes them, without `layer`; `out` is the folder to write into.

    Returns:
        the stacks' paths, in the order of the layers.

    Raises:
        Refused, Failed: see `extract`.
    """
    given = inspect.signature(extract).bind(**settings, layer=layers)
    given.apply_defaults()
    return _extract(given.arguments, layers)


def _extract(given: dict[str, Any], layers: list[str]) -> list[Made]:
    given["backbone"] = saved_model(given["backbone"])
    asked = SimpleNamespace(**given)
    command = command_line(["python", "-m", "extract"], extract, given, positional=("data",))
    for name, least in (("batch", 1), ("size", 1), ("views", 0), ("seed", 0), ("page", 1)):
        at_least(least, **{name: given[name]})
    if asked.white is not None and not 0 < asked.white < math.inf:
        raise Refused(f"--white {asked.white:g}: give the value that is white, a number above 0")
    if not 0 <= asked.max_bad <= 100:
        raise Refused(f"--max-bad {asked.max_bad:g}: give a percentage from 0 to 100")
    _check_names(**{option: given[option] for option in CHOICES if given[option] is not None})
    row = _backbone(asked)
    if asked.new_classes and not asked.corrections:
        raise Refused("--new-classes is for --corrections FILE, and none is given")
    if asked.no_leakage not in (True, False, NEAR):
        raise Refused(f"no leakage is called {asked.no_leakage!r}; there are True and {NEAR!r}")
    corrections = Corrections.read(asked.corrections, asked.new_classes) if asked.corrections else None
    listing = scan(asked.data, asked.classes, asked.columns, asked.group, corrections)
    if asked.shard:
        listing = shard_of(listing, asked.shard)
    for line in listing.notes:
        log.info(f"note: {line}")
    size = asked.size or row.size
    how = {name: given[name] for name in ("views", "augment", "precision", "store", "page", "white")}
    how["white"] = int(asked.white) if asked.white and float(asked.white).is_integer() else asked.white
    how |= {"resize": asked.resize or row.resize, "filter": asked.filter or row.filter}
    how["pool"] = asked.pool or ""
    compute = Compute(asked.device, asked.engine, asked.batch, asked.dask)
    jobs = []
    for layer in dict.fromkeys(layers) or [row.layer_at(size)]:
        recipe = Recipe(listing, row, asked.weights or row.weights, layer, size, asked.seed, **how)
        place = Path(asked.out or STACKS / recipe.file_name)
        if asked.out and len(layers) > 1:
            place /= recipe.file_name
        jobs.append(Job(place, recipe, compute, command, asked.no_leakage, takes_rows=not asked.out))
    stacks = make_stacks(jobs)
    for line in warnings_about(Recorded.of(open_stack(stacks[0]))):
        log.warning(line)
    for stack in stacks:
        _check_rejects(stack, asked.max_bad, len(listing.paths))
    return [Made(stack) for stack in stacks]


def _backbone(asked: SimpleNamespace) -> Backbone | ModelFile:
    """The backbone by its name, or the model at a path."""
    if is_model_file(asked.backbone):
        if asked.weights:
            raise Refused(f"--weights {asked.weights}: a model file holds its own")
        model = ModelFile.at(Path(asked.backbone), asked.preprocess, asked.size, asked.axes)
        if model.is_quantised and asked.precision != "f32":
            raise Refused(f"--precision {asked.precision}: {model.file} is quantised, and is computed as it is")
        return model
    if asked.preprocess:
        raise Refused(f"--preprocess is for models of your own: {asked.backbone} has its own preprocessing")
    if asked.axes:
        raise Refused(f"--axes is for models of your own, and {asked.backbone} is none")
    return backbone_named(asked.backbone)


def _check_rejects(stack: Path, most: float, images: int) -> None:
    """Raise Failed where more than `most` percent of the images could not be read."""
    made = open_stack(stack)
    bad = [f"{path}: {reason}" for path, reason, *_ in made.rejects if not is_leak(reason)]
    if len(bad) > most / 100 * images:
        raise Failed(
            f"{len(bad)} of {images} images could not be read, more than --max-bad {most:g} %: "
            f"{listed(bad)}. {stack} is finished without them and lists them all in `rejects`."
        )


def _check_names(**given: str) -> None:
    """Raise Refused for the first option whose value is no name in its table."""
    for option, name in given.items():
        kind, names = CHOICES[option]
        if name not in names:
            raise Refused(f"no {kind} is called {name!r}; there are {', '.join(names)}")
