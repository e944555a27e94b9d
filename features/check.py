"""`info` and `verify`: what a stack is, and whether it is still what was written."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import Failed, listed
from features.reader import open_stack
from features.schema import SPLITS, UNLABELLED, fingerprint, row_crc32


def info(stack: str) -> dict[str, Any]:
    """Describe a finished stack without reading its features.

    Args:
        stack: the HDF5 file.

    Returns:
        rows by split, classes, shape, bytes, key and every root attribute.
    """
    opened = open_stack(stack)
    return {
        "stack": str(opened.path),
        "rows": len(opened),
        "images": int((opened.view == 0).sum()),
        **{name: int((opened.split == code).sum()) for name, code in SPLITS.items()},
        "unlabelled": int((opened.y == UNLABELLED).sum()),
        "rejects": len(opened.rejects),
        "classes": len(opened.label_names),
        "width": int(np.prod(opened.feature_shape)),
        "bytes": opened.path.stat().st_size,
        "extract_seconds": opened.extract_seconds,
        "key": opened.key,
        **dict(sorted(opened.attrs.items())),
    }


def verify(stack: str) -> dict[str, Any]:
    """Read everything again: rows against their CRCs, identities against the fingerprint, images against their hashes.

    Args:
        stack: the HDF5 file.

    Returns:
        how many rows and images were found sound, and whether the images are still there to be checked.

    Raises:
        Failed: a row is damaged, the identities do not fit the fingerprint, or an image has changed or gone.
    """
    opened = open_stack(stack)
    sha256, crc = opened.field("sha256"), opened.field("row_crc32")
    bad: list[int] = []
    row = 0
    for piece in opened.chunks():
        here = slice(row, row + len(piece))
        bad += (
            row + np.flatnonzero(row_crc32(piece, opened.y[here], sha256[here], opened.view[here]) != crc[here])
        ).tolist()
        row += len(piece)
    if bad:
        rows = [f"{i} ({opened.paths[i]})" for i in bad]
        raise Failed(f"{stack} is damaged: row {listed(rows)}. Delete it and extract again: {opened.attrs['command']}")
    if fingerprint(opened.paths, opened.y, opened.label_names, sha256, opened.view, opened.split) != opened.fingerprint:
        raise Failed(f"{stack} is damaged: paths, labels or split are not those it was finished with")
    root = Path(opened.attrs["dataset_root"])
    originals = opened.take(opened.view == 0)
    if root.is_dir():
        changed = [
            path
            for path, wanted in zip(originals.paths, originals.field("sha256"), strict=True)
            if file_sha256(root / path) != wanted.tobytes()
        ]
        if changed:
            raise Failed(f"{stack}: {len(changed)} images in {root} changed or went since: {listed(changed)}")
    return {
        "stack": str(stack),
        "rows": len(opened),
        "images": len(originals) if root.is_dir() else 0,
        "dataset_root": str(root),
    }


def file_sha256(path: Path) -> bytes | None:
    """SHA-256 of a file's bytes; None where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None
