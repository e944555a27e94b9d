"""`info` describes a stack; `verify` checks that it is still what was written."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from features.reader import Stack, open_stack
from features.runtime.disk import open_file
from features.runtime.errors import Failed, Refused, listed
from features.schema import SPLITS, UNLABELLED, fingerprint, row_crc32
from features.validate import RESTORE


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
    if bad := damaged_rows(opened):
        rows, same = listed(bad), has_its_identities(opened)
        way = "The same command computes them again" if same else "Delete it and extract again"
        raise Failed(f"{stack} is damaged: row {rows}. {way}: {opened.attrs['command']}")
    if not has_its_identities(opened):
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


def image_root(stack: Stack) -> Path:
    """The folder that the paths of a stack's images are relative to.

    Raises:
        Refused: it is not there.
    """
    root = Path(stack.attrs["dataset_root"])
    if not root.exists():
        raise Refused(
            f"the images of {stack.path} are not at {root}, where they were. "
            "Say where they are now with --data FOLDER (make: DATA=FOLDER)"
        )
    return root


def damaged_rows(stack: Stack) -> list[str]:
    """`index (path)` of every row that does not fit its CRC.

    Raises:
        Failed: rows cannot even be read.
    """
    sha256, crc = stack.field("sha256"), stack.field("row_crc32")
    bad: list[int] = []
    row = 0
    try:
        for piece in stack.chunks():
            here = slice(row, row + len(piece))
            now = row_crc32(piece, stack.y[here], sha256[here], stack.view[here])
            bad += (row + np.flatnonzero(now != crc[here])).tolist()
            row += len(piece)
    except OSError as error:  # compressed rows that HDF5 cannot unpack
        raise Failed(f"{stack.path} is damaged: rows from {row} on cannot be read ({error}). {RESTORE}") from None
    return [f"{i} ({stack.paths[i]})" for i in bad]


def has_its_identities(stack: Stack) -> bool:
    """Whether paths, labels, image hashes, views and split are the ones that the stack was finished with."""
    now = fingerprint(stack.paths, stack.y, stack.label_names, stack.field("sha256"), stack.view, stack.split)
    return now == stack.fingerprint


def file_sha256(path: Path) -> bytes | None:
    """SHA-256 of a file's bytes; None where it cannot be read, or is a pipe or a device."""
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None
