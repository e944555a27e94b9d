"""List a dataset's images, labels and split in any of four layouts, without opening an image."""

import csv
import dataclasses
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from extract.images.digits import render_digits
from extract.images.download import FOOD101, fetch
from features import Refused
from features.runtime.errors import listed, shown
from features.schema import SPLITS, UNLABELLED

# fmt: off
IMAGE_SUFFIXES = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp",
    ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".avif", ".heic", ".heif",
])
# fmt: on
# Datasets with a name → function that makes one, where it is not there yet, and returns its folder.
NAMED: dict[str, Callable[[], Path]] = {"digits": render_digits, FOOD101.name: partial(fetch, FOOD101)}
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@dataclasses.dataclass(frozen=True)
class Listing:
    """The images of a dataset, in the order of the stack's rows: by split where there is one, then by path.

    Attributes:
        name: of the dataset, for file names.
        root: absolute folder that `paths` are relative to.
        paths: (rows,) POSIX paths.
        labels: (rows,) int64 index into `label_names`, -1 where there is none.
        label_names: sorted class names.
        split: (rows,) uint8 of `SPLITS`, or None where the dataset has none of its own.
        nameless: those of `paths` that are escaped, because the file's own name is not UTF-8: such a file cannot be
            named in a stack, and is rejected.
    """

    name: str
    root: Path
    paths: list[str]
    labels: np.ndarray
    label_names: list[str]
    split: np.ndarray | None
    nameless: frozenset[str] = frozenset()

    def stats(self) -> tuple[np.ndarray, np.ndarray]:
        """Size in bytes and modification time in ns of every file, two (rows,) int64; -1 where there is no file."""
        stats = np.full((2, len(self.paths)), -1, "i8")
        for i, path in enumerate(self.paths):
            try:
                status = os.stat(self.root / path)
            except OSError:
                continue
            stats[:, i] = status.st_size, status.st_mtime_ns
        return stats[0], stats[1]


@dataclasses.dataclass(frozen=True, order=True)
class _Image:
    split: int
    path: str
    label: str


def scan(data: str, classes: int | None = None) -> Listing:
    """List a dataset.

    Args:
        data: folder of class folders; of train/val/test folders of those; in Food-101's layout; a CSV manifest
            (path,label[,split]); or the name of a dataset.
        classes: keep this many classes, the first by name.

    Raises:
        Refused: there is nothing to list, fewer than two classes, or the layout is none of these.
    """
    made = NAMED[data]() if data in NAMED and not Path(data).exists() else Path(data)
    place = made.resolve()
    if place.is_file():
        try:
            root, images, has_split = place.parent, *_manifest(place)
        except (UnicodeDecodeError, csv.Error) as error:
            raise Refused(f"{data} is no CSV manifest in UTF-8: {error}") from None
    elif not place.is_dir():
        raise Refused(f"no dataset at {data}: no such folder or manifest (datasets with a name: {', '.join(NAMED)})")
    elif (place / "meta" / "classes.txt").is_file():
        root, images, has_split = place, _food101(place), True
    elif any(child.name.lower() in SPLIT_FOLDERS for child in _folders(place)):
        root, images, has_split = place, _split_folders(place), True
    else:
        root, images, has_split = place, _class_folders(place, place, "train"), False
    if not images:
        raise Refused(
            f"no images in {data}. Expected one folder a class, each with image files in it, or a CSV manifest."
        )
    names = sorted({image.label for image in images if image.label})
    if classes is not None:
        if not 2 <= classes <= len(names):
            raise Refused(f"--classes {classes}: {data} has {len(names)} classes; give a number from 2 to that")
        names = names[:classes]
        images = [image for image in images if image.label in names]
    if len(names) < 2:
        only = f"only one class, {names[0]!r}" if names else "no labels"
        raise Refused(
            f"{data} has {only}: a classifier needs two. Expected one folder a class, or a manifest with labels."
        )
    if odd := [name for name in names if not _is_utf8(name)]:
        raise Refused(f"{len(odd)} class names in {data} are not UTF-8: {listed(odd)}. Rename these folders.")
    nameless = frozenset(shown(image.path) for image in images if not _is_utf8(image.path))
    images = [i if _is_utf8(i.path) else dataclasses.replace(i, path=shown(i.path)) for i in images]
    images.sort()
    index = {name: i for i, name in enumerate(names)} | {"": UNLABELLED}
    name = place.stem if place.is_file() else place.name
    return Listing(
        name=f"{name}-{classes}classes" if classes else name,
        root=root,
        paths=[image.path for image in images],
        labels=np.array([index[image.label] for image in images], "i8"),
        label_names=names,
        split=np.array([image.split for image in images], "u1") if has_split else None,
        nameless=nameless,
    )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # the file system's odd bytes, which Python carries as surrogates
        return False
    return True


def _folders(place: Path) -> list[Path]:
    return sorted(child for child in place.iterdir() if child.is_dir() and not child.name.startswith("."))


def _class_folders(place: Path, root: Path, split: str) -> list[_Image]:
    """Every image file below each folder of `place`, labelled with that folder's name."""
    images = []
    for folder in _folders(place):
        files = image_files(folder)
        images += [_Image(SPLITS[split], file.relative_to(root).as_posix(), folder.name) for file in files]
    return images


def image_files(folder: Path) -> Iterator[Path]:
    """Every image file in a folder and all below it, by its suffix; hidden ones are not looked at.

    Raises:
        Refused: a folder cannot be read.
    """
    for parent, names in _walk(folder):
        for name in names:
            if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield Path(parent) / name


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """(folder, file names) of a folder and all below it; linked folders too, each once, so a loop of links ends."""
    seen = set()
    for parent, folders, names in os.walk(folder, onerror=_unreadable, followlinks=True):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield parent, sorted(name for name in names if not name.startswith("."))


def _unreadable(error: OSError) -> None:
    """Refuse an unreadable folder: `os.walk` would skip it, and a class would be missing in silence."""
    raise Refused(f"{error.filename} cannot be read: {error.strerror}. Let this user read it, or move it elsewhere.")


def _split_folders(root: Path) -> list[_Image]:
    folders = _folders(root)
    if strangers := [f.name for f in folders if f.name.lower() not in SPLIT_FOLDERS]:
        raise Refused(
            f"{root} has train/val/test folders and {listed(strangers)} beside them: is that a split or a class?"
        )
    images = [image for f in folders for image in _class_folders(f, root, SPLIT_FOLDERS[f.name.lower()])]
    if not {SPLITS["train"], SPLITS["test"]} <= {image.split for image in images}:
        raise Refused(f"{root} is split, but has no images for train or none for test")
    return images


def _food101(root: Path) -> list[_Image]:
    images = []
    seen: dict[str, str] = {}
    for split in ("train", "test"):
        file = root / "meta" / f"{split}.txt"
        try:
            lines = file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"{file} cannot be read: {getattr(error, 'strerror', error)}") from None
        for number, line in enumerate(lines, 1):
            label, slash, name = line.strip().partition("/")
            if not (label and slash and name):
                raise Refused(f"{file} line {number}: expected class/id, got {line!r}")
            if line.strip() in seen:
                raise Refused(f"{file} line {number}: {line.strip()} is there already, in {seen[line.strip()]}")
            seen[line.strip()] = f"{file.name} line {number}"
            images.append(_Image(SPLITS[split], f"images/{label}/{name}.jpg", label))
    return images


def _manifest(path: Path) -> tuple[list[_Image], bool]:
    """A CSV with the columns path, label and perhaps split; paths are relative to the manifest's folder."""
    images: list[_Image] = []
    missing: list[str] = []
    seen: dict[str, int] = {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        columns = rows.fieldnames or []
        if not {"path", "label"} <= set(columns):
            raise Refused(
                f"{path} has the columns {', '.join(columns) or '(none)'}; expected path,label or path,label,split"
            )
        for row in rows:
            where = f"{path} line {rows.line_num}"
            if None in row or None in row.values():
                raise Refused(f"{where}: expected {len(columns)} fields ({', '.join(columns)}), as in the first line")
            split = (row.get("split") or "train").strip().lower()
            name = Path((row["path"] or "").strip()).as_posix()
            if split not in SPLIT_FOLDERS:
                raise Refused(f"{where}: split {split!r} is none of {', '.join(SPLITS)}")
            if name in seen:
                raise Refused(f"{where}: {name} is there already, on line {seen[name]}")
            seen[name] = rows.line_num
            if not (path.parent / name).is_file():
                missing.append(f"line {rows.line_num}: {name}")
            images.append(_Image(SPLITS[SPLIT_FOLDERS[split]], name, (row["label"] or "").strip()))
    if missing:
        raise Refused(f"{path} names {len(missing)} files that are not there: {listed(missing)}")
    return images, "split" in columns
