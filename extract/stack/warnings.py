"""Warnings about a dataset whose files can all be read: said each time, and never mended in silence."""

import unicodedata

import numpy as np

from extract.stack.changes import Recorded
from extract.stack.leakage import leaked
from features.runtime.errors import listed
from features.schema import SPLITS, UNLABELLED

UNEVEN = 100  # times as many train images in the largest class as in the smallest are worth a warning


def warnings_about(images: Recorded) -> list[str]:
    """One line each: images in train and in test, or under two labels; class names that differ by case alone; classes
    without train images, or with a hundred times fewer than another."""
    lines = []
    if copies := leaked(images):
        pairs = listed([f"{path} = {twin}" for path, twin in copies.items()])
        lines.append(
            f"{len(copies)} train images are in test too, so scores there are too high: {pairs}. "
            "--no-leakage leaves the train copies out."
        )
    if twice := _two_labels(images):
        lines.append(f"{len(twice)} images are there under two labels, one of which is wrong: {listed(twice)}")
    if alike := _alike(images.label_names):
        lines.append(f"class names that differ only by case or accents are kept apart: {listed(alike)}")
    train = np.bincount(
        images.labels[(images.split != SPLITS["test"]) & (images.labels != UNLABELLED)],
        minlength=len(images.label_names),
    )
    if none := [images.label_names[label] for label in np.flatnonzero(train == 0)]:
        lines.append(f"{len(none)} classes have no train images, so nothing can learn them: {listed(none)}")
    if not images.label_names:
        return lines
    least, most = (int(pick(np.where(train, train, train.max()))) for pick in (np.argmin, np.argmax))
    if train[most] >= UNEVEN * train[least]:
        lines.append(
            f"classes are uneven: {train[most]} train images of {images.label_names[most]}, {train[least]} of "
            f"{images.label_names[least]}. Read balanced accuracy and macro F1, and try --balance in stage two."
        )
    return lines


def _two_labels(images: Recorded) -> list[str]:
    """`a/1.jpg = b/2.jpg` for images of the same bytes and different labels."""
    first: dict[bytes, int] = {}
    pairs = []
    for i, image in enumerate(images.sha256):
        before = first.setdefault(image.tobytes(), i)
        if images.labels[i] != images.labels[before] and UNLABELLED not in (images.labels[i], images.labels[before]):
            pairs.append(f"{images.paths[before]} = {images.paths[i]}")
    return pairs


def _alike(names: list[str]) -> list[str]:
    """`Cat and cat` for names that differ only in case, accents or spaces."""
    same: dict[str, list[str]] = {}
    for name in names:
        same.setdefault(unicodedata.normalize("NFKC", name).casefold().strip(), []).append(name)
    return [" and ".join(group) for group in same.values() if len(group) > 1]
