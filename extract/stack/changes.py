"""Decide whether a stack on disk is the one that is asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from extract.images.dataset import Listing
from extract.images.decode import HEIC, is_readable
from features import Refused, Stack
from features.check import file_sha256
from features.runtime.errors import listed
from features.schema import plain
from features.writer import StackWriter


class Recorded(NamedTuple):
    """The images in a stack: (images,) each, `sha256` (images, 32), zero where no image was read yet."""

    paths: list[str]
    label_names: list[str]
    labels: np.ndarray
    split: np.ndarray
    size: np.ndarray
    mtime_ns: np.ndarray
    sha256: np.ndarray
    rejects: Mapping[str, tuple[str, int, int]]  # path → why it was rejected, and its size and mtime_ns

    @classmethod
    def of(cls, stack: Stack | StackWriter) -> "Recorded":
        names = ("labels", "split", "size", "mtime_ns", "sha256")
        if isinstance(stack, StackWriter):
            images = np.flatnonzero(stack.view == 0)
            fields = {name: getattr(stack, name)[images] for name in names}
            return cls([stack.paths[i] for i in images], stack.label_names, **fields, rejects={})
        originals = stack.take(stack.view == 0)
        fields = {name: originals.field(name) for name in names}
        rejects = {path: (reason, size, mtime) for path, reason, size, mtime in stack.rejects}
        return cls(originals.paths, stack.label_names, **fields, rejects=rejects)


class ImageChanges(NamedTuple):
    """Paths that differ between a stack and the dataset as it is now."""

    added: list[str]
    removed: list[str]
    changed: list[str]
    relabelled: list[str]
    resplit: list[str]

    def refused(self) -> "ImageChanges":
        """The changes that allow no update: the same images under other labels or in other splits."""
        return self._replace(added=[], removed=[], changed=[])

    def lines(self) -> list[str]:
        """One line for each kind there is: `3 images added: a.jpg, b.jpg, c.jpg`."""
        return [f"{len(paths)} images {kind}: {listed(paths)}" for kind, paths in self._asdict().items() if paths]


def recipe_changes(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """One line for each attribute that differs: `layer: block5_pool in the stack, block4_pool asked for`."""
    there = {name: plain(recorded[name]) if name in recorded else None for name in wanted}
    return [
        f"{name}: {_shown(there[name])} in the stack, {_shown(value)} asked for"
        for name, value in wanted.items()
        if there[name] != value
    ]


def image_changes(recorded: Recorded, listing: Listing) -> ImageChanges:
    """Compare a stack's images with a dataset's. Only files whose size or time changed are read and hashed."""
    at = {path: row for row, path in enumerate(recorded.paths)}
    rejects = dict(recorded.rejects)
    changes = ImageChanges([], [], [], [], [])
    names_then = [*recorded.label_names, ""]  # label -1 finds the last
    names_now = [*listing.label_names, ""]
    for i, (path, size, mtime_ns) in enumerate(zip(listing.paths, *listing.stats(), strict=True)):
        if path in rejects:
            if _is_worth_trying(rejects.pop(path), (size, mtime_ns), listing.root / path):
                changes.changed.append(path)
            continue
        row = at.pop(path, None)
        if row is None:
            changes.added.append(path)
            continue
        if names_then[recorded.labels[row]] != names_now[listing.labels[i]]:
            changes.relabelled.append(path)
        if listing.split is not None and listing.split[i] != recorded.split[row]:
            changes.resplit.append(path)
        was_read = recorded.sha256[row].any()
        touched = (size, mtime_ns) != (recorded.size[row], recorded.mtime_ns[row])
        if was_read and touched and file_sha256(listing.root / path) != recorded.sha256[row].tobytes():
            changes.changed.append(path)
    changes.removed.extend([*at, *rejects])
    return changes


def _is_worth_trying(reject: tuple[str, int, int], now: tuple[int, int], file: Path) -> bool:
    """Whether a rejected image may be read by now."""
    reason, *then = reject
    if reason == HEIC and "HEIF" in Image.OPEN:  # pillow-heif has come
        return True
    return (*then,) != now if then[0] >= 0 else is_readable(file)  # where no byte was read there is nothing to compare


def refuse(path: Path, changes: list[str], *also: Path) -> None:
    """Refuse a file that was made from something else.

    Args:
        path: the file.
        changes: what else, a line each.
        also: other files to remove before one can start again.

    Raises:
        Refused: there are changes.
    """
    if changes:
        way = start_again(path, *also)
        raise Refused(f"{path} was made from something else:\n  " + "\n  ".join(changes) + f"\n{way}")


def start_again(*paths: Path) -> str:
    """How to start again, for files that cannot be continued."""
    files = " and ".join(map(str, paths))
    return f"Remove {files} to start again, or have python -m extract write elsewhere with --out FILE."


def _shown(value: Any) -> Any:
    return "none" if value is None else value
