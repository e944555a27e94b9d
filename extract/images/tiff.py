"""What a TIFF file's header says of its pixels, which Pillow does not pass on, and libtiff's own errors."""

import ctypes
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import PIL

# Tag → name; the values of one IFD entry that are used here.
TAGS = {258: "bits", 259: "compression", 262: "photometric", 277: "samples", 284: "planar", 339: "sample_format"}
NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # TIFF type → struct's
KINDS = {1: "unsigned", 2: "signed", 3: "floating-point"}
WHITE_IS_ZERO = 0


class Header(NamedTuple):
    """The first image of a TIFF file, as its header describes it."""

    bits: int  # of a sample
    samples: int  # of a pixel
    kind: str  # a value of `KINDS`, or `unknown`
    planar: bool  # whether each channel is stored by itself
    white_is_zero: bool
    photometric_at: int  # byte offset of the photometric's value, 0 if there is none
    order: str  # of bytes, struct's

    def __str__(self) -> str:
        kind = f"{self.bits}-bit {self.kind} numbers, {self.samples} a pixel"
        return f"TIFF of {kind}{', channels apart' if self.planar and self.samples > 1 else ''}"

    @property
    def most(self) -> int:
        """The largest value of a grey pixel; 32-bit integers hold numbers of 16 bits, or have no known scale."""
        return int(2 ** min(self.bits, 16) - 1)

    def is_deep(self) -> bool:
        """Whether its pixels are grey integers of more than 8 bits."""
        return self.samples == 1 and self.bits > 8 and self.kind != "floating-point"

    def is_misread(self) -> bool:
        """Whether Pillow opens it and gives wrong pixels."""
        return (self.kind == "signed" and self.bits == 8) or (self.planar and self.samples > 1 and self.bits > 8)


def read_header(data: bytes) -> Header | None:
    """The header of a TIFF or BigTIFF file; None if the bytes are none, or end before it does."""
    if data[:2] not in (b"II", b"MM"):
        return None
    order = "<" if data[:2] == b"II" else ">"
    try:
        (magic,) = struct.unpack_from(order + "H", data, 2)
        if magic not in (42, 43):
            return None
        big = magic == 43
        (first,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, first)
        start, step = first + (8 if big else 2), 20 if big else 12
        values = {"bits": 1, "samples": 1, "sample_format": 1, "planar": 1, "photometric": 1}
        photometric_at = 0
        for at in range(start, start + step * min(count, 4096), step):
            tag, kind = struct.unpack_from(order + "HH", data, at)
            if tag in TAGS and kind in NUMBERS:
                place = _place(data, at, order, big, NUMBERS[kind])
                values[TAGS[tag]] = struct.unpack_from(order + NUMBERS[kind], data, place)[0]
                photometric_at = place if TAGS[tag] == "photometric" and kind == 3 else photometric_at
    except struct.error:
        return None
    return Header(
        values["bits"],
        values["samples"],
        KINDS.get(values["sample_format"], "unknown"),
        values["planar"] == 2,
        values["photometric"] == WHITE_IS_ZERO,
        photometric_at,
        order,
    )


def _place(data: bytes, at: int, order: str, big: bool, number: str) -> int:
    """Where an entry's first value is: in the entry, or where that points if there are too many for it."""
    (count,) = struct.unpack_from(order + ("Q" if big else "I"), data, at + 4)
    inside = at + (12 if big else 8)
    if count * struct.calcsize(number) <= (8 if big else 4):
        return inside
    return int(struct.unpack_from(order + ("Q" if big else "I"), data, inside)[0])


def black_is_zero(data: bytes, header: Header) -> bytes:
    """The file with another photometric: Pillow does not invert deep greys, and refuses big-endian ones."""
    changed = bytearray(data)
    struct.pack_into(header.order + "H", changed, header.photometric_at, 1)
    return bytes(changed)


_errors = threading.local()


@contextmanager
def libtiff_errors() -> Iterator[list[str]]:
    """A list that gets what libtiff finds wrong while this thread decodes.

    Damaged fax strips are decoded to the end all the same, and Pillow raises nothing. libtiff's warnings cannot be had:
    Pillow switches them off. Where Pillow's libtiff is not found, the list stays empty.
    """
    found: list[str] = []
    _errors.found = found
    try:
        yield found
    finally:
        del _errors.found


def _note(module: bytes | None, text: bytes | None, values: Any) -> None:
    message = (text or b"").decode(errors="replace").split(" at line")[0].split("%")[0].strip(" (:")
    found = getattr(_errors, "found", None)
    if found is not None:
        found.append(f"{(module or b'').decode(errors='replace')}: {message}")


def _listen() -> Any:
    """Have Pillow's own libtiff call `_note` in place of writing to stderr. Returns what must be kept alive."""
    for path in sorted(Path(PIL.__file__).parent.parent.glob("pillow.libs/libtiff*")):
        try:
            library = ctypes.CDLL(str(path))
            handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)(_note)
            library.TIFFSetErrorHandler.restype = ctypes.c_void_p
            library.TIFFSetErrorHandler(handler)
        except (OSError, AttributeError):
            continue
        return handler
    return None


_handler = _listen()
