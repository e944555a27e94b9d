"""The feature stack's datasets and attributes, as FORMAT.md specifies them, and the two hashes made of them."""

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import h5py
import numpy as np

FORMAT = "feature-stack"
VERSION = 2

SPLITS = {"train": 0, "val": 1, "test": 2}
STATES = {"empty": 0, "done": 1, "rejected": 2}
UNLABELLED = -1

# The attributes that decide what a row's numbers are. With the rows' identity they make up the stack's key.
RECIPE = (
    "backbone",
    "layer",
    "weights_sha256",
    "preprocessing",
    "input_size",
    "resize",
    "resize_filter",
    "dtype",
    "precision",
)
# … and those that are there where something else than the usual was asked for: decoding, page, white, pooling, axes.
OPTIONAL = ("decode", "page", "white", "pool", "tensor_axes")
POOLINGS = ("avg", "max", "cls")  # over all positions; `cls`: the class token of rows of tokens
AXES = {3: "height,width,channel", 2: "token,channel", 1: "channel"}  # by the number of sides of a row
STORES = {"f32": "<f4", "f16": "<f2"}  # --store → type of the stored rows
VIEWS = ("views", "augment", "seed")  # … and, only where there are views, what decides theirs
# … and what else it takes to see another image as a stack saw its own: `extract.compute.rebuild`.
MADE_BY = ("weights", "weights_file", *VIEWS, "engine", "device", "batch", "layers", "feature_shape")
REQUIRED = ("format", "format_version", *RECIPE, "feature_shape", "dataset_root", "command")  # of the root attributes


class Correction(NamedTuple):
    """What a file of corrections says of an image: its class, or `-` where it is left out; and why."""

    path: str
    label: str
    reason: str


def corrections_of(file: h5py.File) -> list[Correction]:
    """What the labels of an open stack were corrected by."""
    table = file["corrections"][:] if "corrections" in file else []
    return [Correction(*(text.decode() for text in line)) for line in table]


def row_fields(width: int, path_bytes: int, stored: str = "float32") -> dict[str, tuple[tuple[int, ...], Any]]:
    """Name → (shape of one row, dtype) of every dataset that has one entry a row; `stored`: of the features."""
    return {
        "features": ((width,), np.dtype("<f2" if stored == "float16" else "<f4")),
        "labels": ((), np.dtype("<i8")),
        "paths": ((), h5py.string_dtype("utf-8", path_bytes)),
        "split": ((), h5py.enum_dtype(SPLITS, basetype="u1")),
        "sha256": ((32,), np.dtype("u1")),
        "size": ((), np.dtype("<i8")),
        "mtime_ns": ((), np.dtype("<i8")),
        "view": ((), np.dtype("<i4")),
        "row_crc32": ((), np.dtype("<u4")),
        "row_state": ((), h5py.enum_dtype(STATES, basetype="u1")),
    }


def as_one(sha256: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """(rows, 32) uint8 `sha256`, where near copies all have that of the first of them.

    Args:
        sha256: (rows, 32) uint8 of the images.
        copies: (rows,) the number of each image's group of near copies; −1 where it has none.
    """
    one = sha256.copy()
    numbers, first = np.unique(copies, return_index=True)
    rows = np.flatnonzero(copies >= 0)
    one[rows] = sha256[first[np.searchsorted(numbers, copies[rows])]]
    return one


def group_dtype(group_bytes: int) -> Any:
    """Of the dataset `group`, which only stacks have whose images belong to groups."""
    return h5py.string_dtype("utf-8", max(1, group_bytes))


def row_crc32(features: np.ndarray, labels: np.ndarray, sha256: np.ndarray, view: np.ndarray) -> np.ndarray:
    """CRC-32 of each row's bytes, (rows,) uint32: features <f4, label <i8, sha256 (32), view <i4, in that order."""
    tails = np.hstack(
        [
            labels.astype("<i8").view("u1").reshape(-1, 8),
            sha256,
            view.astype("<i4").view("u1").reshape(-1, 4),
        ]
    )
    rows = np.ascontiguousarray(features, "<f4")
    return np.fromiter(
        (zlib.crc32(tail, zlib.crc32(row)) for row, tail in zip(rows, tails, strict=True)), "<u4", len(rows)
    )


def fingerprint(
    paths: list[str],
    labels: np.ndarray,
    label_names: list[str],
    sha256: np.ndarray,
    view: np.ndarray,
    split: np.ndarray,
    groups: list[str] | None = None,
) -> str:
    """SHA-256 (hex) of which images the rows are: path, class name, image hash, view, split, perhaps group of each."""
    digest = hashlib.sha256()
    ends = ["\n"] * len(paths) if groups is None else [f"\0{group}\n" for group in groups]
    for path, label, image, v, s, end in zip(paths, labels, sha256, view, split, ends, strict=True):
        name = label_names[label] if label >= 0 else ""
        digest.update(f"{path}\0{name}\0{image.tobytes().hex()}\0{v}\0{s}{end}".encode())
    return digest.hexdigest()


def recipe_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the root attributes that decides a row's numbers, as plain Python values."""
    return {name: plain(attrs[name]) for name in (*RECIPE, *OPTIONAL) if name in RECIPE or name in attrs}


def made_by(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Recipe, weights, engine, batch, versions, …: all that is needed to compute more rows alike, for JSON."""
    made = recipe_attrs(attrs) | {name: plain(attrs[name]) for name in MADE_BY if name in attrs}
    return made | {"versions": json.loads(attrs.get("versions", "{}"))}


def key(attrs: Mapping[str, Any], dataset_fingerprint: str) -> str:
    """SHA-256 (hex) of recipe and rows: two stacks with the same key hold the same features of the same images."""
    views = {name: plain(attrs[name]) for name in VIEWS} if "views" in attrs else {}
    text = json.dumps([recipe_attrs(attrs) | views, dataset_fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
    """A root attribute as JSON can hold it."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
