"""`info` describes a stack; `verify` checks that it is still what was written."""

from typing import Any

import numpy as np

from features.archive import open_source
from features.open import open_stack
from features.reader import Stack
from features.runtime.errors import Failed, Refused, check_readable, listed
from features.schema import SPLITS, UNLABELLED, fingerprint, row_crc32
from features.shards import EndToEnd
from features.source import Source
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
        **_corrected(opened),
        "classes": len(opened.label_names),
        "width": int(np.prod(opened.feature_shape)),
        "bytes": sum(part.path.stat().st_size for part in getattr(opened, "parts", [opened])),
        "extract_seconds": opened.extract_seconds,
        "key": opened.key,
        **dict(sorted(opened.attrs.items())),
    }


def _corrected(stack: Stack) -> dict[str, Any]:
    """How many corrections were applied to the labels, and how many of them leave an image out."""
    count = len(stack.corrections)
    return {"corrections": count, "left_out": sum(each.label == "-" for each in stack.corrections)} if count else {}


def verify(stack: str, rows_only: bool = False) -> dict[str, Any]:
    """Read everything again: rows against their CRCs, identities against the fingerprint, images against their hashes.

    Args:
        stack: the HDF5 file.
        rows_only: leave the images alone, if they are no longer there for example.

    Returns:
        how many rows and images were found sound, and where the images are.

    Raises:
        Failed: a row is damaged, the identities do not fit the fingerprint, or an image has changed or cannot be read.
    """
    opened = open_stack(stack)
    if isinstance(opened, EndToEnd):
        found = [verify(str(part.path), rows_only) for part in opened.parts]
        sums = {name: sum(each[name] for each in found) for name in ("rows", "images")}
        return {"stack": str(stack), **sums, "dataset_root": opened.attrs["dataset_root"]}
    if bad := damaged_rows(opened):
        rows, same = listed(bad), has_its_identities(opened)
        way = "The same command computes them again" if same else "Delete it and extract again"
        raise Failed(f"{stack} is damaged: row {rows}. {way}: {opened.attrs['command']}")
    if not has_its_identities(opened):
        raise Failed(f"{stack} is damaged: paths, labels or split are not those it was finished with")
    originals = opened.take(opened.view == 0)
    if not rows_only:
        _check_images(originals)
    return {
        "stack": str(stack),
        "rows": len(opened),
        "images": 0 if rows_only else len(originals),
        "dataset_root": opened.attrs["dataset_root"],
    }


def _check_images(originals: Stack) -> None:
    """Raise Failed unless every image is there and has the bytes that its row was made of."""
    source, rows_only = open_source(originals.attrs["dataset_root"]), "--rows-only checks the rows alone"
    changed: list[str] = []
    gone: list[str] = []
    for path, wanted in zip(originals.paths, originals.field("sha256"), strict=True):
        now = source.sha256(path)
        if now != wanted.tobytes():
            (changed if now else gone).append(path)
    if gone:
        raise Failed(
            f"{originals.path}: its rows are sound, but {len(gone)} images could not be checked, as they are not in "
            f"{source.root} or cannot be read: {listed(gone)}. {rows_only}"
        )
    if changed:
        raise Failed(f"{originals.path}: {len(changed)} images in {source.root} changed since: {listed(changed)}")


def images_of(stack: Stack) -> Source:
    """Where a stack's images can be read.

    Raises:
        Refused: they are not there.
    """
    source = open_source(stack.attrs["dataset_root"])
    if not source.exists():
        raise Refused(
            f"the images of {stack.path} are not at {source.root}, where they were. "
            "Say where they are now with --data FOLDER (make: DATA=FOLDER)"
        )
    return source


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
        check_readable(stack.path, error)
        raise Failed(f"{stack.path} is damaged: rows from {row} on cannot be read ({error}). {RESTORE}") from None
    return [f"{i} ({stack.paths[i]})" for i in bad]


def has_its_identities(stack: Stack) -> bool:
    """Whether paths, labels, image hashes, views and split are the ones that the stack was finished with."""
    sha256, names = stack.field("sha256"), stack.label_names
    now = fingerprint(stack.paths, stack.y, names, sha256, stack.view, stack.split, stack.groups)
    return now == stack.fingerprint
