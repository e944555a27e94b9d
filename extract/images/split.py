"""A split for datasets that bring none."""

import hashlib
from collections.abc import Mapping

import numpy as np

from features.schema import SPLITS, UNLABELLED

TEST_SHARE = 0.25


def seeded_split(
    labels: np.ndarray,
    sha256: np.ndarray,
    seed: int,
    share: float = TEST_SHARE,
    known: Mapping[bytes, int] | None = None,
) -> np.ndarray:
    """Put a share of each class aside for testing, identical images together.

    Within a class, images are ranked by a hash of seed and content, and the first are test. So the split does
    not depend on names or order, and an image keeps its place while others come and go around it, but near the edge:
    there `known` keeps it in its place.

    Args:
        labels: (rows,) int64; unlabelled rows (-1) are train.
        sha256: (rows, 32) uint8 of the images.
        seed: any integer.
        share: of each class's images that are test.
        known: SHA-256 → split of images that have one already, from a stack that grows.

    Returns:
        (rows,) uint8 of `SPLITS`.
    """
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
    known = known or {}
    return np.array([known.get(i.tobytes(), split) for i, split in zip(sha256, seeded, strict=True)], "u1")
