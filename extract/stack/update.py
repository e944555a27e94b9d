"""Lay out another file for a stack whose images, labels or splits change, and carry over the rows that stay valid.

Contiguous datasets cannot grow or shrink. The finished stack stays as it is, and readable, until the second file is
complete and takes its name. A run that was killed in between goes on like any other.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from extract.stack.job import Job
from extract.stack.plan import Source
from features import Stack
from features.layout import aside_path, lay_out, layout_path, partial_path
from features.open import open_rows_so_far
from features.runtime.disk import publish
from features.schema import STATES, UNLABELLED, row_crc32
from features.writer import StackWriter, consecutive

STAYS = ("weights", "weights_file", "weights_sha256", "engine", "device", "batch", "layers", "seed")  # as in the source


def known_splits(source: Stack) -> dict[bytes, int]:
    """SHA-256 → split of every labelled image of a stack, so that it keeps its split, also under another name.

    An unlabelled image gets its split with its label.
    """
    images = source.take((source.view == 0) & (source.y != UNLABELLED))
    digests = (digest.tobytes() for digest in images.field("sha256"))
    return dict(zip(digests, images.split.tolist(), strict=True))


def set_aside(stack: Path) -> None:
    """Set a begun file aside: its images are no longer those of the dataset, but rows of it are worth keeping.

    The caller holds `writer_lock(stack)`. If another file was set aside before, its rows move into this one first.
    """
    aside = aside_path(stack)
    if aside.exists():
        with StackWriter(stack) as writer:
            carry_over(writer, open_rows_so_far(aside), Source(aside))
    partial_path(stack).replace(aside)


def begin_update(job: Job, source: Stack, known: Mapping[bytes, int], changes: Mapping[str, int]) -> None:
    """Lay out the second file, every row empty, in place of whatever a killed run left there.

    Args:
        job: what is asked for.
        source: the stack that rows will be carried over from, made with the same settings.
        known: SHA-256 → split of images that keep theirs.
        changes: kind of change → number of images, since the file of this name was finished; they are recorded.
    """
    partial, target, recipe = partial_path(job.stack), layout_path(job.stack), job.recipe
    partial.unlink(missing_ok=True)
    attrs = {name: source.attrs[name] for name in STAYS if name in source.attrs} | job.attributes()
    if changes:
        before = json.loads(source.attrs.get("updates", "{}"))
        attrs["updates"] = json.dumps(before | {kind: before.get(kind, 0) + n for kind, n in changes.items()})
    listing = recipe.listing
    lay_out(target, job.rows(known), listing.label_names, source.feature_shape, attrs, corrections=listing.corrected)
    publish(target, partial)


def carry_over(writer: StackWriter, stack: Stack, source: Source) -> int:
    """Write the rows of a stack into the empty rows of the same images.

    A row that does not fit its CRC is left to be computed again.

    Args:
        writer: of the second file.
        stack: the stack, opened.
        source: the same, and which of its images changed or moved since.

    Returns:
        how many rows were carried.
    """
    at = {row: i for i, row in enumerate(zip(stack.paths, stack.view.tolist(), strict=True))}
    was = dict.fromkeys(source.not_carried, "") | {path: moved.was for path, moved in source.moved.items()}
    wanted = ((was.get(path, path), view) for path, view in zip(writer.paths, writer.view.tolist(), strict=True))
    found = np.array([at.get(row, -1) for row in wanted])
    places = np.flatnonzero((found >= 0) & (writer.row_state != STATES["done"]))
    rows = stack.take(found[places])
    stats = {name: rows.field(name) for name in ("sha256", "size", "mtime_ns")}  # as they were when the row was made
    for i, place in enumerate(places):
        if moved := source.moved.get(writer.paths[place]):
            stats["size"][i], stats["mtime_ns"][i] = moved.size, moved.mtime_ns
    crc, done, count = rows.field("row_crc32"), 0, 0
    share = 1.0 if writer.stack == stack.path else len(rows) / max(1, len(stack))  # of another dataset's stack
    seconds = 0.0 if writer.extract_seconds else stack.extract_seconds * share
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
