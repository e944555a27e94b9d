"""A finished stack whose images changed: a second file is begun, and the rows that still hold are carried into it.

Contiguous datasets cannot grow or shrink. The finished stack stays as it is, and readable, until the second file is
complete and takes its name. A run that was killed in between goes on like any other.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from extract.images.dataset import Listing
from extract.recipe import Recipe
from extract.stack.changes import Recorded, image_changes, recipe_changes
from features import Stack
from features.layout import lay_out, layout_path, partial_path
from features.runtime.disk import publish
from features.schema import STATES, row_crc32
from features.writer import StackWriter, consecutive

STAYS = ("weights", "weights_file", "weights_sha256", "engine", "device", "batch", "seed")  # as in the old file


def settled_split(finished: Stack | None) -> dict[bytes, int]:
    """SHA-256 → split of every image of a stack: what was train or test stays that, also under another name."""
    if finished is None:
        return {}
    images = finished.take(finished.view == 0)
    digests = (digest.tobytes() for digest in images.field("sha256"))
    return dict(zip(digests, images.split.tolist(), strict=True))


def listing_as_begun(stack: Path, recipe: Recipe) -> Listing | None:
    """The images of a first run that was broken off, where others came or some went since; else None.

    Its rows are worth keeping: it is finished with the images that it was begun with, and brought up to date then.
    The caller holds `writer_lock(stack)`.
    """
    if stack.exists() or not partial_path(stack).exists():
        return None
    now = recipe.listing
    with StackWriter(stack) as writer:
        changes = image_changes(Recorded.of(writer), now)
        others = changes.refused().lines() + recipe_changes(writer.attrs, recipe.as_begun(writer.attrs).attrs())
        images = np.flatnonzero(writer.view == 0)
        paths = [writer.paths[i] for i in images]
        if others or not (changes.added or changes.removed) or set(paths) == set(changes.removed):
            return None
        split = None if now.split is None else writer.split[images]
        print(f"{writer.partial}: {'; '.join(changes.lines())}; what was begun is finished first", file=sys.stderr)
        return Listing(now.name, now.root, paths, writer.labels[images], writer.label_names, split, now.nameless)


def begin_update(finished: Stack, recipe: Recipe, attrs: Mapping[str, Any]) -> None:
    """Lay out the second file, every row empty, unless a killed run left just that one.

    Args:
        finished: the stack that is there, of the same recipe.
        recipe: what it is to be made of now.
        attrs: root attributes beside those in `STAYS`.
    """
    partial = partial_path(finished.path)
    if partial.exists():
        with StackWriter(finished.path) as writer:
            images = image_changes(Recorded.of(writer), recipe.listing)._replace(changed=[])
            if not images.lines() + recipe_changes(writer.attrs, recipe.attrs()):
                return
        partial.unlink()
    kept = {name: finished.attrs[name] for name in STAYS if name in finished.attrs}
    rows = recipe.rows(settled_split(finished))
    target = layout_path(finished.path)
    lay_out(target, rows, recipe.listing.label_names, finished.feature_shape, {**kept, **attrs})
    publish(target, partial)


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
