"""Stacks of one recipe and of different images, end to end as one: the shards of a large dataset."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from features.reader import Stack
from features.runtime.errors import Refused, listed
from features.runtime.log import log
from features.schema import SPLITS, Correction, recipe_attrs


class Joined:
    """(rows, width) of several stacks, read where they are indexed, by a slice or an integer array of rows."""

    ndim = 2

    def __init__(self, parts: Sequence[Stack]) -> None:
        self._parts = [part.X for part in parts]
        self._ends = np.cumsum([len(part) for part in self._parts])
        self.shape: tuple[int, int] = (int(self._ends[-1]), self._parts[0].shape[1])
        self.dtype = self._parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, *columns = key if isinstance(key, tuple) else (key,)
        wanted = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        where = np.searchsorted(self._ends, wanted, side="right")
        out: np.ndarray | None = None
        for part in np.unique(where):
            places = np.flatnonzero(where == part)
            local = wanted[places] - (self._ends[part] - len(self._parts[part]))
            straight = len(local) > 1 and (np.diff(local) == 1).all()  # a slice of a memory map copies nothing
            piece = self._parts[part][(slice(local[0], local[-1] + 1) if straight else local, *columns)]
            if len(places) == len(wanted):
                return np.asarray(piece)
            if out is None:
                out = np.empty((len(wanted), *piece.shape[1:]), piece.dtype)
            out[places] = piece
        return np.empty((0, self.shape[1]), self.dtype)[(slice(0), *columns)] if out is None else out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)


@dataclasses.dataclass(frozen=True)
class EndToEnd(Stack):
    """Rows of several stacks, one after the other; labels are merged by their names.

    Attributes:
        parts: the whole stacks, in order.
        index: the file that names them, if one does.
    """

    parts: tuple[Stack, ...] = ()
    index: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The index, or the shards."""
        return (self.index,) if self.index else tuple(part.path for part in self.parts)

    def field(self, name: str) -> np.ndarray:
        """These rows of any other dataset that has an entry a row; `labels` index the merged names."""
        if name == "labels":
            places = [np.searchsorted(self.label_names, part.label_names) for part in self.parts]
            values = [np.append(at, -1)[part.y] for at, part in zip(places, self.parts, strict=True)]
        else:
            values = [part.field(name) for part in self.parts]
        return np.asarray(np.concatenate(values)[self.rows])

    @cached_property
    def paths(self) -> list[str]:
        """Paths of the images, relative to `attrs["dataset_root"]`, which all shards' folders lie in."""
        root = self.attrs["dataset_root"]
        ways = [os.path.relpath(part.attrs["dataset_root"], root) for part in self.parts]
        every = [
            os.path.normpath(os.path.join(way, path)) if way != "." else path
            for way, part in zip(ways, self.parts, strict=True)
            for path in part.paths
        ]
        return [every[row] for row in self.rows]

    @cached_property
    def groups(self) -> list[str] | None:
        """What the images belong to, empty where to nothing; None if no shard has groups."""
        if all(part.groups is None for part in self.parts):
            return None
        every = [group for part in self.parts for group in part.groups or [""] * len(part)]
        return [every[row] for row in self.rows]

    @cached_property
    def copies(self) -> np.ndarray | None:
        """(n,) int32 groups of near copies, which are known within a shard; None if none were looked for in any."""
        if all(part.copies is None for part in self.parts):
            return None
        every, first = [], 0
        for part in self.parts:
            own = np.full(len(part), -1, "i4") if part.copies is None else part.copies
            every.append(np.where(own >= 0, own + first, -1))
            first += int(own.max(initial=-1)) + 1
        return np.asarray(np.concatenate(every)[self.rows])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the shards' fingerprints, in order."""
        return hashlib.sha256("".join(part.fingerprint for part in self.parts).encode()).hexdigest()

    @cached_property
    def extract_seconds(self) -> float:
        """Seconds that stage one worked on all of them."""
        return sum(part.extract_seconds for part in self.parts)

    @cached_property
    def rejects(self) -> list[tuple[str, str, int, int]]:
        """(path, reason, size, mtime_ns) of every image that could not be read."""
        return [reject for part in self.parts for reject in part.rejects]

    @cached_property
    def corrections(self) -> list[Correction]:
        """Those of all shards; most have the same."""
        return list(dict.fromkeys(each for part in self.parts for each in part.corrections))


def end_to_end(stacks: Sequence[Stack], index: Path | None = None) -> EndToEnd:
    """Stacks as one dataset. Images that are in two of them are warned of.

    Args:
        stacks: whole ones, of one recipe.
        index: the file that names them.

    Raises:
        Refused: they are of different recipes; all differences are listed.
    """
    first = stacks[0]
    recipe = recipe_attrs(first.attrs)
    differs = [
        f"{other.path}: {name} is {value}, and {recipe.get(name)} in {first.path}"
        for other in stacks[1:]
        for name, value in recipe_attrs(other.attrs).items()
        if recipe.get(name) != value
    ]
    differs += [
        f"{other.path}: rows of {other.feature_shape}, and {first.feature_shape} in {first.path}"
        for other in stacks[1:]
        if other.feature_shape != first.feature_shape
    ]
    if differs:
        raise Refused("shards of one dataset must be of one recipe:\n  " + "\n  ".join(differs))
    names = sorted({name for stack in stacks for name in stack.label_names})
    root = os.path.commonpath([stack.attrs["dataset_root"] for stack in stacks])
    path = index or first.path.with_name(f"{first.path.stem}-to-{stacks[-1].path.stem}.h5")
    count = sum(map(len, stacks))
    joined = EndToEnd(
        path,
        first.attrs | {"dataset_root": root},
        names,
        first.feature_shape,
        np.arange(count),
        Joined(stacks),
        parts=tuple(stacks),
        index=index,
    )
    _warn_of_copies(joined)
    return joined


def _warn_of_copies(stack: EndToEnd) -> None:
    sha256 = stack.field("sha256")
    digests = np.ascontiguousarray(sha256).view("S32").reshape(-1)
    shard = np.repeat(np.arange(len(stack.parts)), [len(part) for part in stack.parts])
    order = np.argsort(digests, kind="stable")
    same = (sha256[order][1:] == sha256[order][:-1]).all(axis=1) & (shard[order][1:] != shard[order][:-1])
    pairs = [(int(order[i]), int(order[i + 1])) for i in np.flatnonzero(same)]
    if not pairs:
        return
    test = stack.split == SPLITS["test"]
    leaks = [pair for pair in pairs if test[pair[0]] != test[pair[1]]]
    told = [f"{stack.paths[a]} = {stack.paths[b]}" for a, b in leaks or pairs]
    if leaks:
        log.warning(f"{len(leaks)} images are in train in one shard and in test in another: {listed(told)}")
    else:
        log.warning(f"{len(pairs)} images are in two shards: {listed(told)}")
