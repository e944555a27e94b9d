"""Messages of Protocol Buffers, read in place.

Each length is checked before it is followed. So a hostile file costs one walk over its bytes.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from features import Failed

Value = int | memoryview


class Damaged(Exception):
    """The bytes are no such message."""


def mapped(path: Path) -> memoryview:
    """A file's bytes, read when they are looked at.

    Raises:
        Failed: it cannot be opened.
        Damaged: it is empty.
    """
    try:
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise Failed(f"cannot read {path}: {error.strerror}") from None
    except ValueError:  # mmap's
        raise Damaged("it is empty") from None


def fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Number and value of each field of a message. A value is an integer or bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind, field = tag & 7, tag >> 3
        if kind == 0:
            value, at = _varint(data, at)
            yield field, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise Damaged(f"byte {at} begins no field")
        if size > len(data) - at:
            raise Damaged(f"a field of {size:,} bytes is longer than what it stands in")
        yield field, data[at : at + size]
        at += size


def message(value: Value) -> memoryview:
    """A field that holds a message."""
    if isinstance(value, int):
        raise Damaged("a number stands where a message is expected")
    return value


def text(value: Value | bytes) -> str:
    """A field that holds a text."""
    if isinstance(value, int):
        raise Damaged("a number stands where a text is expected")
    return bytes(value).decode("utf-8", "replace")


def number(value: Value) -> int:
    """A field that holds an integer."""
    if not isinstance(value, int):
        raise Damaged("a message stands where a number is expected")
    return value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at + place >= len(data):
            raise Damaged("it ends inside a number")
        byte = data[at + place]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, at + place + 1
    raise Damaged("a number has no end")
