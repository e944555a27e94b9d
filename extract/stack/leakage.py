"""Train images that are in test too, byte for byte or nearly."""

from collections.abc import Collection

import numpy as np

from extract.stack.changes import Recorded
from features import Stack
from features.nearest import copy_groups, copy_threshold, nearest_of_all, unit_pieces
from features.open import open_rows_so_far
from features.runtime.errors import listed
from features.runtime.log import log
from features.schema import SPLITS
from features.writer import StackWriter

LEAKED = "the same image is in test: "  # how the reason of a train copy begins that --no-leakage left out
NEARLY = "nearly the same image is in test: "  # … that --no-leakage=near left out
NEAR = "near"  # --no-leakage=near: images that only look a little different are copies too
AMONG = 10  # nearest images, among which copies are looked for


def leaked(images: Recorded, without: Collection[str] = ()) -> dict[str, str]:
    """Train or validation image → the test image that has the very same bytes; `without` these paths."""
    test: dict[bytes, str] = {}
    rows = [i for i, path in enumerate(images.paths) if path not in without]
    for i in rows:
        if images.split[i] == SPLITS["test"]:
            test.setdefault(images.sha256[i].tobytes(), images.paths[i])
    copies = {images.paths[i]: test.get(images.sha256[i].tobytes()) for i in rows if images.split[i] != SPLITS["test"]}
    return {path: twin for path, twin in copies.items() if twin}


def copies_of_test(
    writer: StackWriter, split: np.ndarray, identity: np.ndarray, rejected: Collection[int]
) -> dict[int, str]:
    """Row → why it is left out, of train images that are in test too.

    Args:
        writer: of the rows.
        split: (rows,) uint8.
        identity: (rows, 32) uint8, equal for copies.
        rejected: rows that are left out already.
    """
    images, without = Recorded.of(writer)._replace(split=split[writer.view == 0]), {writer.paths[i] for i in rejected}
    nearly = leaked(images._replace(sha256=identity[writer.view == 0]), without)
    reasons = {path: NEARLY + twin for path, twin in nearly.items()}
    reasons |= {path: LEAKED + twin for path, twin in leaked(images, without).items()}
    return {row: reasons[path] for row, path in enumerate(writer.paths) if path in reasons}


def near_copies(writer: StackWriter) -> np.ndarray:
    """(rows,) int32 groups of near copies among the rows that are done, views with their image; −1 elsewhere."""
    done = open_rows_so_far(writer.partial)
    images = done.take(done.view == 0)
    units = np.concatenate(list(unit_pieces(images, "avg")))
    found = nearest_of_all(units, AMONG)
    groups = copy_groups(found, copy_threshold(found.cosines[:, 0]))
    of = {images.paths[row]: number for number, group in enumerate(groups) for row in group.tolist()}
    log.info(f"{len(of)} images are near copies, in {len(groups)} groups; none is divided")
    return np.array([of.get(path, -1) for path in writer.paths], "<i4")


def leakage_changes(stack: Stack, no_leakage: bool | str) -> list[str]:
    """A line each if train copies of test images are in a stack or left out of it, or near copies are grouped in it or
    not, unlike asked for."""
    if no_leakage:
        copies, told = list(leaked(Recorded.of(stack))), "in the stack, left out with --no-leakage"
    else:
        copies = [path for path, reason, *_ in stack.rejects if is_leak(reason)]
        told = "left out of the stack, kept without --no-leakage"
    lines = [f"{len(copies)} train copies of test images: {told}: {listed(copies)}"] if copies else []
    grouped, wanted = stack.copies is not None, no_leakage == NEAR
    if grouped != wanted:
        there, asked = ("grouped", "not asked for") if grouped else ("not grouped", "asked for")
        lines.append(f"near copies: {there} in the stack, {asked}; --no-leakage=near groups them")
    return lines


def is_leak(reason: str) -> bool:
    """Whether an image was left out because a copy of it is in test."""
    return reason.startswith((LEAKED, NEARLY))
