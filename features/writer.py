"""Write rows into a laid-out stack so that a kill at any moment costs at most the rows in flight."""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from features.hdf5 import open_hdf5, unreadable
from features.layout import CHUNK_BYTES, lay_out, layout_path, offsets, partial_path
from features.runtime.disk import BINARY, pread_all, publish, pwrite_all, sync
from features.runtime.errors import Failed
from features.schema import STATES, corrections_of, fingerprint, row_crc32
from features.validate import check_fields, check_root


class StackWriter:
    """An unfinished stack, opened for writing.

    Rows go to `<stack>.partial`; `finish` makes it `<stack>`. The caller holds `writer_lock(stack)`.

    Attributes:
        paths: (rows,) list of str; groups likewise, or None; `copies` (rows,) or None.
        labels, view, size, mtime_ns, row_state: (rows,) arrays, as in the file.
        sha256: (rows, 32) uint8, zero where no image was read yet.
        dtype: of the stored rows, float32 or float16.
    """

    def __init__(self, stack: Path) -> None:
        self.stack = stack
        self.partial = partial_path(stack)
        try:
            file = open_hdf5(self.partial)
        except OSError as error:
            raise unreadable(self.partial, error, "Remove it to start again.") from None
        with file:
            self.attrs: dict[str, Any] = check_root(self.partial, file)
            check_fields(self.partial, file, tuple(self.attrs["feature_shape"]))
            self.label_names: list[str] = list(file["label_names"].asstr()[:])
            self.paths: list[str] = list(file["paths"].asstr()[:])
            self.groups: list[str] | None = list(file["group"].asstr()[:]) if "group" in file else None
            self.copies: np.ndarray | None = file["copies"][:] if "copies" in file else None
            self.labels, self.view, self.split = (file[name][:] for name in ("labels", "view", "split"))
            self.sha256, self.size, self.mtime_ns = (file[name][:] for name in ("sha256", "size", "mtime_ns"))
            self.row_crc32, self.row_state = (file[name][:] for name in ("row_crc32", "row_state"))
            self.corrections = corrections_of(file)
            self.extract_seconds = float(file["extract_seconds"][()])
            self.width: int = file["features"].shape[1]
            self.dtype: np.dtype = file["features"].dtype
        self._offsets = offsets(self.partial)
        self._fd = os.open(self.partial, os.O_RDWR | BINARY)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._fd >= 0:  # interrupted, or a full disk: rows survive a power loss too
            sync(self._fd)
        self._close()

    def _close(self) -> None:
        """Close the file, which Windows renames and removes only then."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def check(self) -> np.ndarray:
        """Empty every row whose CRC does not fit, on disk too: a killed run may have left it half written.

        Returns:
            (rows,) bool, see `done`.
        """
        for start, stop, rows in self._chunks(np.flatnonzero(self.row_state == STATES["done"])):
            crc = row_crc32(rows, self.labels[start:stop], self.sha256[start:stop], self.view[start:stop])
            bad = (crc != self.row_crc32[start:stop]) & (self.row_state[start:stop] == STATES["done"])
            self._empty(start + np.flatnonzero(bad))
        return self.done

    @property
    def done(self) -> np.ndarray:
        """(rows,) bool, which rows are written. `check` says whether they are whole."""
        good: np.ndarray = self.row_state == STATES["done"]
        return good

    def forget(self, paths: list[str]) -> None:
        """Empty the rows of these images, because the images have changed."""
        if paths:
            self._empty(np.flatnonzero(np.isin(self.paths, paths)))

    def write(
        self, start: int, features: np.ndarray, stats: dict[str, np.ndarray], rejected: np.ndarray, seconds: float
    ) -> None:
        """Write consecutive rows: features first, then identity, then CRC, and the state last of all.

        Args:
            start: index of the first row.
            features: (k, width) float32, rounded to the stack's type; rejected rows may hold anything finite.
            stats: `sha256` (k, 32), `size` (k,), `mtime_ns` (k,) of the image files as they were read.
            rejected: (k,) bool, images that could not be read.
            seconds: time spent since the last write, added to `extract_seconds`.
        """
        stop = start + len(features)
        here = slice(start, stop)
        features = np.ascontiguousarray(features, self.dtype)
        for name, values in stats.items():
            getattr(self, name)[here] = values
        self.row_crc32[here] = row_crc32(features, self.labels[here], self.sha256[here], self.view[here])
        self.row_state[here] = np.where(rejected, STATES["rejected"], STATES["done"])
        self.extract_seconds += seconds
        self._put("features", start, features)
        for name in ("sha256", "size", "mtime_ns", "row_crc32"):
            self._put(name, start, getattr(self, name)[here])
        self._put("extract_seconds", 0, np.array(self.extract_seconds, "<f8"))
        self._put("row_state", start, self.row_state[here])

    def finish(self, split: np.ndarray, reasons: dict[int, str], copies: np.ndarray | None = None) -> Path:
        """Complete the stack: rejected rows leave it, the split and fingerprint enter it, and it takes its name.

        Args:
            split: (rows,) uint8 of `SPLITS`; entries of rejected rows are ignored.
            reasons: row index → why its image is left out; all rows of that image leave the stack.
            copies: (rows,) int32 groups of near copies, for a file that was laid out for them.

        Raises:
            Failed: a row is still empty, every row was rejected, or there is no room to leave the rejected rows out.
        """
        if copies is not None:
            self.copies = copies.astype("<i4")
            self._put("copies", 0, self.copies)
        left_out = np.isin(np.arange(len(self.paths)), list(reasons))
        if missing := int(((self.row_state != STATES["done"]) & ~left_out).sum()):
            raise Failed(f"{self.partial}: {missing} rows are still to be extracted")
        rejected = {self.paths[row] for row in reasons}
        done = np.flatnonzero([path not in rejected for path in self.paths])
        if not len(done):
            first = next(iter(reasons.values()))
            raise Failed(f"not one of the {len(rejected)} images could be read; the first: {self.paths[0]}: {first}")
        identity = fingerprint(
            [self.paths[i] for i in done],
            self.labels[done],
            self.label_names,
            self.sha256[done],
            self.view[done],
            split[done],
            None if self.groups is None else [self.groups[i] for i in done],
        )
        if reasons:
            return self._finish_without(done, split, identity, reasons)
        self._put("split", 0, split.astype("u1"))
        self._put("fingerprint", 0, np.frombuffer(identity.encode(), "u1"))
        sync(self._fd)
        self._close()
        return publish(self.partial, self.stack)

    def _finish_without(self, done: np.ndarray, split: np.ndarray, identity: str, reasons: dict[int, str]) -> Path:
        """Contiguous datasets cannot shrink, so the good rows are copied, checked, into a second file."""
        known = {
            name: getattr(self, name)[done]
            for name in ("labels", "view", "sha256", "size", "mtime_ns", "row_crc32", "row_state")
        }
        known |= {"paths": [self.paths[i] for i in done], "split": split[done]}
        if self.groups is not None:
            known["group"] = [self.groups[i] for i in done]
        if self.copies is not None:
            known["copies"] = self.copies[done]
        first = {self.paths[i]: i for i in sorted(reasons, reverse=True)}  # of an image's rows, that tells why
        rejects = [(path, reasons[i], int(self.size[i]), int(self.mtime_ns[i])) for path, i in reversed(first.items())]
        target = layout_path(self.stack)
        shape = self.attrs["feature_shape"]
        lay_out(target, known, self.label_names, shape, self.attrs, rejects, self.corrections)
        base = offsets(target)
        with open(target, "r+b") as file:
            fd, row = file.fileno(), 0
            for start, stop, rows in self._chunks(done):
                here = done[(done >= start) & (done < stop)]
                good = np.ascontiguousarray(rows[here - start])
                if (
                    row_crc32(good, self.labels[here], self.sha256[here], self.view[here]) != self.row_crc32[here]
                ).any():
                    raise Failed(
                        f"{self.partial}: rows changed on disk while they were copied; run the same command again"
                    )
                pwrite_all(fd, good, base["features"] + self._row_bytes * row)
                row += len(good)
            pwrite_all(fd, np.frombuffer(identity.encode(), "u1"), base["fingerprint"])
            pwrite_all(fd, np.array(self.extract_seconds, "<f8"), base["extract_seconds"])
            sync(fd)
        self._close()
        publish(target, self.stack)
        self.partial.unlink()
        return self.stack

    def _chunks(self, wanted: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
        """(start, stop, rows start:stop) pieces that cover the wanted rows, read from the file."""
        step = max(1, CHUNK_BYTES // self._row_bytes)
        for start in range(0, len(self.paths), step):
            stop = min(start + step, len(self.paths))
            if np.searchsorted(wanted, start) < np.searchsorted(wanted, stop):
                place = self._offsets["features"] + self._row_bytes * start
                raw = pread_all(self._fd, self._row_bytes * (stop - start), place)
                yield start, stop, np.frombuffer(raw, self.dtype).reshape(-1, self.width)

    @property
    def _row_bytes(self) -> int:
        return self.width * self.dtype.itemsize

    def _empty(self, rows: np.ndarray) -> None:
        for row in rows.tolist():
            self.row_state[row] = STATES["empty"]
            self._put("row_state", row, self.row_state[row : row + 1])

    def _put(self, name: str, start: int, values: np.ndarray) -> None:
        row_bytes = values.nbytes // max(1, len(values)) if values.ndim else 0
        pwrite_all(self._fd, values, self._offsets[name] + start * row_bytes)


def consecutive(rows: np.ndarray) -> list[slice]:
    """Where increasing row numbers follow each other without a gap: [3, 4, 7] → [slice(0, 2), slice(2, 3)]."""
    edges = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
    return [slice(start, stop) for start, stop in pairwise(edges) if stop > start]
