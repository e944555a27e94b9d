"""Find what differs between a stack on disk and what is asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from extract.images.dataset import Listing
from extract.images.decode import HEIC
from extract.images.split import chosen
from features import Refused, Stack
from features.runtime.errors import listed
from features.schema import plain
from features.source import Source, Stat
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
    groups: list[str] | None = None

    @classmethod
    def of(cls, stack: Stack | StackWriter) -> "Recorded":
        names = ("labels", "split", "size", "mtime_ns", "sha256")
        if isinstance(stack, StackWriter):
            images = np.flatnonzero(stack.view == 0)
            fields = {name: getattr(stack, name)[images] for name in names}
            groups = chosen(stack.groups, images)
            return cls([stack.paths[i] for i in images], stack.label_names, **fields, rejects={}, groups=groups)
        originals = stack.take(stack.view == 0)
        fields = {name: originals.field(name) for name in names}
        rejects = {path: (reason, size, mtime) for path, reason, size, mtime in stack.rejects}
        return cls(originals.paths, stack.label_names, **fields, rejects=rejects, groups=originals.groups)


class Moved(NamedTuple):
    """Where the rows of a moved or copied image are."""

    was: str  # path in the stack of an image with the same bytes
    size: int  # of the file now …
    mtime_ns: int  # … before its bytes were compared


class ImageChanges(NamedTuple):
    """Paths that differ between a stack and the dataset as it is now.

    `moved` are those of `added` and `changed` whose bytes are those of an image of the stack.
    """

    added: list[str]
    removed: list[str]
    changed: list[str]
    relabelled: list[str]
    resplit: list[str]
    regrouped: list[str]
    moved: dict[str, Moved]

    def counts(self) -> dict[str, int]:
        """Kind → number of images, of the kinds that there are."""
        return {kind: len(paths) for kind, paths in self._kinds().items() if paths}

    def lines(self) -> list[str]:
        """One line for each kind that there is: `3 images added: a.jpg, b.jpg, c.jpg`."""
        return [f"{len(paths)} images {kind}: {listed(paths)}" for kind, paths in self._kinds().items() if paths]

    def _kinds(self) -> dict[str, list[str]]:
        """Each image under one kind; what moved was neither added, nor removed, nor changed."""
        left = {moved.was for moved in self.moved.values()}
        return {
            "added": [path for path in self.added if path not in self.moved],
            "removed": [path for path in self.removed if path not in left],
            "changed": [path for path in self.changed if path not in self.moved],
            "moved or copied": list(self.moved),
            "relabelled": self.relabelled,
            "moved to another split": self.resplit,
            "moved to another group": self.regrouped,
        }


def recipe_changes(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """One line for each attribute that differs: `layer: block5_pool in the stack, block4_pool asked for`."""
    there = {name: plain(recorded[name]) if name in recorded else None for name in wanted}
    return [
        f"{name}: {_shown(there[name])} in the stack, {_shown(value)} asked for"
        for name, value in wanted.items()
        if there[name] != value
    ]


def image_changes(recorded: Recorded, listing: Listing) -> ImageChanges:
    """Compare a stack's images with a dataset's.

    Files are read and hashed only if their size or time changed, or if they are new and as large as one of the stack's.
    """
    source = listing.source
    at = {path: row for row, path in enumerate(recorded.paths)}
    rejects = dict(recorded.rejects)
    changes = ImageChanges([], [], [], [], [], [], {})
    names_then = [*recorded.label_names, ""]  # label -1 finds the last
    names_now = [*listing.label_names, ""]
    stats = dict(zip(listing.paths, zip(*listing.stats(), strict=True), strict=True))
    for i, (path, (size, mtime_ns)) in enumerate(stats.items()):
        if path in rejects:
            if _is_worth_trying(rejects.pop(path), (size, mtime_ns), source, path):
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
        if (recorded.groups[row] if recorded.groups else "") != (listing.groups[i] if listing.groups else ""):
            changes.regrouped.append(path)
        was_read = recorded.sha256[row].any()
        touched = (size, mtime_ns) != (recorded.size[row], recorded.mtime_ns[row])
        if was_read and touched and source.sha256(path) != recorded.sha256[row].tobytes():
            changes.changed.append(path)
    changes.removed.extend([*at, *rejects])
    others = {path: stats[path] for path in (*changes.added, *changes.changed)}
    changes.moved.update(_moved(recorded, set(changes.removed), source, others))
    return changes


def _moved(recorded: Recorded, removed: set[str], source: Source, others: Mapping[str, Stat]) -> dict[str, Moved]:
    """Those of `others` (path → size, mtime_ns) whose bytes are those of an image of the stack."""
    read = np.flatnonzero(recorded.sha256.any(axis=1))
    sizes = set(recorded.size[read].tolist())
    likely = {path: stat for path, stat in others.items() if stat[0] in sizes}
    same: dict[bytes, list[str]] = {}
    if likely:  # images that are gone last: a file that moved is more likely one of them than a copy
        for row in sorted(read.tolist(), key=lambda row: recorded.paths[row] in removed):
            same.setdefault(recorded.sha256[row].tobytes(), []).append(recorded.paths[row])
    moved = {}
    for path, stat in likely.items():
        if paths := same.get(source.sha256(path) or b""):
            moved[path] = Moved(paths.pop() if len(paths) > 1 else paths[0], *map(int, stat))
    return moved


def _is_worth_trying(reject: tuple[str, int, int], now: Stat, source: Source, path: str) -> bool:
    """Whether a rejected image may be read by now."""
    reason, *then = reject
    if reason == HEIC and "HEIF" in Image.OPEN:  # pillow-heif has come
        return True
    return (*then,) != now if then[0] >= 0 else source.is_readable(path)  # no byte was read that could be compared


def refuse(path: Path, changes: list[str], way: str = "") -> None:
    """Refuse a file that was made from something else.

    Args:
        path: the file.
        changes: what else, a line each.
        way: what to do; by default `way_on`.

    Raises:
        Refused: there are changes.
    """
    if changes:
        lines = "\n  ".join(changes)
        raise Refused(f"{path} was made from something else:\n  {lines}\n{way or way_on(path)}")


def way_on(path: Path) -> str:
    """What to do about a file that cannot be continued. Nobody is told to remove a finished stack."""
    if path.suffix == ".partial":
        return f"Remove {path} to start again, or have python -m extract write elsewhere with --out FILE."
    return "It is kept. Write another stack with --out FILE, or give the settings of this one to add to it."


def _shown(value: Any) -> Any:
    return "none" if value is None else value
