"""List a dataset's images, labels, split and groups, without opening an image."""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from extract.images.corrections import Corrections
from extract.images.digits import render_digits
from extract.images.download import FOOD101, fetch
from extract.images.folders import Image, Layout, by_folders, files_below, settle_split, without_skipped
from extract.images.manifest import read_manifest
from features import Refused
from features.archive import IN_ARRAY, Archive, Array, is_file_of_images, open_source
from features.runtime.errors import listed, shown
from features.runtime.names import on_disk
from features.schema import SPLITS, UNLABELLED, Correction
from features.source import Source

# Datasets with a name → function that makes one, where it is not there yet, and returns its folder.
NAMED: dict[str, Callable[[], Path]] = {"digits": render_digits, FOOD101.name: partial(fetch, FOOD101)}
FEW = 20  # images: with fewer, labels are not questioned
EXPECTED = "Expected one folder a class, each with image files in it, or a CSV manifest with a label for each image."


@dataclasses.dataclass(frozen=True)
class Listing:
    """The images of a dataset, in the order of the stack's rows: by split where there is one, then by path.

    Attributes:
        name: of the dataset, for file names.
        root: absolute folder that `paths` are relative to, or archive; see `open_source`.
        paths: (rows,) POSIX paths.
        labels: (rows,) int64 index into `label_names`, -1 where there is none.
        label_names: sorted class names; empty where no image has a label.
        split: (rows,) uint8 of `SPLITS`, or None where the dataset has none of its own.
        nameless: those of `paths` that are escaped, because the file's own name is not UTF-8: such a file cannot be
            named in a stack, and is rejected.
        groups: (rows,) names of what images belong to, empty where to nothing; None where the dataset has no groups.
        notes: what its user should know, a line each.
        corrections: that were applied, if any were.
    """

    name: str
    root: Path
    paths: list[str]
    labels: np.ndarray
    label_names: list[str]
    split: np.ndarray | None
    nameless: frozenset[str] = frozenset()
    groups: list[str] | None = None
    notes: tuple[str, ...] = ()
    corrections: Corrections | None = None

    @property
    def source(self) -> Source:
        """Where the images are read."""
        return open_source(self.root)

    @property
    def corrected(self) -> tuple[Correction, ...]:
        """What was corrected, line by line."""
        return self.corrections.entries if self.corrections else ()

    def stats(self) -> tuple[np.ndarray, np.ndarray]:
        """Size in bytes and modification time in ns of every file, two (rows,) int64; -1 where there is no file."""
        source = self.source
        stats = np.array([source.stat(path) for path in self.paths], "i8").reshape(-1, 2)
        return stats[:, 0], stats[:, 1]


def scan(
    data: str,
    classes: int | None = None,
    columns: str | None = None,
    group: str | None = None,
    corrections: Corrections | None = None,
) -> Listing:
    """List a dataset.

    Args:
        data: folder of class folders; of train/val/test folders of those; in Food-101's layout; or of images alone; a
            .tar or .zip file of any of these; an array, `x.npy` or `x.h5::dataset`; a manifest; or a name in `NAMED`.
        classes: keep this many classes, the first by name.
        columns, group: see `read_manifest`.
        corrections: to apply.

    Raises:
        Refused: there is nothing to list, only one class, or the layout is none of these.
    """
    made = NAMED[data]() if data in NAMED and not Path(data).exists() else Path(on_disk(data))
    place = made.resolve()
    is_manifest = place.is_file() and not is_file_of_images(data)
    if (columns or group) and not is_manifest:
        raise Refused(f"--columns and --group are for CSV manifests, and {data} is none")
    if is_manifest:
        root, layout = place.parent, read_manifest(place, columns, group)
    else:
        root, layout = _found(place, data)
    layout = settle_split(layout, data)
    if not layout.images:
        raise Refused(f"no images in {data}. {EXPECTED}" + "".join(f" ({note}.)" for note in layout.notes))
    if corrections:
        corrections = corrections.meant_for(layout, root.name)
        layout = corrections.applied(layout)
    return dataclasses.replace(_listing(_name(place), root, layout, data, classes), corrections=corrections)


def _found(place: Path, data: str) -> tuple[Path, Layout]:
    """The images of a folder, an archive or an array."""
    skipped: Counter[str] = Counter()
    if is_file_of_images(data):
        file = Path(str(place).partition(IN_ARRAY)[0])
        if not file.is_file():
            raise Refused(f"no dataset at {data}: no such file")
        source = open_source(place)
        if isinstance(source, Array):
            return place, _array(source)
        assert isinstance(source, Archive)
        files = list(without_skipped(source.paths(), skipped))
    elif place.is_dir():
        source, files = open_source(place), list(files_below(place, skipped, by_class=True))
    else:
        raise Refused(f"no dataset at {data}: no such folder or manifest (datasets with a name: {', '.join(NAMED)})")
    top = _single_top(files) if is_file_of_images(data) else ""
    inside = [path.removeprefix(top) for path in files]
    below = by_folders(inside, lambda path: source.read(top + path).data.decode(), data)
    images = [image._replace(path=top + image.path) for image in below.images]
    system = [f"system folders were skipped: {listed(sorted(skipped))}"] if skipped else []
    return place, Layout(images, below.has_split, [*system, *below.notes])


def _single_top(files: list[str]) -> str:
    """`pets/` for an archive that holds nothing but a folder `pets` with class or split folders in it."""
    tops = {path.split("/")[0] for path in files}
    deep = [path for path in files if path.count("/") > 1]
    return f"{tops.pop()}/" if len(tops) == 1 and deep else ""


def _array(source: Array) -> Layout:
    labels = source.labels()
    paths = list(source.paths())
    if labels is None:
        return Layout([Image(0, path, "") for path in paths], False, [])
    named = ["" if isinstance(label, int) and label < 0 else str(label) for label in labels.tolist()]
    images = [Image(0, path, label) for path, label in zip(paths, named, strict=True)]
    return Layout(images, False, ["labels are those of `labels`, beside the images"])


def _name(place: Path) -> str:
    """The dataset's name: that of its folder, or of its file without the suffix."""
    file, _, dataset = str(place).partition(IN_ARRAY)
    name = Path(file).name if place.is_dir() else Path(file).stem
    return "-".join([name, *filter(None, dataset.split("/"))])


def _listing(name: str, root: Path, layout: Layout, data: str, classes: int | None) -> Listing:
    images, notes = layout.images, list(layout.notes)
    names = sorted({image.label for image in images if image.label})
    if classes is not None:
        if not 2 <= classes <= len(names):
            raise Refused(f"--classes {classes}: {data} has {len(names)} classes; give a number from 2 to that")
        names = names[:classes]
        images = [image for image in images if image.label in names]
    notes += _check_labels(names, images, data)
    if odd := [name for name in names if not _is_utf8(name)]:
        raise Refused(f"{len(odd)} class names in {data} are not UTF-8: {listed(odd)}. Rename these folders.")
    nameless = frozenset(shown(image.path) for image in images if not _is_utf8(image.path))
    images = sorted(i if _is_utf8(i.path) else i._replace(path=shown(i.path)) for i in images)
    notes += _divided_groups(images) if layout.has_split else []
    index = {name: i for i, name in enumerate(names)} | {"": UNLABELLED}
    return Listing(
        name=f"{name}-{classes}classes" if classes else name,
        root=root,
        paths=[image.path for image in images],
        labels=np.array([index[image.label] for image in images], "i8"),
        label_names=names,
        split=np.array([image.split for image in images], "u1") if layout.has_split else None,
        nameless=nameless,
        groups=[image.group for image in images] if any(image.group for image in images) else None,
        notes=tuple(notes),
    )


def _check_labels(names: list[str], images: list[Image], data: str) -> list[str]:
    """What is odd about the labels.

    Raises:
        Refused: there is one class, or the labels are measurements.
    """
    if not names:
        return [
            f"{data} has no class folders or labels: its images are unlabelled. Their features can be used elsewhere; "
            "classifiers need labels (docs/data.md says how to add them)"
        ]
    if len(names) == 1:
        below = [f"/{image.path}".partition(f"/{names[0]}/")[2] for image in images]
        inside = {path.split("/")[0] for path in below if "/" in path}
        way = f"The folders inside it look like classes: give DATA={data}/{names[0]}"
        way = way if len(inside) > 1 else f"{EXPECTED} {_without_labels(images, data)}"
        raise Refused(f"{data} has only one class, {names[0]!r}: a classifier needs two. {way}")
    labelled = sum(bool(image.label) for image in images)
    many = len(names) > labelled / 2 and labelled >= FEW
    plain = [name.replace(",", ".") for name in names]  # as much of Europe writes them
    numbers = [float(name) for name in plain if re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", name, re.IGNORECASE)]
    if len(numbers) == len(names) and (many or (len(names) > FEW and any(not n.is_integer() for n in numbers))):
        raise Refused(
            f"the labels of {data} look like a measurement: {len(names)} different numbers for {labelled} images. "
            "A classifier needs classes: put the numbers into a few ranges, low and high for example; or take the "
            "features without labels, of a manifest with --columns label="
        )
    notes = []
    if many:
        notes.append(
            f"there are {len(names)} classes for {labelled} images: most have one image, so nothing can learn them"
        )
    several = [name for name in names if re.search(r"[;|]", name)]
    if several:
        notes.append(
            f"{len(several)} labels look like several labels in one: {listed(several)}. Each combination is a class of "
            "its own here; to tell whether one label is there, make a manifest with yes and no for it"
        )
    return notes


def _without_labels(images: list[Image], data: str) -> str:
    """A sentence on how the images of a single class give features all the same."""
    if IN_ARRAY in data:
        way = "an array without `labels` beside it"
    elif is_file_of_images(data):
        way = "an archive of its images alone, in no folder"
    elif Path(data).is_file():
        way = "--columns label= (FIELDS=label=)"
    else:
        way = f"the folder of the images itself: DATA={data}/{PurePosixPath(min(images).path).parent}"
    return f"For features without labels, give {way}"


def _divided_groups(images: list[Image]) -> list[str]:
    """A line that names the groups that the dataset's own split divides."""
    test = {image.group for image in images if image.split == SPLITS["test"] and image.group}
    both = sorted(test & {image.group for image in images if image.split != SPLITS["test"]})
    said = f"{len(both)} of {len(test)} groups in test are in train too, so scores there are too high: {listed(both)}"
    return [said] if both else []


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # the file system's odd bytes, which Python carries as surrogates
        return False
    return True
