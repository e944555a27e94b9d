"""Embedded colour profiles, made byte by byte: the colours that the profile means come out as sRGB."""

import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from tiny import encoded

from extract.images.decode import decode

# Colorants adapted to D50 (columns red, green, blue), as published in the profiles themselves.
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
GAMMA = 563 / 256  # Adobe's
GREYS = np.linspace(0, 255, 256).astype("u1")


def profile(colorants: np.ndarray | None, gamma: float = GAMMA) -> bytes:
    """A version 2 ICC profile: three colorants and a power, or None for grey."""

    def xyz(values: Any) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    white = xyz((0.9642, 1.0, 0.8249))
    name = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(79)
    tags = {b"desc": name, b"cprt": b"text\0\0\0\0none\0\0\0\0", b"wtpt": white}
    if colorants is None:
        tags[b"kTRC"] = curve
    else:
        tags |= {letter + b"XYZ": xyz(colorants[:, i]) for i, letter in enumerate((b"r", b"g", b"b"))}
        tags |= {letter + b"TRC": curve for letter in (b"r", b"g", b"b")}
    table, body = struct.pack(">I", len(tags)), b""
    for tag, data in tags.items():
        table += tag + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data
    space = b"GRAY" if colorants is None else b"RGB "
    head = struct.pack(">I4sI4s4s4s", 128 + len(table) + len(body), b"none", 0x02400000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + white[8:]
    return head.ljust(128, b"\0") + table + body


def to_srgb(levels: np.ndarray, colorants: np.ndarray, gamma: float = GAMMA) -> np.ndarray:
    """(…, 3) levels as a profile means them → sRGB levels, by the definition; colours outside of sRGB are clipped."""
    linear = (levels / 255) ** gamma @ (np.linalg.inv(SRGB) @ colorants).T
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("colorants", [DISPLAY_P3, ADOBE])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_colours_are_those_that_the_profile_means(colorants: np.ndarray, kind: str) -> None:
    """Guards phones' Display P3 and cameras' Adobe RGB: within two levels of the definition."""
    levels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), "u1")
    how = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(levels), kind, icc_profile=profile(colorants), **how)
    got = np.asarray(decode(data), int)
    assert np.abs(got - to_srgb(levels, colorants)).max() <= 2.5
    assert np.abs(got - levels).max() > 20
    assert np.array_equal(np.asarray(decode(data, managed=False)), levels)  # as old stacks have it


def test_a_large_jpeg_is_decoded_small_first() -> None:
    """Guards the draft mode: profile and scale go together."""
    smooth = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 4, 3), "u1")).resize((2000, 2000))
    data = encoded(smooth, "JPEG", quality=95, icc_profile=profile(ADOBE))
    image = decode(data, 100)
    assert image.size == (250, 250)
    expected = to_srgb(np.asarray(smooth.resize((250, 250))), ADOBE)
    assert np.abs(np.asarray(image, float) - expected).mean() < 3


def test_alpha_palette_and_grey() -> None:
    """Guards the other modes: alpha stays, a palette becomes colours, a grey profile is for greys."""
    levels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), "u1")
    alpha = np.full((8, 8, 1), 255, "u1")
    alpha[:4] = 0
    got = np.asarray(decode(encoded(Image.fromarray(np.dstack([levels, alpha])), icc_profile=profile(ADOBE))), int)
    assert (got[:4] == 255).all() and np.abs(got[4:] - to_srgb(levels[4:], ADOBE)).max() <= 2.5
    paletted = Image.fromarray(levels).quantize(16)
    got = np.asarray(decode(encoded(paletted, icc_profile=profile(ADOBE))), int)
    assert np.abs(got - to_srgb(np.asarray(paletted.convert("RGB")), ADOBE)).max() <= 2.5
    got = np.asarray(decode(encoded(Image.fromarray(GREYS[None]), icc_profile=profile(None, 1.4))), int)[..., 0]
    assert np.abs(got - to_srgb(np.repeat(GREYS[None, :, None], 3, 2), SRGB, 1.4)[..., 0]).max() <= 2.5


def test_profiles_that_change_nothing_or_fit_nothing() -> None:
    """Guards ordinary photos, whose pixels stay what they were, and odd profiles, which are ignored."""
    levels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), "u1")
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for data in (srgb, b"no profile", profile(ADOBE)[:200], profile(None)):
        assert np.array_equal(np.asarray(decode(encoded(Image.fromarray(levels), icc_profile=data))), levels)
    cmyk = encoded(Image.fromarray(levels).convert("CMYK"), "JPEG", quality=100, icc_profile=profile(ADOBE))
    plain = encoded(Image.fromarray(levels).convert("CMYK"), "JPEG", quality=100)
    assert np.array_equal(np.asarray(decode(cmyk)), np.asarray(decode(plain)))
