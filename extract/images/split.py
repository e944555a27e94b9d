"""A split for datasets that bring none."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from features.schema import SPLITS, UNLABELLED

TEST_SHARE = 0.25


def seeded_split(
    labels: np.ndarray,
    sha256: np.ndarray,
    seed: int,
    share: float = TEST_SHARE,
    known: Mapping[bytes, int] | None = None,
    groups: Sequence[str] | None = None,
) -> np.ndarray:
    """Put a share of each class aside for testing, identical images and those of one group together.

    Within a class, images are ranked by a hash of seed and content, and the first are test. So the split does
    not depend on names or order, and an image keeps its place while others come and go around it, but near the edge:
    there `known` keeps it in its place. Whole groups are dealt out likewise, see `_split_groups`.

    Args:
        labels: (rows,) int64; unlabelled rows (-1) are train.
        sha256: (rows, 32) uint8 of the images.
        seed: any integer.
        share: of each class's images that are test.
        known: SHA-256 → split of images that have one already, from a stack that grows.
        groups: (rows,) what an image belongs to, empty where to nothing; None where there are no groups.

    Returns:
        (rows,) uint8 of `SPLITS`.
    """
    known = known or {}
    if groups is not None and any(groups):
        return _split_groups(labels, [image.tobytes() for image in sha256], seed, share, known, groups)
    ranks = [hashlib.sha256(f"{seed}:".encode() + image.tobytes()).digest() for image in sha256]
    class_of: dict[bytes, int] = {}
    for rank, label in zip(ranks, labels.tolist(), strict=True):
        if label != UNLABELLED:
            class_of[rank] = min(label, class_of.get(rank, label))  # copies under two labels count for the first class
    by_class: dict[int, list[bytes]] = {}
    for rank, label in class_of.items():
        by_class.setdefault(label, []).append(rank)
    test: set[bytes] = set()
    for images in by_class.values():
        count = round(share * len(images)) or int(len(images) > 1)
        test.update(sorted(images)[:count])
    seeded = (SPLITS["test"] if rank in test else SPLITS["train"] for rank in ranks)
    return np.array([known.get(i.tobytes(), split) for i, split in zip(sha256, seeded, strict=True)], "u1")


def _split_groups(
    labels: np.ndarray,
    images: Sequence[bytes],
    seed: int,
    share: float,
    known: Mapping[bytes, int],
    groups: Sequence[str],
) -> np.ndarray:
    """See `seeded_split`. Groups that share an image are one.

    In the order of a hash of seed and name, a group becomes test unless that takes the classes farther from `share`, or
    leaves one without train images. Where groups are so large that a class got none, its smallest becomes test. A group
    whose known images are all in one split keeps it.
    """
    unit_of = units(images, groups)
    class_of: dict[bytes, int] = {}
    splits: dict[str, set[int]] = defaultdict(set)
    for image, label, unit in zip(images, labels.tolist(), unit_of, strict=True):
        if label != UNLABELLED:
            class_of[image] = min(label, class_of.get(image, label))  # as for single images
        if image in known:
            splits[unit].add(known[image])
    classes: dict[str, Counter[int]] = {unit: Counter() for unit in unit_of}
    for image, unit in dict(zip(images, unit_of, strict=True)).items():
        classes[unit].update([class_of[image]] if image in class_of else [])
    split = {unit: kept.pop() for unit, kept in splits.items() if len(kept) == 1}
    total, have = Counter(class_of.values()), Counter[int]()
    wanted = {label: round(share * count) or int(count > 1) for label, count in total.items()}
    fixed = set(split)
    for unit, place in split.items():
        have.update(classes[unit] if place == SPLITS["test"] else {})

    def farther(unit: str) -> int:
        missing = {label: wanted[label] - have[label] for label in classes[unit]}
        return sum(abs(missing[label] - count) - abs(missing[label]) for label, count in classes[unit].items())

    def set_aside(unit: str) -> None:
        if all(have[label] + count < total[label] for label, count in classes[unit].items()):
            split[unit] = SPLITS["test"]
            have.update(classes[unit])

    for unit in sorted(
        classes.keys() - split.keys(), key=lambda unit: hashlib.sha256(f"{seed}:{unit}".encode()).digest()
    ):
        split[unit] = SPLITS["train"]
        if classes[unit] and farther(unit) <= 0:
            set_aside(unit)
    for unit in sorted(classes.keys() - fixed, key=lambda unit: (classes[unit].total(), unit)):
        if any(wanted[label] and not have[label] for label in classes[unit]):
            set_aside(unit)
    return np.array([split[unit] for unit in unit_of], "u1")


def units(images: Sequence[bytes], groups: Sequence[str]) -> list[str]:
    """(rows,) the name that all images of a group, and of groups that share an image with it, have in common."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    names = [f"image {image.hex()}" for image in images]
    for name, group in zip(names, groups, strict=True):
        if group:
            first, second = sorted((root(name), root(f"group {group}")))  # "group …" comes first
            parent[second] = first
    return [root(name) for name in names]


def chosen(groups: Sequence[str] | None, rows: np.ndarray) -> list[str] | None:
    """The groups of some rows, by a mask or an index; None where there are no groups."""
    return None if groups is None else np.asarray(groups, object)[rows].tolist()
