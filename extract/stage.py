"""Stage one: a dataset of images → one feature stack."""

import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from extract.backbones import Backbone, backbone_named
from extract.base import cut, import_keras, load_base, weights_identity
from extract.dataset import Listing, scan
from extract.forward import Forward, choose_device, compile_forward
from extract.pipeline import fill
from extract.split import seeded_split
from extract.staleness import Recorded, image_changes, recipe_changes
from features import Refused, Stack, open_stack
from features.cli import command_line
from features.layout import lay_out
from features.lock import writer_lock
from features.reader import STACKS
from features.schema import STATES
from features.writer import StackWriter, layout_path, partial_path, publish

DEVICES = ("auto", "cpu", "gpu")


def extract(
    data: str = "digits",
    backbone: str = "vgg16",
    weights: str = "imagenet",
    layer: str | None = None,
    classes: int | None = None,
    size: int | None = None,
    device: str = "auto",
    batch: int = 32,
    seed: int = 0,
    out: str | None = None,
) -> Path:
    """Pass every image through a frozen conv base once and write the flattened features to an HDF5 stack.

    A run that was killed goes on where it stopped; a stack that is up to date is left alone; one that was made from
    other images, weights or settings is refused with a list of what differs.

    Args:
        data: folder with one folder of images a class, or with train/ and test/ folders of those, or in Food-101's
            layout; a CSV manifest (path,label[,split]); or the name of a dataset (digits).
        backbone: the frozen conv base; python -m extract --list shows all.
        weights: imagenet (Keras downloads them once), a weights file, or random (seeded).
        layer: cut the base at this layer; by default its last.
        classes: take only the first so many classes by name.
        size: side of the square input in pixels; by default the backbone's own.
        device: auto, cpu or gpu.
        batch: images a forward pass, halved where they don't fit; fixed once a stack is begun.
        seed: of random weights, and of the split where the dataset has none.
        out: the stack to write; by default features/stacks/<dataset>-<backbone>….h5.

    Returns:
        the stack's path.

    Raises:
        Refused: an argument is unknown, or the stack that is there belongs to something else.
        Failed: disk, network or memory.
    """
    command = command_line(["python", "-m", "extract"], extract, dict(locals()), positional=("data",))
    for name, value, least in (("batch", batch, 1), ("size", size, 1), ("seed", seed, 0)):
        if value is not None and not least <= value < 2**32:
            raise Refused(f"--{name} {value}: give a number from {least} up")
    row = backbone_named(backbone)
    listing = scan(data, classes)
    stack = Path(out) if out else STACKS / _file_name(listing.name, row, weights, layer, classes, size)
    return _extract(stack, listing, row, weights, layer or row.layer, size or row.size, device, batch, seed, command)


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
    row = backbone_named(attrs["backbone"])
    weights = attrs["weights_file"] or attrs["weights"]
    listing = Listing(
        attrs["dataset"], Path(attrs["dataset_root"]), whole.paths, whole.y, whole.label_names, whole.split
    )
    changes = recipe_changes(attrs, weights_identity(row, weights, attrs["seed"]))
    _refuse(parent.path, changes + image_changes(Recorded.of(whole)._replace(rejects={}), listing).lines())
    size, batch = attrs["input_size"], attrs["batch"]
    _extract(
        out, listing, row, weights, layer, size, "auto", batch, attrs["seed"], attrs["command"] + f" --layer {layer}"
    )
    same_rows = np.array_equal(open_stack(out).field("sha256"), whole.field("sha256"))
    _refuse(out, [] if same_rows else [f"its images are no longer those of {parent.path}"])
    return out


def _extract(
    stack: Path,
    listing: Listing,
    row: Backbone,
    weights: str,
    layer: str,
    size: int,
    device: str,
    batch: int,
    seed: int,
    command: str,
) -> Path:
    wanted = {
        "backbone": row.name,
        "layer": layer,
        "preprocessing": row.preprocessing,
        "input_size": size,
        "resize": "squash",
        "resize_filter": "bilinear",
        "dtype": "float32",
        "precision": "f32",
        **weights_identity(row, weights, seed),
    }
    if listing.split is None:
        wanted["seed"] = seed
    with writer_lock(stack):
        if stack.exists():
            finished = open_stack(stack)
            changes = image_changes(Recorded.of(finished), listing)
            _refuse(stack, recipe_changes(finished.attrs, wanted) + changes.lines())
            partial_path(stack).unlink(missing_ok=True)  # left by a kill between the last rename and its removal
            print(f"{stack} is up to date, nothing to do", file=sys.stderr)
            return stack
        begun = partial_path(stack).exists()
        if begun:
            with StackWriter(stack) as writer:
                changes = image_changes(Recorded.of(writer), listing)
                _refuse(writer.partial, recipe_changes(writer.attrs, wanted) + changes._replace(changed=[]).lines())
                writer.forget(changes.changed)
                batch, device = int(writer.attrs["batch"]), str(writer.attrs["device"])
        device = choose_device(device)
        base, weights_sha256 = load_base(row, weights, size, seed)
        base = cut(base, layer)
        forward, batch = compile_forward(base, row, batch, device)
        engine = f"keras on {import_keras().backend.backend()}"
        if not begun:
            attrs = wanted | {
                "weights": weights if weights in ("imagenet", "random") else Path(weights).name,
                "weights_file": "" if weights in ("imagenet", "random") else str(Path(weights).resolve()),
                "weights_sha256": weights_sha256,
                "engine": engine,
                "device": device,
                "batch": batch,
                "seed": seed,
                "dataset": listing.name,
                "dataset_root": str(listing.root),
                "versions": json.dumps(_versions()),
                "command": command,
            }
            _lay_out(stack, listing, base.output_shape[1:], attrs)
        with StackWriter(stack) as writer:
            if writer.attrs["weights_sha256"] != weights_sha256:
                raise Refused(f"{writer.partial} was begun with other weights: {_start_again(writer.partial)}")
            # Another engine or batch, halved for want of memory, could give the rest of the rows other last bits.
            _refuse(writer.partial, recipe_changes(writer.attrs, {"engine": engine, "batch": batch}))
            return _complete(writer, listing, forward, batch, size, seed)


def _complete(writer: StackWriter, listing: Listing, forward: Forward, batch: int, side: int, seed: int) -> Path:
    """Compute the rows that are still missing, and finish the stack."""
    good = writer.check()
    starts = [start for start in range(0, len(good), batch) if not good[start : start + batch].all()]
    pending = sum(len(good[start : start + batch]) for start in starts)
    if pending < len(good):
        print(f"resuming {writer.partial}: {len(good) - pending} of {len(good)} rows are done", file=sys.stderr)
    began = time.perf_counter()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with tqdm(total=len(good), initial=len(good) - pending, unit="images", disable=None, dynamic_ncols=True) as bar:
        reasons = fill(writer, listing.root, starts, forward, batch, side, cores, bar.update)
    seconds = time.perf_counter() - began
    split = listing.split
    if split is None:
        done = writer.row_state == STATES["done"]
        split = np.zeros(len(done), "u1")
        split[done] = seeded_split(writer.labels[done], writer.sha256[done], seed)
    stack = writer.finish(split, reasons)
    print(f"{pending} rows in {seconds:.1f} s ({pending / seconds:.1f} images/s)", file=sys.stderr)
    return stack


def _lay_out(stack: Path, listing: Listing, feature_shape: tuple[int, ...], attrs: dict[str, Any]) -> None:
    size, mtime_ns = listing.stats()
    rows = {
        "paths": listing.paths,
        "labels": listing.labels,
        "view": np.zeros(len(listing.paths), "i4"),
        "size": size,
        "mtime_ns": mtime_ns,
    }
    if listing.split is not None:
        rows["split"] = listing.split
    lay_out(layout_path(stack), rows, listing.label_names, feature_shape, attrs)
    publish(layout_path(stack), partial_path(stack))


def _refuse(path: Path, changes: list[str]) -> None:
    if changes:
        raise Refused(f"{path} was made from something else:\n  " + "\n  ".join(changes) + f"\n{_start_again(path)}")


def _start_again(path: Path) -> str:
    return f"Remove {path} to start again, or have python -m extract write elsewhere with --out FILE."


def _file_name(
    dataset: str, row: Backbone, weights: str, layer: str | None, classes: int | None, size: int | None
) -> str:
    """`<dataset>-<backbone>.h5`, with whatever departs from the defaults in between."""
    parts = [
        dataset,
        f"{classes}classes" if classes else "",
        row.name,
        "" if weights == "imagenet" else Path(weights).name.split(".")[0],
        layer or "",
        f"{size}px" if size else "",
    ]
    return "-".join(part for part in parts if part) + ".h5"


def _versions() -> dict[str, str]:
    names = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "h5py", "pillow")
    installed = {dist.metadata["Name"].lower().replace("_", "-"): dist.version for dist in metadata.distributions()}
    return {"python": sys.version.split()[0]} | {name: installed[name] for name in names if name in installed}
