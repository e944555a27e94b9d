"""TIFFs: what Pillow gets wrong or cannot map, and what libtiff says while it reads one."""

import ctypes
import io
import zlib
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, _imaging

from extract.images.colour import Greys
from features.source import Unreadable

LITTLE, BIG = b"II", b"MM"
PREFIXES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SUBFILE, OLD_SUBFILE = 254, 255
SMALLER_OR_MASK, OLD_SMALLER = 1 | 4, 2  # what these two say of a directory that is no page
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, CHANNELS, PLANES, SAMPLES = 256, 257, 258, 259, 262, 277, 284, 339
KNOWN_COLOURS = (0, 1, 2, 3, 5, 6, 8)  # photometric interpretations
INTEGER, SIGNED = 1, 2  # sample formats
SAMPLE_NAMES = {1: "integers", 2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex floats"}
WHITE = {(INTEGER, 12): 4095, (SIGNED, 8): 127, (SIGNED, 16): 32767}  # else 65535, of 32 bits too: who uses more?
# Greys that Pillow can unpack and has no entry for. Where 0 is white, they are inverted here, as are those that Pillow
# has an entry for.
for key, entry in {
    (BIG, 0, (INTEGER,), 1, (16,), ()): ("I;16B", "I;16B"),
    (LITTLE, 0, (INTEGER,), 1, (12,), ()): ("I;16", "I;12"),
    (LITTLE, 0, (INTEGER,), 1, (32,), ()): ("I", "I;32N"),
    (BIG, 0, (INTEGER,), 1, (32,), ()): ("I", "I;32BS"),
    (BIG, 1, (INTEGER,), 1, (32,), ()): ("I", "I;32BS"),
}.items():
    TiffImagePlugin.OPEN_INFO.setdefault(key, entry)
# libtiff hands samples over in the machine's byte order, which Pillow forgets for these.
NATIVE = {"F;32F": "F;32NF", "F;32BF": "F;32NF", "I;16S": "I;16NS", "I;16BS": "I;16NS"} | dict.fromkeys(
    ("I;32S", "I;32BS"), "I;32NS"
)
# CCITT's three, JPEG and PackBits: damage to these is a warning to libtiff, which goes on with wrong pixels.
LENIENT = (2, 3, 4, 7, 32773)
DEFLATE = (8, 32946)  # whose checksum libtiff does not look at
MOST_OF_A_STRIP = 1 << 30  # bytes


def load(image: Any, data: bytes) -> tuple[Image.Image, Greys]:
    """The pixels of an opened TIFF, and what its header says of its greys if they are deep.

    Args:
        image: the TIFF; 8-bit integers with a sign become deep ones.
        data: its file.

    Raises:
        Unreadable: it is damaged, and libtiff has passed that over.
    """
    _prepare(image)
    image.load()
    _check(image.tag_v2, data, image.tell())
    tags = image.tag_v2
    sample, bits = tags.get(SAMPLES, (1,))[0], tags.get(BITS, (1,))[0]
    greys = Greys(None if image.mode == "F" else WHITE.get((sample, bits), 65535), tags.get(PHOTOMETRIC, 0) == 0)
    if image.mode == "L" and (sample, bits) == (SIGNED, 8):
        image = Image.fromarray(np.asarray(image).view("i1").astype("i4"))
    return image, greys


def _prepare(image: Any) -> None:
    """Have Pillow read the samples of a TIFF that is not loaded yet in the byte order and planes that they have."""
    tags = image.tag_v2
    if not image.tile:
        return
    tile = image.tile[0]
    if tile[0] != "libtiff" and tags.get(PLANES) == 2 and tags.get(CHANNELS, 1) > 1 and max(tags.get(BITS, (1,))) > 8:
        # Pillow's own reader takes planes for 8 bits deep; libtiff is what it uses for the same file compressed.
        extents, raw = (0, 0, tags[WIDTH], tags[HEIGHT]), image.mode + ";16N"
        image.tile = [tile._replace(codec_name="libtiff", extents=extents, offset=0, args=(raw, False, tags.offset))]
        image.use_load_libtiff = True
    elif tile[0] == "libtiff" and (raw := NATIVE.get(tile[3][0])):
        image.tile = [tile._replace(args=(raw, *tile[3][1:]))]


def pages(data: bytes) -> list[int]:
    """Which directories of a TIFF are pages: the first, and all that are neither smaller copies nor masks.

    The first is what is read unless another is asked for, so it counts, even as a smaller copy. Damage ends the list.
    """
    header = data[: 16 if b"+" in data[2:4] else 8]
    tags, file = TiffImagePlugin.ImageFileDirectory_v2(header), io.BytesIO(data)
    found, seen, at = [], set[int](), tags.next
    while at and at not in seen:
        try:
            file.seek(at)
            tags.load(file)
            other = tags.get(SUBFILE, 0) & SMALLER_OR_MASK or tags.get(OLD_SUBFILE) == OLD_SMALLER
        except Exception:  # like Pillow's own reading, this raises whatever comes to hand
            break
        found += [len(seen)] if WIDTH in tags and not (seen and other) else []
        seen.add(at)
        at = tags.next
    return found


def _check(tags: Any, data: bytes, directory: int) -> None:
    """Raise Unreadable for damage that libtiff has passed over."""
    said = ""
    if tags.get(COMPRESSION) in LENIENT:
        said = complaint(data, directory)
    elif tags.get(COMPRESSION) in DEFLATE:
        said = _wrong_checksum(tags, data)
    if said:
        raise Unreadable(f"damaged: {said}")


def _wrong_checksum(tags: Any, data: bytes) -> str:
    """What zlib finds wrong with strips or tiles; empty if nothing. It unpacks no more than an image has."""
    most = 16 * tags[WIDTH] * tags[HEIGHT] + (1 << 24)
    starts, sizes = (tags.get(strips) or tags.get(tiles, ()) for strips, tiles in ((273, 324), (279, 325)))
    for start, size in zip(starts, sizes, strict=False):
        stream, packed = zlib.decompressobj(), data[start : start + size]
        try:
            while packed and not stream.eof and most > 0:
                most -= len(stream.decompress(packed, 1 << 20))
                packed = stream.unconsumed_tail
        except zlib.error as error:
            return str(error)
    return ""


def cause(data: bytes, error: Exception) -> str:
    """Why Pillow failed on a TIFF, in better words than its own; empty where there are none, or it is no TIFF."""
    if data[:4] not in PREFIXES:
        return ""
    if "decoder error" in str(error):
        return complaint(data)
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if b"+" in data[2:4] else 8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        compression, colours, channels = tags.get(COMPRESSION, 1), tags.get(PHOTOMETRIC, 0), tags.get(CHANNELS, 1)
        what = f"{max(tags[BITS])}-bit {SAMPLE_NAMES.get(tags.get(SAMPLES, (1,))[0], 'samples')}"
    except Exception:  # too damaged to say; like Pillow's own reading, this raises whatever comes to hand
        return ""
    strange = compression not in TiffImagePlugin.COMPRESSION_INFO
    if not strange and not isinstance(error, UnidentifiedImageError):
        return ""
    return (
        f"TIFF of {f'{channels} channels of ' if channels > 1 else ''}{what}"
        f"{f', compression {compression}' if strange else ''}"
        f"{'' if colours in KNOWN_COLOURS else f', photometric interpretation {colours}'}"
        f": not supported; save it as grey or RGB of 8 or 16 bits"
    )


def _libtiff() -> Any:
    """The libtiff that Pillow is linked with, made silent; None where its names cannot be had."""
    try:
        library = ctypes.CDLL(_imaging.__file__)  # finds names in what that is linked with as well
        library.TIFFSetErrorHandler(None)  # Pillow does so with warnings; else errors without a file's name are printed
        library.TIFFClientOpenExt.restype = library.TIFFOpenOptionsAlloc.restype = ctypes.c_void_p
        library.TIFFStripSize.restype = library.TIFFTileSize.restype = ctypes.c_ssize_t
        library.TIFFReadEncodedStrip.restype = library.TIFFReadEncodedTile.restype = ctypes.c_ssize_t
    except (OSError, AttributeError, TypeError):  # linked statically, or older than 4.5
        return None
    return library


LIBTIFF = _libtiff()
LIBC: Any = ctypes.CDLL(None) if LIBTIFF else None  # Windows has neither
SAY = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p
)
READ = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ssize_t)
SEEK = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int)
END = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
SIZE = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)


def complaint(data: bytes, directory: int = 0) -> str:
    """The first thing that libtiff says of the pixels of a TIFF's directory, error or warning; empty if nothing.

    A second reading, beside Pillow's: Pillow switches warnings off, for the whole process, at each of its own. stderr
    cannot be listened to instead, as all threads share it, and warnings do not get there. Here the handlers belong to
    this one file and thread. What is said of tags, before the first strip, is no damage to pixels.
    """
    if LIBTIFF is None:
        return ""
    file, said = io.BytesIO(data), []

    def say(tiff: int, given: int, module: bytes, text: bytes, values: int) -> int:
        line = ctypes.create_string_buffer(300)
        LIBC.vsnprintf(line, ctypes.c_size_t(len(line)), text, ctypes.c_void_p(values))
        said.append(b": ".join(part for part in (module, line.value) if part).decode("utf-8", "replace"))
        return 1  # nobody else is told

    def read(given: int, to: int, count: int) -> int:
        part = file.read(count)
        ctypes.memmove(to, part, len(part))
        return len(part)

    def seek(given: int, offset: int, whence: int) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: file.tell()}.get(whence, len(data))
        return file.seek(min(start + offset, len(data)))

    handler, options = SAY(say), ctypes.c_void_p(LIBTIFF.TIFFOpenOptionsAlloc())
    LIBTIFF.TIFFOpenOptionsSetErrorHandlerExtR(options, handler, None)
    LIBTIFF.TIFFOpenOptionsSetWarningHandlerExtR(options, handler, None)
    reader = (READ(read), READ(lambda *given: 0), SEEK(seek), END(lambda given: 0), SIZE(lambda given: len(data)))
    tiff = ctypes.c_void_p(LIBTIFF.TIFFClientOpenExt(b"", b"rm", None, *reader, None, None, options))
    LIBTIFF.TIFFOpenOptionsFree(options)
    if not tiff:
        return said[0] if said else ""
    if directory:
        LIBTIFF.TIFFSetDirectory(tiff, ctypes.c_uint32(directory))
    said.clear()
    kind = "Tile" if LIBTIFF.TIFFIsTiled(tiff) else "Strip"
    size = getattr(LIBTIFF, f"TIFF{kind}Size")(tiff)
    if 0 < size <= MOST_OF_A_STRIP:
        pixels = np.empty(size, "u1")
        decode = getattr(LIBTIFF, f"TIFFReadEncoded{kind}")
        for number in range(getattr(LIBTIFF, f"TIFFNumberOf{kind}s")(tiff)):
            decode(tiff, number, ctypes.c_void_p(pixels.ctypes.data), ctypes.c_ssize_t(size))
            if said:
                break
    LIBTIFF.TIFFClose(tiff)
    return said[0] if said else ""
