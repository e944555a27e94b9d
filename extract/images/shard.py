"""One part of a dataset, so that many machines extract it side by side."""

import dataclasses
import re
from hashlib import sha256

import numpy as np

from extract.images.dataset import Listing
from extract.images.split import chosen
from features import Refused


def shard_of(listing: Listing, shard: str) -> Listing:
    """The images of one of N shards, dealt by a hash of their paths, or of their groups: a group stays together.

    Args:
        listing: the dataset.
        shard: `I/N`, I from 1 to N.

    Raises:
        Refused: it is no such pair of numbers, or the shard has no image.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", shard)
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        raise Refused(f"--shard {shard}: give I/N with I from 1 to N, 3/64 for example")
    groups = listing.groups or [""] * len(listing.paths)
    names = [group or path for group, path in zip(groups, listing.paths, strict=True)]
    dealt = [int.from_bytes(sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "big") for name in names]
    mine = np.array([value % count == number - 1 for value in dealt])
    if not mine.any():
        raise Refused(f"--shard {shard}: none of the {len(dealt)} images of {listing.name} falls to it")
    return dataclasses.replace(
        listing,
        name=f"{listing.name}-{number}of{count}",
        paths=[path for path, own in zip(listing.paths, mine, strict=True) if own],
        labels=listing.labels[mine],
        split=None if listing.split is None else listing.split[mine],
        groups=chosen(listing.groups, mine),
    )
