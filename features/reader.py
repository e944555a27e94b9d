"""Read a finished feature stack. Needs only h5py and numpy, as would anybody else's reader of FORMAT.md."""

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from features.halves import widened
from features.hdf5 import open_hdf5
from features.layout import CHUNK_BYTES
from features.runtime.errors import Refused
from features.schema import POOLINGS, SPLITS, Correction, as_one, corrections_of, key

POOLS = ("flatten", *POOLINGS)


@dataclasses.dataclass(frozen=True)
class Stack:
    """Rows of a feature stack: all of them, or those a `select` left.

    Attributes:
        path: the HDF5 file.
        attrs: the root attributes, as plain Python values.
        label_names: class names, sorted; `y` indexes them.
        feature_shape: (h, w, c) of one row before flattening, C order; (t, c) of tokens; (c,) of a pooled one.
        rows: (n,) int64, indices of these rows in the file.

    A pipeline that needs nothing else:

        stack = open_stack("features/stacks/pets-vgg16.h5")
        train, test = stack.select(split="train"), stack.select(split="test")
        LogisticRegression().fit(train.pooled("avg"), train.y).score(test.pooled("avg"), test.y)
    """

    path: Path
    attrs: dict[str, Any]
    label_names: list[str]
    feature_shape: tuple[int, ...]
    rows: np.ndarray
    _features: Any = dataclasses.field(repr=False)
    _split: np.ndarray | None = dataclasses.field(default=None, repr=False)  # of all rows in the file, if not its own

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def X(self) -> Any:
        """(n, width) features: a read-only memmap without a copy where the rows are consecutive, else a copy.

        They have the type that is stored, float32 or float16. All rows of a compressed stack are a `Packed`, which
        unpacks them, as float32, where it is indexed.
        """
        if (np.diff(self.rows) == 1).all():
            start = int(self.rows[0]) if len(self) else 0
            if len(self) == len(self._features):
                return self._features
            return self._features[start : start + len(self)]
        return self._features[self.rows]

    @property
    def files(self) -> tuple[Path, ...]:
        """What `open_stack` and the commands take to have this stack again."""
        return (self.path,)

    @cached_property
    def y(self) -> np.ndarray:
        """(n,) int64 index into `label_names`; -1 where there is no label."""
        return self.field("labels")

    @cached_property
    def paths(self) -> list[str]:
        """Paths of the images, relative to the dataset root `attrs["dataset_root"]`."""
        with open_hdf5(self.path) as file:
            return [str(path) for path in file["paths"].asstr(errors="replace")[:][self.rows]]

    @cached_property
    def groups(self) -> list[str] | None:
        """What the images belong to, empty where to nothing; None if the dataset has no groups."""
        with open_hdf5(self.path) as file:
            if "group" not in file:
                return None
            return [str(group) for group in file["group"].asstr(errors="replace")[:][self.rows]]

    @cached_property
    def copies(self) -> np.ndarray | None:
        """(n,) int32 groups of near copies, −1 where an image has none; None if they were not looked for."""
        with open_hdf5(self.path) as file:
            return np.asarray(file["copies"][:][self.rows]) if "copies" in file else None

    @cached_property
    def identity(self) -> np.ndarray:
        """(n, 32) uint8, equal for rows that no split may divide: of the same bytes, or of known near copies."""
        whole = dataclasses.replace(self, rows=np.arange(len(self._features)))
        copies = whole.copies
        return self.field("sha256") if copies is None else as_one(whole.field("sha256"), copies)[self.rows]

    @cached_property
    def split(self) -> np.ndarray:
        """(n,) uint8: 0 train, 1 val, 2 test."""
        return self.field("split") if self._split is None else self._split[self.rows]

    @cached_property
    def view(self) -> np.ndarray:
        """(n,) int32: 0 the image itself, 1… augmented views of it."""
        return self.field("view")

    @cached_property
    def key(self) -> str:
        """SHA-256 (hex) of recipe and rows of the whole file; results and models name it by this key."""
        own = key(self.attrs, self.fingerprint)
        return own if self._split is None else hashlib.sha256(own.encode() + self._split.tobytes()).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of which images the rows are."""
        with open_hdf5(self.path) as file:
            return str(file["fingerprint"].asstr(errors="replace")[()])

    @cached_property
    def extract_seconds(self) -> float:
        """Seconds that stage one worked on this file, over all its runs."""
        with open_hdf5(self.path) as file:
            return float(file["extract_seconds"][()])

    @cached_property
    def rejects(self) -> list[tuple[str, str, int, int]]:
        """(path, reason, size, mtime_ns) of every image that could not be read."""
        with open_hdf5(self.path) as file:
            table = file["rejects"][:] if "rejects" in file else []
        return [(path.decode(), reason.decode(), int(size), int(mtime)) for path, reason, size, mtime in table]

    @cached_property
    def corrections(self) -> list[Correction]:
        """What the labels of the dataset were corrected by, images left out among it."""
        with open_hdf5(self.path) as file:
            return corrections_of(file)

    def field(self, name: str) -> np.ndarray:
        """These rows of any other dataset of the file: `sha256`, `size`, `mtime_ns`, …"""
        with open_hdf5(self.path) as file:
            values: np.ndarray = file[name][:][self.rows]
        return values

    def select(self, split: str | tuple[str, ...]) -> "Stack":
        """The rows of one split, or of several: `"train"`, `"val"`, `"test"`, `("train", "val")`.

        Raises:
            Refused: no such split.
        """
        names = (split,) if isinstance(split, str) else split
        if unknown := [name for name in names if name not in SPLITS]:
            raise Refused(f"no split is called {unknown[0]!r}; there are {', '.join(SPLITS)}")
        return self.take(np.isin(self.split, [SPLITS[name] for name in names]))

    def with_split(self, split: np.ndarray) -> "Stack":
        """These rows in another split, (n,) uint8; the file stays as it is."""
        of_file = np.zeros(int(self.rows.max(initial=-1)) + 1, "u1")
        of_file[self.rows] = split
        return dataclasses.replace(self, _split=of_file)

    def take(self, which: np.ndarray) -> "Stack":
        """The rows that a boolean mask (n,) or an index picks out of these, in the index's order."""
        return dataclasses.replace(self, rows=self.rows[which])

    def chunks(self, chunk_bytes: int = CHUNK_BYTES) -> Iterator[np.ndarray]:
        """These rows in order, (k, width) float32 pieces of about `chunk_bytes`."""
        step = max(1, chunk_bytes // (4 * int(np.prod(self.feature_shape))))
        for start in range(0, len(self), step):
            yield widened(self.take(np.arange(start, min(start + step, len(self)))).X[:])

    def columns(self, start: int, stop: int) -> np.ndarray:
        """Columns start:stop of these rows, (n, stop − start) float32, a contiguous copy."""
        if not len(self):
            return np.empty((0, stop - start), "<f4")
        first, last = int(self.rows.min()), int(self.rows.max()) + 1
        block = self._features[first:last, start:stop]
        return np.ascontiguousarray(block if (np.diff(self.rows) == 1).all() else block[self.rows - first], "<f4")

    def pooled(self, pool: str) -> np.ndarray:
        """Rows pooled by `pool_rows`, (n, c) float32; derived from flattened rows while reading them.

        Raises:
            Refused: no such pooling, or the layer has no positions to pool over, or no class token.
        """
        if pool not in POOLINGS:
            raise Refused(f"no pooling is called {pool!r}; there are {', '.join(POOLINGS)}")
        if self.attrs.get("pool") == pool:
            return np.concatenate([np.empty((0, self.feature_shape[-1]), "<f4"), *self.chunks()])
        if len(self.feature_shape) < 2:
            raise Refused(f"{self.path} holds {self._flat()}: use --pool flatten")
        out = np.empty((len(self), self.feature_shape[-1]), "<f4")
        row = 0
        for piece in self.chunks():
            out[row : row + len(piece)] = pool_rows(piece, self.feature_shape, pool)
            row += len(piece)
        return out

    def _flat(self) -> str:
        if pool := self.attrs.get("pool"):
            return f"rows that are pooled ({pool}) already"
        return f"layer {self.attrs['layer']!r}, which is flat already"


def pool_rows(rows: np.ndarray, shape: tuple[int, ...], pool: str) -> np.ndarray:
    """Pool flattened rows over their positions.

    Of tokens (t, c) the last ⌊√t⌋² are the image's patches, row by row, and those before them the class token and
    registers, which stand for no position. So 257 tokens are one and 16 × 16, and 201 are five and 14 × 14.

    Args:
        rows: (n, width).
        shape: of one row, (h, w, c) or (t, c).
        pool: average (`avg`) or max of the positions, or the class token (`cls`).

    Returns:
        (n, c).

    Raises:
        Refused: there is no class token.
    """
    positions = rows.reshape(len(rows), -1, shape[-1])
    before = shape[0] - math.isqrt(shape[0]) ** 2 if len(shape) == 2 else 0
    if pool == "cls":
        if not before:
            raise Refused(f"rows of {'×'.join(map(str, shape))} have no class token: --pool avg or max")
        return np.ascontiguousarray(positions[:, 0])
    patches = positions[:, before:]
    return np.asarray(patches.mean(1) if pool == "avg" else patches.max(1))
