"""Where a dataset's images lie: in a folder, in a .tar or .zip file, or in an array of an HDF5 or NumPy file.

Nothing is unpacked to disk. An image of an archive has the archive's modification time, so that a changed archive is
hashed again. An image of an array is read as a binary PPM file (PGM if it is grey): a header, then the pixels as they
are.
"""

import hashlib
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np

from features.hdf5 import open_hdf5
from features.runtime.disk import BINARY, read_at
from features.runtime.errors import Failed, Refused, listed, shown
from features.source import CHANGING, NOWHERE, File, Source, Stat, Unreadable, check_size

IN_ARRAY = "::"  # between a file and the name of a dataset in it
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")


class Archive(Source):
    """Images inside one file. Subclasses give `paths`, `_size` and `_bytes`."""

    def __init__(self, root: Path, file: Path) -> None:
        super().__init__(root)
        self.file = file
        self.mtime_ns = os.stat(file).st_mtime_ns

    def exists(self) -> bool:
        return self.file.exists()

    def paths(self) -> Iterable[str]:
        """Every image or other file in it, `/`-separated."""
        raise NotImplementedError

    def _size(self, path: str) -> int | None:
        raise NotImplementedError

    def _bytes(self, path: str) -> bytes:
        raise NotImplementedError

    def stat(self, path: str) -> Stat:
        size = self._size(path)
        return NOWHERE if size is None else (size, self.mtime_ns)

    def read(self, path: str) -> File:
        size = self._size(path)
        if size is None:
            raise Unreadable("No such file or directory")
        check_size(size)
        try:
            data = self._bytes(path)
        except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
            raise Unreadable(f"it cannot be read from {self.file.name}: {error}") from None
        if len(data) != size or os.stat(self.file).st_mtime_ns != self.mtime_ns:
            raise Unreadable(CHANGING)
        return File(data, np.frombuffer(hashlib.sha256(data).digest(), "u1"), size, self.mtime_ns)

    def sha256(self, path: str) -> bytes | None:
        try:
            return self.read(path).sha256.tobytes()
        except Unreadable:
            return None


class Tar(Archive):
    """An uncompressed .tar file; members are read where they lie, links where their target lies in the same file."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, root)
        try:
            with tarfile.open(root, "r:") as members:
                entries = members.getmembers()
        except (tarfile.TarError, EOFError) as error:
            raise Failed(f"{root} cannot be read as a .tar file: {error}") from None
        files = [member for member in entries if member.isreg()]
        self._members = {_safe(root, member.name): (member.offset_data, member.size) for member in files}
        self._links = {_safe(root, link.name): _target(link) for link in entries if link.islnk() or link.issym()}
        self._members |= {name: self._members[at] for name, at in self._links.items() if at in self._members}
        self._fd = os.open(root, os.O_RDONLY | BINARY)
        if any(offset + size > os.fstat(self._fd).st_size for offset, size in self._members.values()):
            raise Failed(f"{root} is truncated: its last file does not lie inside it")

    def paths(self) -> Iterable[str]:
        return {**self._members, **self._links}  # a link that leads nowhere is named among the rejects

    def _size(self, path: str) -> int | None:
        return self._members[path][1] if path in self._members else None

    def _bytes(self, path: str) -> bytes:
        offset, size = self._members[path]
        data = bytearray(size)
        return bytes(data[: read_at(self._fd, memoryview(data), offset)])

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)


class Zip(Archive):
    """A .zip file. Its reader locks the file for each read, and checks each member's CRC."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, root)
        try:
            self._zip = zipfile.ZipFile(root)
        except (zipfile.BadZipFile, OSError) as error:
            raise Failed(f"{root} cannot be read as a .zip file: {error}") from None
        self._members = {_safe(root, info.filename): info for info in self._zip.infolist() if not info.is_dir()}

    def paths(self) -> Iterable[str]:
        return self._members

    def _size(self, path: str) -> int | None:
        return self._members[path].file_size if path in self._members else None

    def _bytes(self, path: str) -> bytes:
        return self._zip.read(self._members[path])


class Array(Archive):
    """Images (n, h, w, 3) or grey (n, h, w), uint8, in a dataset of an HDF5 file or in a .npy file.

    An image's path is its index, padded with zeros so that the paths' order is the array's.
    """

    def __init__(self, root: Path) -> None:
        name, _, dataset = str(root).partition(IN_ARRAY)
        super().__init__(root, Path(name))
        self._pixels = _pixels(Path(name), dataset)
        shape, dtype = self._pixels.shape, self._pixels.dtype
        if dtype != np.uint8 or not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))):
            raise Refused(
                f"{root} is {dtype} of shape {shape}; expected uint8 of shape (images, height, width, 3), or "
                "(images, height, width) for grey. Convert it first: axes with np.moveaxis, values to 0–255."
            )
        self.colours = shape[3] if len(shape) == 4 else 1
        self._header = f"P{6 if self.colours == 3 else 5}\n{shape[2]} {shape[1]}\n255\n".encode()
        self._one = len(self._header) + int(np.prod(shape[1:]))
        self._digits = len(str(max(0, shape[0] - 1)))

    def paths(self) -> Iterable[str]:
        return (f"{i:0{self._digits}d}" for i in range(len(self._pixels)))

    def labels(self) -> np.ndarray | None:
        """(n,) str or int labels from the dataset `labels` beside the images, None if there is none.

        Raises:
            Refused: it has another length than the images.
        """
        if self.file.suffix == ".npy":
            return None
        with open_hdf5(self.file) as file:
            beside = f"{PurePosixPath(str(self.root).partition(IN_ARRAY)[2]).parent}/labels"
            found = file.get(beside)
            if not isinstance(found, h5py.Dataset):
                return None
            if found.shape != (len(self._pixels),):
                raise Refused(
                    f"{self.file}: {beside} has shape {found.shape} and the images {self._pixels.shape}. Labels beside "
                    "images are taken for theirs: give it a value for each, or another name"
                )
            is_text = h5py.check_string_dtype(found.dtype)
            return np.asarray(found.asstr(errors="surrogateescape")[:] if is_text else found[:])

    def _size(self, path: str) -> int | None:
        known = path.isdecimal() and len(path) == self._digits and int(path) < len(self._pixels)
        return self._one if known else None

    def _bytes(self, path: str) -> bytes:
        return self._header + np.ascontiguousarray(self._pixels[int(path)]).tobytes()


def _pixels(file: Path, dataset: str) -> Any:
    """The array: a memory map of a .npy file, or a dataset of an HDF5 file, which h5py reads with a lock of its own."""
    try:
        if file.suffix == ".npy":
            return np.load(file, mmap_mode="r", allow_pickle=False)
        opened = open_hdf5(file)
    except (OSError, ValueError, EOFError) as error:
        raise Refused(f"{file} cannot be opened: {error}") from None
    found = opened.get(dataset) if dataset else None
    if not isinstance(found, h5py.Dataset):
        there: list[str] = []
        opened.visititems(lambda name, item: there.append(name) if isinstance(item, h5py.Dataset) else None)
        raise Refused(
            f"{file} has no dataset {dataset!r}; there are: {listed(there, 20) or 'none'}. Give DATA={file}::NAME"
        )
    return found


@lru_cache(maxsize=8)
def _opened(root: str, mtime_ns: int) -> Source:
    name = root.partition(IN_ARRAY)[0].lower()
    if IN_ARRAY in root or name.endswith(".npy"):
        return Array(Path(root))
    return Tar(Path(root)) if name.endswith(".tar") else Zip(Path(root))


def open_source(root: str | os.PathLike[str]) -> Source:
    """The images at an absolute path: a folder, `x.tar`, `x.zip`, `x.npy` or `x.h5::dataset`. A folder may be missing.

    Raises:
        Refused: what is there is not readable as that, or is compressed as a whole.
        Failed: it is damaged.
    """
    root = str(root)
    if Path(root).is_dir():
        return Source(Path(root))
    file = Path(root.partition(IN_ARRAY)[0])
    if file.name.lower().endswith(COMPRESSED):
        raise Refused(
            f"{file} is compressed as a whole, so single images cannot be read. Unpack it, or make a .tar or .zip"
        )
    inside = IN_ARRAY in root or file.suffix.lower() in (".tar", ".zip", ".npy")
    return _opened(root, os.stat(file).st_mtime_ns) if inside and file.is_file() else Source(Path(root))


def is_file_of_images(data: str) -> bool:
    """Whether a dataset's name says that it is an archive or an array."""
    named_so = IN_ARRAY in data or data.lower().endswith((".tar", ".zip", ".npy", *COMPRESSED))
    return named_so and not Path(data).is_dir()


def _target(link: tarfile.TarInfo) -> str:
    """The path in the archive that a link leads to: a symbolic one from where it lies, a hard one from the top."""
    beside = PurePosixPath(link.name).parent if link.issym() else PurePosixPath()
    return os.path.normpath(beside / link.linkname)


def _safe(archive: Path, name: str) -> str:
    """A member's path without `./`.

    Raises:
        Refused: it would lie outside of the archive.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise Refused(f"{archive}: {shown(name)} would lie outside of it. Make the archive again with relative paths")
    return path.as_posix()
