"""Update a finished stack whose images changed: begin a second file, and carry over the rows that are still valid.

Contiguous datasets cannot grow or shrink. The finished stack stays as it is, and readable, until the second file is
complete and takes its name. A run that was killed in between goes on like any other.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from extract.images.dataset import Listing
from extract.recipe import Recipe
from features import Stack
from features.layout import lay_out, layout_path, partial_path
from features.runtime.disk import publish
from features.schema import STATES, row_crc32
from features.writer import StackWriter, consecutive

STAYS = ("weights", "weights_file", "weights_sha256", "engine", "device", "batch", "seed")  # as in the old file


def known_splits(finished: Stack | None) -> dict[bytes, int]:
    """SHA-256 → split of every image of a stack, so that an image keeps its split, also under another name."""
    if finished is None:
        return {}
    images = finished.take(finished.view == 0)
    digests = (digest.tobytes() for digest in images.field("sha256"))
    return dict(zip(digests, images.split.tolist(), strict=True))


def listing_as_begun(stack: Path, now: Listing) -> Listing:
    """The images that a first run was begun with, although some were added or removed since.

    Its rows are worth keeping: the run is finished with these images, and then brought up to date. The caller holds
    `writer_lock(stack)`.
    """
    with StackWriter(stack) as writer:
        images = np.flatnonzero(writer.view == 0)
        paths = [writer.paths[i] for i in images]
        split = None if now.split is None else writer.split[images]
        return Listing(now.name, now.root, paths, writer.labels[images], writer.label_names, split, now.nameless)


def begin_update(finished: Stack, recipe: Recipe, attrs: Mapping[str, Any]) -> None:
    """Lay out the second file, every row empty, in place of whatever a killed run left there.

    Args:
        finished: the stack, made with the same recipe.
        recipe: what the second file is made from now.
        attrs: root attributes beside those in `STAYS`.
    """
    partial_path(finished.path).unlink(missing_ok=True)
    kept = {name: finished.attrs[name] for name in STAYS if name in finished.attrs}
    rows = recipe.rows(known_splits(finished))
    target = layout_path(finished.path)
    lay_out(target, rows, recipe.listing.label_names, finished.feature_shape, {**kept, **attrs})
    publish(target, partial_path(finished.path))


def carry_over(writer: StackWriter, finished: Stack, changed: list[str]) -> int:
    """Write the rows of a finished stack into the empty rows of the same images.

    A row that does not fit its CRC is left to be computed again.

    Args:
        writer: of the second file.
        finished: the stack.
        changed: paths whose images are no longer those of the stack.

    Returns:
        how many rows were carried.
    """
    at = {row: i for i, row in enumerate(zip(finished.paths, finished.view.tolist(), strict=True))}
    for path in changed:
        for view in range(int(finished.view.max()) + 1):
            at.pop((path, view), None)
    source = np.array([at.get(row, -1) for row in zip(writer.paths, writer.view.tolist(), strict=True)])
    places = np.flatnonzero((source >= 0) & (writer.row_state != STATES["done"]))
    rows = finished.take(source[places])
    stats = {name: rows.field(name) for name in ("sha256", "size", "mtime_ns")}  # as they were when the row was made
    crc, done, count = rows.field("row_crc32"), 0, 0
    seconds = 0.0 if writer.extract_seconds else finished.extract_seconds
    for piece in rows.chunks():
        here = slice(done, done + len(piece))
        good = row_crc32(piece, rows.y[here], stats["sha256"][here], rows.view[here]) == crc[here]
        for run in consecutive(places[here][good]):
            which = np.flatnonzero(good)[run]
            part = {name: values[here][which] for name, values in stats.items()}
            writer.write(int(places[here][which[0]]), piece[which], part, np.zeros(len(which), bool), seconds)
            seconds = 0.0
        count, done = count + int(good.sum()), done + len(piece)
    return count
