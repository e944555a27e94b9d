"""Datasets that are downloaded: resumed after a break, checked, unpacked where nothing can escape.

Of this, the library for it (pooch) lacks the first: a download of 5 GB that breaks off begins again.
"""

import dataclasses
import hashlib
import shutil
import tarfile
import time
import zlib
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from features import Failed
from features.runtime.disk import sync_all
from features.runtime.errors import shown
from features.runtime.lock import writer_lock
from features.runtime.log import log
from features.runtime.progress import progress

PIECE = 1 << 20
UNPACKED = 1.1  # times the archive's size: images are compressed already
SILENCE = 60  # seconds without a byte, after which a connection has broken


@dataclasses.dataclass(frozen=True)
class Archive:
    """A dataset that somebody publishes as one .tar.gz.

    Attributes:
        name: what people call it, and its folder here.
        url: where it is.
        size: in bytes.
        md5: as published.
        inside: the folder in the archive that is the dataset.
    """

    name: str
    url: str
    size: int
    md5: str
    inside: str


FOOD101 = Archive(
    "food101",
    "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
    4_996_278_331,
    "85eeb15f3717b99a5da872d97d918f87",
    "food-101",
)


def fetch(archive: Archive, place: Path = Path("data")) -> Path:
    """Download and unpack a dataset as `place/<name>`, once. An interrupted download goes on where it stopped.

    An archive that lies in `place` already, got by other means, is taken if it is the published one.

    Returns:
        the folder.

    Raises:
        Failed: no network, another file there than was published, too little disk; or the archive holds what would
            land outside of its folder.
        Refused: another process is at it.
    """
    folder, file = place / archive.name, place / Path(archive.url).name
    if folder.is_dir():
        return folder
    with writer_lock(folder):
        if folder.is_dir():  # another process made it since
            return folder
        if file.exists():
            if (md5 := _md5(file)) != archive.md5:
                raise Failed(f"{file} has MD5 {md5}, expected {archive.md5}. It is kept: replace or remove it")
        else:
            partial = file.with_name(file.name + ".partial")
            _check_space(place, archive, archive.size - _size(partial))
            _download(archive, partial, file)
            if (md5 := _md5(partial)) != archive.md5:
                partial.unlink()
                raise Failed(f"{archive.url} has MD5 {md5}, expected {archive.md5}. It was removed; {_else(archive)}")
            partial.replace(file)
        _check_space(place, archive, 0)
        _unpack(archive, file, folder)
    return folder


def _download(archive: Archive, partial: Path, file: Path) -> None:
    """Fill `partial` to the archive's size. Ask again as long as each request brings more bytes."""
    began, at_first = time.perf_counter(), _size(partial)
    if at_first:
        log.info(f"going on with {partial} at {_gigabytes(at_first)}")
    with progress(total=archive.size, initial=at_first, unit="B", unit_scale=True) as bar:
        while (there := _size(partial)) < archive.size:
            try:
                why = _ask(archive, partial, there, bar)
            except HTTPError as error:
                raise Failed(_unavailable(archive, file, str(error))) from None
            except (OSError, HTTPException, ValueError) as error:
                why = str(getattr(error, "reason", error) or type(error).__name__)
            if _size(partial) <= there:
                raise Failed(_unavailable(archive, file, why))
    seconds = time.perf_counter() - began
    log.info(f"downloaded {_gigabytes(archive.size - at_first)} in {seconds:.0f} s")


def _ask(archive: Archive, partial: Path, there: int, bar: Any) -> str:
    """Request the missing bytes and append them; start over if the server cannot resume."""
    wanted = {"Range": f"bytes={there}-"} if there else {}
    with urlopen(Request(archive.url, headers=wanted), timeout=SILENCE) as answer:
        if answer.status == 206:
            span, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
            start = int(span.split("-")[0])
        else:
            start, total = 0, answer.headers.get("Content-Length", "")
        if total.isdigit() and int(total) != archive.size:
            raise Failed(f"{archive.url} has {int(total):,} bytes, expected {archive.size:,}; {_else(archive)}")
        with open(partial, "r+b" if there else "wb") as file:
            file.seek(start)
            file.truncate()
            bar.update(start - there)
            while start < archive.size and (piece := answer.read(min(PIECE, archive.size - start))):
                file.write(piece)
                start += len(piece)
                bar.update(len(piece))
    return f"the connection broke at {_gigabytes(start)} of {_gigabytes(archive.size)}"


def _unpack(archive: Archive, file: Path, folder: Path) -> None:
    unfinished = folder.with_name(folder.name + ".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    count = 0
    try:
        with (
            tarfile.open(file, "r|gz") as members,
            progress(unit="files") as bar,
        ):
            for member in members:
                _check(file, member)
                # The check above is for every Python; 3.11.4 and later have tarfile's own.
                members.extract(member, unfinished, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # type: ignore[arg-type]
                count += member.isfile()
                bar.update()
        if not (unfinished / archive.inside).is_dir():
            raise Failed(f"{file} holds no folder {archive.inside}")
        sync_all()  # so that a power loss finds no empty images under the dataset's name
        (unfinished / archive.inside).replace(folder)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise Failed(f"{file} cannot be unpacked: {error}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    log.info(f"unpacked {count:,} files to {folder}; {file} ({_gigabytes(_size(file))}) may go")


def _check(file: Path, member: tarfile.TarInfo) -> None:
    """Raise Failed unless the member is a plain file or folder inside the target folder."""
    path = PurePosixPath(member.name)
    if not (member.isreg() or member.isdir()):
        what = "is a link" if member.issym() or member.islnk() else "is no file"
        raise Failed(f"{file}: {shown(member.name)} {what}; nothing was unpacked")
    if path.is_absolute() or ".." in path.parts:
        raise Failed(f"{file}: {shown(member.name)} would land outside of its folder; nothing was unpacked")


def _check_space(place: Path, archive: Archive, download: int) -> None:
    """Raise Failed if the disk cannot hold the rest of the download and the unpacked files."""
    needed, free = int(download + UNPACKED * archive.size), shutil.disk_usage(place).free
    if free < needed:
        raise Failed(f"{archive.name} needs {_gigabytes(needed)} in {place}, where {_gigabytes(free)} are free")


def _unavailable(archive: Archive, file: Path, why: str) -> str:
    return (
        f"{archive.name} cannot be downloaded ({why}). Run the command again to go on, or get {archive.url} on a "
        f"machine with a network and put it at {file} ({archive.size:,} bytes, MD5 {archive.md5}); or {_else(archive)}"
    )


def _else(archive: Archive) -> str:
    return f"give a folder of images instead of {archive.name}: DATA=folder, or DATA=digits, which needs no network"


def _md5(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size:,.0f} bytes"
