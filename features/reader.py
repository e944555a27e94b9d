"""Read a finished feature stack. Needs only h5py and numpy, as would anybody else's reader of FORMAT.md."""

import dataclasses
import hashlib
import os
import shlex
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from features.layout import CHUNK_BYTES, partial_path
from features.packed import Packed
from features.runtime.errors import Failed, Refused
from features.schema import SPLITS, STATES, key
from features.validate import RESTORE, check_codes, check_fields, check_root

STACKS = Path("features/stacks")  # where `extract` puts stacks unless told otherwise
POOLS = ("flatten", "avg", "max")


@dataclasses.dataclass(frozen=True)
class Stack:
    """Rows of a feature stack: all of them, or those a `select` left.

    Attributes:
        path: the HDF5 file.
        attrs: the root attributes, as plain Python values.
        label_names: class names, sorted; `y` indexes them.
        feature_shape: (h, w, c) of one row before flattening, C order.
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
        """(n, width) float32 features: a read-only memmap without a copy where the rows are consecutive, else a copy.

        All rows of a compressed stack are a `Packed`, which unpacks them where it is indexed.
        """
        if (np.diff(self.rows) == 1).all():
            start = int(self.rows[0]) if len(self) else 0
            if len(self) == len(self._features):
                return self._features
            return self._features[start : start + len(self)]
        return self._features[self.rows]

    @cached_property
    def y(self) -> np.ndarray:
        """(n,) int64 index into `label_names`; -1 where there is no label."""
        return self.field("labels")

    @cached_property
    def paths(self) -> list[str]:
        """Paths of the images, relative to the dataset root `attrs["dataset_root"]`."""
        with h5py.File(self.path, "r") as file:
            return [str(path) for path in file["paths"].asstr(errors="replace")[:][self.rows]]

    @cached_property
    def groups(self) -> list[str] | None:
        """What the images belong to, empty where to nothing; None if the dataset has no groups."""
        with h5py.File(self.path, "r") as file:
            if "group" not in file:
                return None
            return [str(group) for group in file["group"].asstr(errors="replace")[:][self.rows]]

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
        with h5py.File(self.path, "r") as file:
            return str(file["fingerprint"].asstr(errors="replace")[()])

    @cached_property
    def extract_seconds(self) -> float:
        """Seconds that stage one worked on this file, over all its runs."""
        with h5py.File(self.path, "r") as file:
            return float(file["extract_seconds"][()])

    @cached_property
    def rejects(self) -> list[tuple[str, str, int, int]]:
        """(path, reason, size, mtime_ns) of every image that could not be read."""
        with h5py.File(self.path, "r") as file:
            table = file["rejects"][:] if "rejects" in file else []
        return [(path.decode(), reason.decode(), int(size), int(mtime)) for path, reason, size, mtime in table]

    def field(self, name: str) -> np.ndarray:
        """These rows of any other dataset of the file: `sha256`, `size`, `mtime_ns`, …"""
        with h5py.File(self.path, "r") as file:
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
            yield self.take(np.arange(start, min(start + step, len(self)))).X[:].astype("<f4", copy=False)

    def columns(self, start: int, stop: int) -> np.ndarray:
        """Columns start:stop of these rows, (n, stop − start) float32, a contiguous copy."""
        if not len(self):
            return np.empty((0, stop - start), "<f4")
        first, last = int(self.rows.min()), int(self.rows.max()) + 1
        block = self._features[first:last, start:stop]
        return np.ascontiguousarray(block if (np.diff(self.rows) == 1).all() else block[self.rows - first], "<f4")

    def pooled(self, pool: str) -> np.ndarray:
        """Average or max over all positions, (n, c) float32; derived from the flattened rows while reading them.

        Raises:
            Refused: no such pooling, or the layer has no positions to pool over.
        """
        if pool not in ("avg", "max"):
            raise Refused(f"no pooling is called {pool!r}; there are avg and max")
        if len(self.feature_shape) < 2:
            raise Refused(f"{self.path} holds layer {self.attrs['layer']!r}, which is flat already: use --pool flatten")
        channels = self.feature_shape[-1]
        out = np.empty((len(self), channels), "<f4")
        row = 0
        for piece in self.chunks():
            out[row : row + len(piece)] = pool_rows(piece, channels, pool)
            row += len(piece)
        return out


def pool_rows(rows: np.ndarray, channels: int, pool: str) -> np.ndarray:
    """Average (`avg`) or max of flattened rows (n, positions · channels) over the positions, (n, channels)."""
    positions = rows.reshape(len(rows), -1, channels)
    pooled: np.ndarray = positions.mean(1) if pool == "avg" else positions.max(1)
    return pooled


def open_stack(path: str | os.PathLike[str]) -> Stack:
    """Open a finished stack for reading; nothing but its small fields is read yet.

    Raises:
        Refused: it is unfinished, missing, of a newer format version, or no feature stack at all.
        Failed: it is damaged (shorter than its rows, fields that do not fit together).
    """
    path = Path(path)
    if path.name.endswith(".partial") or (not path.exists() and partial_path(path).exists()):
        partial = path if path.name.endswith(".partial") else partial_path(path)
        raise Refused(f"{path} is unfinished. Finish it with: {recorded_command(partial)}")
    if path.is_dir():
        raise Refused(f"{path} is a folder, not a stack. Name the .h5 file, one in it perhaps.")
    if not path.is_file():
        raise Refused(f"no stack at {path}. Make one with: make features, or python -m extract DATA")
    try:
        with h5py.File(path, "r") as file:
            return _open(path, file)
    except (PermissionError, BlockingIOError) as error:  # not ours to read, or open for writing in another program
        raise Failed(f"{path} cannot be opened: {os.strerror(error.errno or 0)}") from None
    except OSError as error:
        what = "is truncated" if "truncated" in str(error) else "is no HDF5 file that can be opened"
        raise Failed(f"{path} {what}. {RESTORE}") from None
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:  # whatever h5py makes of nonsense
        reason = " ".join(str(error).split())[:200]
        raise Failed(f"{path} is damaged: {reason}. {RESTORE}") from None


def open_rows_so_far(path: Path) -> Stack:
    """The finished rows of an unfinished file; views without their image are left out. Nobody may write it meanwhile.

    Raises:
        Failed: it is damaged. The rows' checksums have not been looked at.
    """
    try:
        with h5py.File(path, "r") as file:
            stack = _opened(path, file)
            done = stack.take(file["row_state"][:] == STATES["done"])
            return done.take(np.isin(done.paths, done.take(done.view == 0).paths))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise Failed(f"{path} cannot be opened ({error}). Remove it.") from None


def only_stack() -> Path:
    """The one stack in `features/stacks`, for commands that were given none.

    Raises:
        Refused: there is none, or there are several.
    """
    stacks = sorted(STACKS.glob("*.h5"))
    if not stacks:
        partials = sorted(STACKS.glob("*.h5.partial"))
        if partials:
            raise Refused(f"{partials[0]} is unfinished. Finish it with: {recorded_command(partials[0])}")
        raise Refused(f"no stack in {STACKS}. Make one with: make features")
    if len(stacks) > 1:
        raise Refused("several stacks are there; say which with STACK=…:\n  " + "\n  ".join(map(str, stacks)))
    return stacks[0]


def recorded_command(path: Path) -> str:
    """The command that made or would finish the stack at `path`."""
    try:
        with h5py.File(path, "r") as file:
            return str(file.attrs["command"])
    except (OSError, KeyError):
        return f"the command that began it, or remove {shlex.quote(str(path))} and start again"


def _open(path: Path, file: h5py.File) -> Stack:
    stack = _opened(path, file)
    if empty := int((file["row_state"][:] != STATES["done"]).sum()):
        command = stack.attrs["command"]
        raise Refused(
            f"{path} is unfinished: {empty} of its {len(stack)} rows were never written. Remove it and run: {command}"
        )
    return stack


def _opened(path: Path, file: h5py.File) -> Stack:
    """All rows of a file, finished or not."""
    attrs = check_root(path, file)
    shape = tuple(int(side) for side in attrs["feature_shape"])
    count = check_fields(path, file, shape)
    names = [str(name) for name in file["label_names"].asstr(errors="replace")[:]]
    check_codes(path, file["labels"][:], len(names), file["split"][:], file["view"][:])
    features = file["features"]
    offset = features.id.get_offset()
    values = Packed(path) if offset is None else np.memmap(path, features.dtype, "r", offset, features.shape)
    return Stack(path, attrs, names, shape, np.arange(count), values)
