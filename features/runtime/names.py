"""Names as people and other systems write them → those that are there.

Macs write é as two characters, most others as one; Windows ignores case and writes `\\`; tables come with the folders
of the machine that they were made on. A name is only taken for another where no third could be meant.
"""

import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from features.runtime.errors import listed


def composed(name: str) -> str:
    """A name with each accent in its letter (NFC), however it was encoded."""
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return composed(composed(name).casefold())


SPELLINGS: tuple[Callable[[str], str], ...] = (str, composed, _folded)  # what is compared, the strictest first


def same_name(name: str, names: Iterable[str]) -> str:
    """That of some names which differs from a name by nothing but the encoding of accents; the name if none does."""
    there = list(names)
    alike = [each for each in there if composed(each) == composed(name)]
    return alike[0] if name not in there and len(alike) == 1 else name


def on_disk(path: str) -> str:
    """A path as it is on the disk, where accents may be encoded otherwise; the path itself where there is none."""
    here = Path(path)
    if composed(path) == path == unicodedata.normalize("NFD", path) or here.exists() or here == here.parent:
        return path
    parent = Path(on_disk(str(here.parent)))
    found = parent / same_name(here.name, [file.name for file in parent.iterdir()] if parent.is_dir() else [])
    return str(found) if found.exists() else path


class Meant(NamedTuple):
    """What some paths mean.

    Attributes:
        paths: path as it was given → the one that is there.
        several: path as it was given → those that it may mean.
        notes: how they differ, a line each.
    """

    paths: Mapping[str, str]
    several: Mapping[str, list[str]]
    notes: list[str]


def meant_paths(given: Iterable[str], there: Iterable[str], root: str) -> Meant:
    """Match paths with those of a dataset.

    A path may be written in Windows' manner, lack its suffix, or differ by case or the encoding of accents. If that
    does not help, it may lie below a folder elsewhere, `C:\\photos\\pets`, which becomes the dataset's: the folder that
    explains most paths.

    Args:
        given: as somebody wrote them.
        there: `/`-separated, relative to the dataset's folder.
        root: that folder's name; a relative path may begin with it.
    """
    given = list(given)
    if not given:
        return Meant({}, {}, [])
    known = _Paths(there)
    found = {path: known.find(path) for path in given}
    notes = []
    while votes := _elsewhere([path for path, paths in found.items() if not paths], known, root):
        ranks = {folder: (len(below), _is_named(folder, root)) for folder, below in votes.items()}
        for folder in (best := [folder for folder, rank in ranks.items() if rank == max(ranks.values())]):
            for path, paths in votes[folder].items():
                found[path] = sorted({*found[path], *paths})
        notes.append(f"paths below {' and '.join(best)} are taken for paths here")
    only = {path: paths[0] for path, paths in found.items() if len(paths) == 1}
    others = [there for path, there in only.items() if not _posix(path).endswith((there, _stem(there)))]
    if others:
        notes.append(f"{len(others)} names match but for case or the encoding of accents: {listed(others)}")
    return Meant(only, {path: paths for path, paths in found.items() if len(paths) > 1}, notes)


class _Paths:
    """The paths that are there, by each of `SPELLINGS`, with and without their suffixes."""

    def __init__(self, there: Iterable[str]) -> None:
        self._whole: list[dict[str, list[str]]] = [defaultdict(list) for _ in SPELLINGS]
        self._stems: list[dict[str, list[str]]] = [defaultdict(list) for _ in SPELLINGS]
        for path in there:
            for spelled, whole, stems in zip(SPELLINGS, self._whole, self._stems, strict=True):
                whole[spelled(path)].append(path)
                stems[spelled(_stem(path))].append(path)

    def find(self, path: str) -> list[str]:
        """Those that a path may mean."""
        keys = [spelled(_posix(path)) for spelled in SPELLINGS]
        for by_name in (self._whole, self._stems):
            for key, paths in zip(keys, by_name, strict=True):
                if same := paths.get(key):
                    return same
        return []


def _elsewhere(lost: list[str], known: _Paths, root: str) -> dict[str, dict[str, list[str]]]:
    """Folder elsewhere → path below it → those that the path means if that folder is the dataset's."""
    votes: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for path in lost:
        parts = _posix(path).split("/")
        is_absolute = parts[0] == "" or parts[0].endswith(":")  # /home/…, //server/…, C:/…
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if (is_absolute or _is_named(folder, root)) and (same := known.find("/".join(parts[depth:]))):
                votes[folder][path] = same
    return votes


def _is_named(folder: str, root: str) -> bool:
    return _folded(posixpath.basename(folder)) == _folded(root)


def _posix(path: str) -> str:
    return posixpath.normpath(path.replace("\\", "/"))


def _stem(path: str) -> str:
    return posixpath.splitext(path)[0]
