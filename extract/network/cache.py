"""Networks that were converted once, kept for the user's next processes.

A folder for each, named by the SHA-256 of its key: `about.json` with the key and each file's hash, and the files. It is
made under another name and renamed when it is whole. One that is damaged, or another's, is never used. Whatever goes
wrong here costs time and nothing else: the network is made again.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache as once
from pathlib import Path
from typing import Any, NamedTuple

from features.runtime.errors import Refused
from features.runtime.log import log

LIMIT = 4.0  # GB, unless FEATURE_STACKS_CACHE_GB says otherwise
ABOUT, MAKING = "about.json", ".making-"
ABANDONED = 3600.0  # seconds after which a folder that is still being made belongs to a process that was killed


class Found(NamedTuple):
    """What was kept under a key."""

    facts: dict[str, Any]
    contents: list[bytes]  # of the files asked for


class Entry(NamedTuple):
    """What is kept of a network: itself, or a model file's description."""

    folder: Path
    key: dict[str, Any]
    size: int  # bytes
    used: float  # seconds since 1970

    @property
    def is_network(self) -> bool:
        """Whether it is the network itself."""
        return "description" not in self.key


def cache_folder() -> Path:
    """`FEATURE_STACKS_CACHE`, else `feature-stacks` in `XDG_CACHE_HOME` or `~/.cache`."""
    given = os.environ.get("FEATURE_STACKS_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(given) if given else Path(base) / "feature-stacks"


def limit() -> int:
    """Bytes that may be kept; with 0 nothing is.

    Raises:
        Refused: `FEATURE_STACKS_CACHE_GB` is no number.
    """
    given = os.environ.get("FEATURE_STACKS_CACHE_GB") or str(LIMIT)
    try:
        return int(1e9 * max(0.0, float(given)))
    except (ValueError, OverflowError):
        raise Refused(f"FEATURE_STACKS_CACHE_GB is {given!r}: give a number of gigabytes, 0 to keep nothing") from None


def find(key: dict[str, Any], files: Sequence[str]) -> Found | None:
    """What was kept under a key, if it is there, whole, and this user's.

    The bytes that were checked are the bytes that are returned: nobody can change them in between.

    Args:
        key: JSON.
        files: names of the files to read.
    """
    place = _place(key)
    if not limit() or not place.is_dir():
        return None
    try:
        if hasattr(os, "geteuid") and os.stat(place).st_uid not in (os.geteuid(), 0):
            log.info(f"{place} belongs to another user and is not used: the network is built by Keras instead")
            return None
        about = json.loads((place / ABOUT).read_text("utf-8"))
        contents = [(place / name).read_bytes() for name in files]
        whole = about["key"] == _full(key) and about["files"] == _hashes(files, contents)
        facts = dict(about["facts"])
    except FileNotFoundError as error:
        if not place.is_dir():  # another process has just made room
            return None
        whole, facts = False, {"missing": error.filename}
    except OSError as error:  # it may be whole: what may be read again later stays
        log.info(f"{place} cannot be read ({error.strerror}): the network is built by Keras instead")
        return None
    except (ValueError, KeyError, TypeError):
        whole, facts = False, {}
    if not whole:
        log.info(f"{place} is damaged and is not used: the network is built by Keras instead")
        _remove(place)
        return None
    with contextlib.suppress(OSError):
        os.utime(place)  # the least recently used goes first
    return Found(facts, contents)


def keep(key: dict[str, Any], facts: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Keep files under a key, and make room by removing what was not used for longest.

    Args:
        key: JSON.
        facts: JSON, to be found with the files.
        write: writes the files into a folder.
    """
    place, most = _place(key), limit()
    if not most or place.is_dir():
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        making = Path(tempfile.mkdtemp(prefix=MAKING, dir=place.parent))
        try:
            write(making)
            names = sorted(path.name for path in making.iterdir())
            about = {"key": _full(key), "facts": facts}
            about["files"] = _hashes(names, [(making / name).read_bytes() for name in names])
            (making / ABOUT).write_text(json.dumps(about), "utf-8")
            if _size(making) <= most:
                making.rename(place)
        finally:
            shutil.rmtree(making, ignore_errors=True)
        _make_room(most)
    except Exception as error:  # OpenVINO raises its own when a disk is full
        if place.is_dir():  # another process was faster
            return
        reason = error.strerror if isinstance(error, OSError) else str(error).strip().splitlines()[0]
        log.info(f"the converted network cannot be kept in {place.parent} ({reason}): the next command builds it again")


def entries() -> list[Entry]:
    """All that is kept, the most recently used first; what cannot be read has an empty key."""
    found = []
    for place in cache_folder().glob("networks/*"):
        if place.name.startswith(MAKING) or not place.is_dir():
            continue
        try:
            key = dict(json.loads((place / ABOUT).read_text("utf-8"))["key"])
        except (OSError, ValueError, KeyError, TypeError):
            key = {}
        with contextlib.suppress(OSError):
            found.append(Entry(place, key, _size(place), place.stat().st_mtime))
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def clear() -> int:
    """Remove all that is kept; returns how many networks that were."""
    kept = entries()
    for entry in kept:
        _remove(entry.folder)
    shutil.rmtree(cache_folder() / "networks", ignore_errors=True)
    return sum(entry.is_network for entry in kept)


def _make_room(most: int) -> None:
    for left in cache_folder().glob(f"networks/{MAKING}*"):
        if time.time() - left.stat().st_mtime > ABANDONED:
            shutil.rmtree(left, ignore_errors=True)
    total = 0
    for entry in entries():
        total += entry.size
        if total > most:
            _remove(entry.folder)


def _remove(place: Path) -> None:
    """Remove an entry at once for whoever looks for it."""
    going = place.with_name(f"{MAKING}{os.getpid()}-{place.name}")
    try:
        place.rename(going)
    except OSError:
        return
    shutil.rmtree(going, ignore_errors=True)


def _place(key: dict[str, Any]) -> Path:
    name = hashlib.sha256(json.dumps(_full(key), sort_keys=True).encode()).hexdigest()
    return cache_folder() / "networks" / name[:32]


def _full(key: dict[str, Any]) -> dict[str, Any]:
    return {**key, "code": _code()}


@once
def _code() -> str:
    """SHA-256 (hex) of the code that builds and converts networks: another version of it may build another network."""
    digest = hashlib.sha256()
    for module in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()


def _hashes(names: Sequence[str], contents: Sequence[bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(held).hexdigest() for name, held in zip(names, contents, strict=True)}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
