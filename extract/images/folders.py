"""Which paths are images, and which class and split each is in, by the folders that it lies in."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import Image as Pillow

from extract.images.decode import FORMATS
from features import Refused
from features.runtime.errors import listed
from features.runtime.names import meant_paths
from features.schema import SPLITS
from features.source import Unreadable

Pillow.init()
# Every suffix of every format that is decoded; iPhones' too where their decoder is missing, so that they are named.
IMAGE_SUFFIXES = frozenset(suffix for suffix, name in Pillow.registered_extensions().items() if name in FORMATS) | {
    ".heic",
    ".heif",
}
# Folders that a NAS or an operating system puts beside people's own; hidden ones are skipped as well.
SYSTEM = frozenset(
    ["@eadir", "@tmp", "@recycle", "#recycle", "#snapshot", "lost+found", "$recycle.bin", "recycler", "__macosx"]
) | {"system volume information"}
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
LABELS_FILE = "meta/classes.txt"  # marks Food-101's layout


class Image(NamedTuple):
    """An image of a dataset; sorted, they are in the order of a stack's rows."""

    split: int
    path: str
    label: str
    group: str = ""


class Layout(NamedTuple):
    """The images of a dataset, whether it has a split of its own, and what its user should know, a line each."""

    images: list[Image]
    has_split: bool
    notes: list[str]


def is_image(path: str) -> bool:
    """Whether a file's suffix says that it is an image."""
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES


def image_files(folder: Path) -> Iterator[Path]:
    """Every image file in a folder and all below it, by its suffix; hidden and system folders are not looked at.

    Raises:
        Refused: a folder cannot be read.
    """
    return (folder / path for path in files_below(folder, Counter()) if is_image(path))


def files_below(folder: Path, skipped: Counter[str], by_class: bool = False) -> Iterator[str]:
    """Every file in a folder and all below it, `/`-separated; hidden ones are not looked at.

    Linked folders are followed, each once, so that a loop of links ends.

    Args:
        folder: where to look.
        skipped: counts the system folders that were skipped, by name.
        by_class: follow a linked folder once in each class folder: `val` may be a link to `test`.

    Raises:
        Refused: a folder cannot be read.
    """
    seen: set[tuple[object, ...]] = set()
    depth = 0
    for parent, folders, names in os.walk(folder, onerror=_unreadable, followlinks=True):
        inside = Path(parent).relative_to(folder)
        if by_class and not inside.parts:
            depth = 2 if any(name.lower() in SPLIT_FOLDERS for name in folders) else 1
        status = os.stat(parent)
        if (place := (*inside.parts[:depth], status.st_dev, status.st_ino)) in seen:
            folders.clear()
            continue
        seen.add(place)
        skipped.update(name for name in folders if name.lower() in SYSTEM)
        folders[:] = sorted(name for name in folders if not _is_skipped(name))
        yield from ((inside / name).as_posix() for name in sorted(names) if not name.startswith("."))


def without_skipped(paths: Iterable[str], skipped: Counter[str]) -> Iterator[str]:
    """The paths of an archive that do not lie in hidden or system folders; see `files_below`."""
    for path in paths:
        *folders, name = PurePosixPath(path).parts
        system = [folder for folder in folders if folder.lower() in SYSTEM]
        skipped.update(set(system))
        if not name.startswith(".") and not any(map(_is_skipped, folders)):
            yield path


def by_folders(files: Sequence[str], read_text: Callable[[str], str], place: str) -> Layout:
    """The images among the files of a dataset.

    Args:
        files: paths relative to the dataset's folder.
        read_text: reads a text file among them.
        place: the dataset, for messages.

    Raises:
        Refused: the layout is none that is known, or one with a part missing.
    """
    if LABELS_FILE in files:
        in_lists = _food101(read_text, place)
        lost = {image.path for image in in_lists}.difference(files)
        meant = meant_paths(sorted(lost), files, "")  # what is still lost is rejected when it is read
        return Layout([i._replace(path=meant.paths.get(i.path, i.path)) for i in in_lists], True, meant.notes)
    images = [path for path in files if is_image(path)]
    tops = {path.split("/")[0] for path in images if "/" in path}
    notes = _left_out(files)
    if any(top.lower() in SPLIT_FOLDERS for top in tops):
        if strangers := sorted(top for top in tops if top.lower() not in SPLIT_FOLDERS):
            raise Refused(
                f"{place} has train/val/test folders and {listed(strangers)} beside them. If these are classes, give "
                "train/ and test/ folders of class folders, or class folders alone; move others elsewhere."
            )
        return _split_folders(images, files, place, notes)
    if images and not tops:
        return Layout([Image(0, path, "") for path in images], False, notes)  # photos, and no classes
    inside, loose = _in_classes([(path, path, 0) for path in images])
    notes += _loose(loose, "the class folders") + _empty_classes(files, inside, 0)
    if inside and all(image.path.count("/") > 1 for image in inside):
        at = inside[0].path.rpartition("/")[0]
        notes.append(f"class folders hold folders, and the outer one is the class: {at} is {inside[0].label}")
    return Layout(inside, False, notes)


def settle_split(layout: Layout, place: str) -> Layout:
    """The layout with rows to test on: its own; else its validation rows; else none, so that a share is set aside.

    Raises:
        Refused: nothing is there to train on.
    """
    splits = {image.split for image in layout.images}
    if not layout.has_split or not splits or {SPLITS["train"], SPLITS["test"]} <= splits:
        return layout
    if SPLITS["train"] not in splits:
        raise Refused(
            f"{place} is split, but has no images for train. Call the images to learn from train, or give images "
            "without a split: a quarter of each class is then set aside to test on."
        )
    if SPLITS["val"] in splits:
        images = [i._replace(split=SPLITS["test"]) if i.split == SPLITS["val"] else i for i in layout.images]
        note = "there are no test images: the validation images are the test rows, and nothing is chosen by them"
        return Layout(images, True, [*layout.notes, note])
    note = "there are no test images: a seeded quarter of each class is set aside to test on"
    return Layout(layout.images, False, [*layout.notes, note])


def _split_folders(images: list[str], files: Sequence[str], place: str, notes: list[str]) -> Layout:
    """`train/cats/1.jpg` and so on."""
    parts = [(path, *path.split("/", 1)) for path in images if "/" in path]
    inside, loose = _in_classes([(path, rest, SPLITS[SPLIT_FOLDERS[top.lower()]]) for path, top, rest in parts])
    if not inside:
        raise Refused(
            f"{place} has split folders without class folders in them. Expected train/<class>/image.jpg. "
            "Features without labels: give one of these folders itself."
        )
    loose += [path for path in images if "/" not in path]
    return Layout(inside, True, notes + _loose(loose, "the class folders") + _empty_classes(files, inside, 1))


def _in_classes(images: Sequence[tuple[str, str, int]]) -> tuple[list[Image], list[str]]:
    """Images by the first folder of (path, path below the split's folder, split), and the paths in none."""
    inside = [Image(split, path, below.split("/")[0]) for path, below, split in images if "/" in below]
    return inside, [path for path, below, _ in images if "/" not in below]


def _left_out(files: Sequence[str]) -> list[str]:
    """A line that counts the files that are no images by their suffix."""
    others = Counter(os.path.splitext(path)[1].lower() or "without suffix" for path in files if not is_image(path))
    most = sorted(others.items(), key=lambda item: (-item[1], item[0]))[:5]
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in most)
    more = f" and {len(others) - 5} more kinds" if len(others) > 5 else ""
    return [f"{others.total()} files are not images that can be read here: {kinds}{more}"] if others else []


def _loose(paths: list[str], beside: str) -> list[str]:
    return [f"{len(paths)} images lie beside {beside} and are left out: {listed(paths)}"] if paths else []


def _empty_classes(files: Sequence[str], images: list[Image], depth: int) -> list[str]:
    """A line that names the class folders that have files but no images."""
    folders = {path.split("/")[depth] for path in files if path.count("/") > depth}
    empty = sorted(folders - {image.label for image in images})
    return [f"{len(empty)} class folders have no images, so they are no classes: {listed(empty)}"] if empty else []


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM


def _unreadable(error: OSError) -> None:
    """Refuse an unreadable folder: `os.walk` would skip it, and a class would be missing in silence."""
    raise Refused(f"{error.filename} cannot be read: {error.strerror}. Let this user read it, or move it elsewhere.")


def _food101(read_text: Callable[[str], str], place: str) -> list[Image]:
    images = []
    seen: dict[str, str] = {}
    for split in ("train", "test"):
        name = f"meta/{split}.txt"
        try:
            lines = read_text(name).splitlines()
        except (Unreadable, UnicodeDecodeError) as error:
            raise Refused(f"{place}/{name} cannot be read: {error}") from None
        for number, line in enumerate(lines, 1):
            label, slash, image = line.strip().partition("/")
            if not (label and slash and image):
                raise Refused(f"{place}/{name} line {number}: expected class/id, got {line!r}")
            if line.strip() in seen:
                raise Refused(f"{place}/{name} line {number}: {line.strip()} is there already, in {seen[line.strip()]}")
            seen[line.strip()] = f"{split}.txt line {number}"
            images.append(Image(SPLITS[split], f"images/{label}/{image}.jpg", label))
    return images
