"""Stage one: a dataset of images → one feature stack."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from extract.augment import AUGMENTS
from extract.backbones import backbone_named
from extract.base import cut, load_base, weights_identity
from extract.dataset import Listing, scan
from extract.engines import PRECISIONS, choose_engine, cores, versions
from extract.forward import Forward, choose_device, compile_forward
from extract.image import FILTERS, RESIZES
from extract.pipeline import fill
from extract.recipe import Recipe
from extract.split import seeded_split
from extract.staleness import Recorded, image_changes, recipe_changes, refuse, start_again
from extract.update import begin_update, carry_over, settled_split
from features import Refused, Stack, open_stack
from features.cli import command_line
from features.layout import lay_out
from features.lock import writer_lock
from features.reader import STACKS
from features.writer import StackWriter, layout_path, partial_path, publish

DEVICES = ("auto", "cpu", "gpu")


def extract(
    data: str = "digits",
    backbone: str = "vgg16",
    weights: str | None = None,
    layer: str | None = None,
    classes: int | None = None,
    size: int | None = None,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "f32",
    batch: int = 32,
    views: int = 0,
    augment: str = "photo",
    resize: str = "squash",
    filter: str = "bilinear",
    seed: int = 0,
    out: str | None = None,
) -> Path:
    """Pass every image through a frozen conv base once and write the flattened features to an HDF5 stack.

    A run that was killed goes on where it stopped; a stack that is up to date is left alone; images that were added,
    changed or removed cost only their own rows; other weights or settings are refused with a list of what differs.

    Args:
        data: folder with one folder of images a class, or with train/ and test/ folders of those, or in Food-101's
            layout; a CSV manifest (path,label[,split]); or the name of a dataset (digits).
        backbone: the frozen conv base; python -m extract --list shows all.
        weights: imagenet (Keras downloads them once), a weights file, or random (seeded); by default imagenet, and for
            scattering, which has none to choose, its formula.
        layer: cut the base at this layer; by default its last.
        classes: take only the first so many classes by name.
        size: side of the square input in pixels; by default the backbone's own.
        device: auto, cpu or gpu.
        engine: auto, keras or openvino (CPUs only, the faster there); fixed once a stack is begun.
        precision: of the arithmetic, f32, bf16 or f16; rows are stored as float32 in any case.
        batch: images a forward pass, halved where they don't fit; fixed once a stack is begun.
        views: so many augmented views of each train image as rows beside it.
        augment: how views are made: photo (crop, flip, small tilt, colour) or sources (rotation to 90°, darkening).
        resize: what becomes the square input: squash (all of the image), crop (its middle), pad (all of it, on black).
        filter: that pixels are resized with: bilinear, bicubic, lanczos or box, all antialiased.
        seed: of random weights, of views, and of the split where the dataset has none.
        out: the stack to write; by default features/stacks/<dataset>-<backbone>….h5.

    Returns:
        the stack's path.

    Raises:
        Refused: an argument is unknown, or the stack that is there belongs to something else.
        Failed: disk, network or memory.
    """
    command = command_line(["python", "-m", "extract"], extract, dict(locals()), positional=("data",))
    for name, value, least in (("batch", batch, 1), ("size", size, 1), ("views", views, 0), ("seed", seed, 0)):
        if value is not None and not least <= value < 2**32:
            raise Refused(f"--{name} {value}: give a number from {least} up")
    for kind, name, names in (
        ("augmentation", augment, AUGMENTS),
        ("precision", precision, PRECISIONS),
        ("resize", resize, RESIZES),
        ("filter", filter, FILTERS),
    ):
        if name not in names:
            raise Refused(f"no {kind} is called {name!r}; there are {', '.join(names)}")
    row = backbone_named(backbone)
    listing = scan(data, classes)
    recipe = Recipe(
        listing,
        row,
        weights or row.weights,
        layer or row.layer,
        size or row.size,
        seed,
        views=views,
        augment=augment,
        precision=precision,
        resize=resize,
        filter=filter,
    )
    return _extract(Path(out) if out else STACKS / recipe.file_name, recipe, device, engine, batch, command)


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
    images = whole.take(whole.view == 0)
    listing = Listing(
        attrs["dataset"], Path(attrs["dataset_root"]), images.paths, images.y, images.label_names, images.split
    )
    recipe = Recipe(
        listing,
        backbone_named(attrs["backbone"]),
        attrs["weights_file"] or attrs["weights"],
        layer,
        attrs["input_size"],
        attrs["seed"],
        views=attrs.get("views", 0),
        augment=attrs.get("augment", "photo"),
        precision=attrs["precision"],
        resize=attrs["resize"],
        filter=attrs["resize_filter"],
    ).as_begun(attrs)
    changes = recipe_changes(attrs, weights_identity(recipe.backbone, recipe.weights, recipe.seed))
    refuse(parent.path, changes + image_changes(Recorded.of(whole)._replace(rejects={}), listing).lines())
    _extract(out, recipe, "auto", "auto", attrs["batch"], f"{attrs['command']} --layer {layer}")
    made = open_stack(out)
    same_rows = np.array_equal(made.field("sha256"), whole.field("sha256")) and np.array_equal(made.view, whole.view)
    refuse(out, [] if same_rows else [f"its images are no longer those of {parent.path}"])
    return out


def _extract(stack: Path, recipe: Recipe, device: str, engine: str, batch: int, command: str) -> Path:
    wanted, listing = recipe.attrs(), recipe.listing
    made_now = {
        "dataset": listing.name,
        "dataset_root": str(listing.root),
        "versions": json.dumps(versions()),
        "command": command,
    }
    with writer_lock(stack):
        finished, replaced = open_stack(stack) if stack.exists() else None, []
        if finished is not None:
            recipe, wanted["decode"] = recipe.as_begun(finished.attrs), finished.attrs.get("decode")
            changes = image_changes(Recorded.of(finished), listing)
            refuse(stack, recipe_changes(finished.attrs, wanted) + changes.refused().lines())
            if not changes.lines():
                partial_path(stack).unlink(missing_ok=True)  # left by a kill between the last rename and its removal
                print(f"{stack} is up to date, nothing to do", file=sys.stderr)
                return stack
            print(f"{stack}: {'; '.join(changes.lines())}", file=sys.stderr)
            begin_update(finished, recipe, _there(wanted) | made_now)
            replaced = changes.changed
        begun = partial_path(stack).exists()
        if begun:
            with StackWriter(stack) as writer:
                recipe, wanted["decode"] = recipe.as_begun(writer.attrs), writer.attrs.get("decode")
                changes = image_changes(Recorded.of(writer), listing)
                refuse(writer.partial, recipe_changes(writer.attrs, wanted) + changes._replace(changed=[]).lines())
                writer.forget(changes.changed)
                batch, device = int(writer.attrs["batch"]), str(writer.attrs["device"])
                if engine == "auto":
                    engine = str(writer.attrs["engine"]).split()[0]
                good = writer.check()
                if finished is not None:
                    print(f"{carry_over(writer, finished, replaced)} rows were carried over", file=sys.stderr)
                    good = writer.check()
                    if good.all():  # images only went: the network isn't needed
                        return _finish(writer, recipe, {}, finished)
        device = choose_device(device)
        chosen, why = choose_engine(engine, device, recipe.precision)
        base, weights_sha256 = load_base(recipe.backbone, recipe.weights, recipe.size, recipe.seed)
        base = cut(base, recipe.layer)
        forward, batch = compile_forward(base, recipe.backbone, batch, device, chosen.name, recipe.precision)
        if engine == "auto":
            print(f"engine: {chosen.recorded} ({why})", file=sys.stderr)
        if not begun:
            named = recipe.weights in ("imagenet", "random", "formula")
            made_by = {
                "weights": Path(recipe.weights).name,
                "weights_file": "" if named else str(Path(recipe.weights).resolve()),
                "weights_sha256": weights_sha256,
                "engine": chosen.recorded,
                "device": device,
                "batch": batch,
                "seed": recipe.seed,
            }
            attrs = _there(wanted) | made_by | made_now
            lay_out(layout_path(stack), recipe.rows({}), listing.label_names, base.output_shape[1:], attrs)
            publish(layout_path(stack), partial_path(stack))
        with StackWriter(stack) as writer:
            if writer.attrs["weights_sha256"] != weights_sha256:
                raise Refused(f"{writer.partial} was begun with other weights: {start_again(writer.partial)}")
            # Another engine or batch, halved for want of memory, could give the rest of the rows other last bits.
            refuse(writer.partial, recipe_changes(writer.attrs, {"engine": chosen.recorded, "batch": batch}))
            return _finish(writer, recipe, _compute(writer, recipe, forward), finished)


def _compute(writer: StackWriter, recipe: Recipe, forward: Forward) -> dict[int, str]:
    """Compute the rows that are still missing; returns row → reason, of the rows rejected."""
    good = writer.check()
    missing = np.flatnonzero(~good)
    if len(missing) < len(good):
        print(f"resuming {writer.partial}: {int(good.sum())} of {len(good)} rows are done", file=sys.stderr)
    blocks = [missing[i : i + forward.batch] for i in range(0, len(missing), forward.batch)]
    began = time.perf_counter()
    with tqdm(total=len(good), initial=int(good.sum()), unit="images", disable=None, dynamic_ncols=True) as bar:
        reasons = fill(writer, recipe, blocks, forward, cores(), bar.update, forward.lanes)
    seconds = time.perf_counter() - began
    print(f"{len(missing)} rows in {seconds:.1f} s ({len(missing) / seconds:.1f} images/s)", file=sys.stderr)
    return reasons


def _finish(writer: StackWriter, recipe: Recipe, reasons: dict[int, str], before: Stack | None) -> Path:
    """Give the rows their split, that of the stack before where they have one, and the file its name."""
    split = writer.split
    if recipe.listing.split is None and not recipe.views:
        read = writer.sha256.any(axis=1)
        split = np.zeros(len(read), "u1")
        split[read] = seeded_split(writer.labels[read], writer.sha256[read], recipe.seed, settled=settled_split(before))
    return writer.finish(split, reasons)


def _there(attrs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attrs.items() if value is not None}
