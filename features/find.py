"""`find`: the rows of a stack that are most like an image."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from features import near_index
from features.nearest import Nearest, nearest, pooled, unit_pieces, unit_rows
from features.open import open_stack
from features.reader import Stack, pool_rows
from features.runtime.errors import Failed, Refused, at_least
from features.runtime.in_the_way import in_the_way
from features.runtime.names import meant_paths, on_disk
from features.schema import SPLITS, UNLABELLED, made_by

POOL = "avg"  # what copies and look-alikes keep wherever they show it


def find(
    stack: str, photos: list[str], k: int = 10, pool: str = POOL, index: bool = False, weights: str | None = None
) -> list[dict[str, Any]]:
    """Find the images of a stack that are most like some photos, by the cosine of their rows.

    Every image is compared, piece by piece, so the stack may be larger than memory. Augmented views are left out.

    Args:
        stack: the HDF5 file, or an index of shards.
        photos: image files, new ones too; or images of the stack, by path or by row number.
        k: how many.
        pool: avg or max compares what is in the images, wherever it is; flatten also where it is.
        index: make an index beside the stack, or bring it up to date; then a question reads a few rows instead of all.
            It is taken as long as it fits the stack, and finds nearly all of the nearest (needs the extra near).
        weights: where the backbone's weights file is now, if it has moved; new photos need it.

    Returns:
        for each photo `photo`, its `path` in the stack, and `nearest`: `row`, `path`, `label`, `split` and
        `cosine`, nearest first.

    Raises:
        Refused: there is no such photo or row, or the stack's stage one cannot be had here.
        Failed: a photo cannot be read.
    """
    at_least(1, k=k)
    photos = [on_disk(photo) for photo in photos]
    opened = open_stack(stack)
    images = opened.take(opened.view == 0)
    own, queries = _queries(images, photos, pool, weights)
    if index:
        near_index.build(images, pool)
    if near_index.is_current(images, pool):
        found = near_index.search(images, queries, k, own, pool)
    else:
        found = nearest(unit_pieces(images, pool), queries, k, own)
    paths = [images.paths[row] if row >= 0 else None for row in own.tolist()]
    return [
        {"photo": photo, "path": path, "nearest": list(_told(images, found, i))}
        for i, (photo, path) in enumerate(zip(photos, paths, strict=True))
    ]


def _told(images: Stack, found: Nearest, query: int) -> Any:
    splits = {code: name for name, code in SPLITS.items()}
    for row, cosine in zip(found.rows[query].tolist(), found.cosines[query].tolist(), strict=True):
        if row < 0:
            return
        label = int(images.y[row])
        yield {
            "row": int(images.rows[row]),
            "path": images.paths[row],
            "label": images.label_names[label] if label != UNLABELLED else None,
            "split": splits[int(images.split[row])],
            "cosine": round(cosine, 6),
        }


def _queries(images: Stack, photos: Sequence[str], pool: str, weights: str | None) -> tuple[np.ndarray, np.ndarray]:
    """(q,) which image of the stack each photo is, −1 for a new one, and (q, d) float32 rows of unit length."""
    own = np.array([_row(images, photo) for photo in photos], np.int64)
    there, new = np.flatnonzero(own >= 0), np.flatnonzero(own < 0)
    rows: dict[int, np.ndarray] = {}
    if len(there):
        rows |= zip(there.tolist(), pooled(images.take(own[there]), pool), strict=True)
    if len(new):
        files = [photos[i] for i in new.tolist()]
        rows |= zip(new.tolist(), _computed(images, files, pool, weights), strict=True)
    return own, unit_rows(np.stack([rows[i] for i in range(len(photos))]))


def _row(images: Stack, photo: str) -> int:
    """The image that a photo names: by row number, by path in the stack, or by the bytes of a file.

    Raises:
        Refused: it is none of these.
    """
    file = Path(photo)
    if file.is_file():
        digest = np.frombuffer(sha256(file.read_bytes()).digest(), "u1")
        same = np.flatnonzero((images.field("sha256") == digest).all(axis=1))
        return int(same[0]) if len(same) else -1
    if photo in images.paths:
        return images.paths.index(photo)
    if photo.isdigit():
        here = np.flatnonzero(images.rows == int(photo))
        if not len(here):
            raise Refused(f"row {photo}: {images.path} has rows 0 to {int(images.rows.max())}, views left out")
        return int(here[0])
    if only := meant_paths([photo], images.paths, Path(str(images.attrs["dataset_root"])).name).paths:
        return images.paths.index(only[photo])
    raise Refused(
        f"no photo at {photo}: no such file, and no such path in {images.path}, whose paths are like {images.paths[0]}"
    )


def _computed(images: Stack, photos: Sequence[str], pool: str, weights: str | None) -> np.ndarray:
    """(q, d) rows of new photos, as stage one makes those of the stack: the one thing here that needs `extract`."""
    if told := in_the_way("extract"):
        raise Refused(told)
    from extract.compute.rebuild import compute, rebuild

    stage = rebuild(made_by(images.attrs), Path(weights) if weights else None)
    rows: list[np.ndarray] = []
    for block in compute([stage], photos):
        if block.reasons:
            i = min(block.reasons)
            raise Failed(f"{photos[len(rows) * stage.batch + i]}: {block.reasons[i]}")
        rows.append(block.rows[0])
    shape, every = images.feature_shape, np.concatenate(rows)
    return every if pool == "flatten" or len(shape) == 1 else pool_rows(every, shape, pool)
