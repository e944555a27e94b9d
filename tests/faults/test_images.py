"""Faults 1–17: what is wrong with one image, and what its user is told. Every other row stays its own file's."""

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from tiny import NOISE, PHOTO, REPO, encoded, environment, photos

from extract.compute.rebuild import rebuild
from extract.images.decode import MOST_PIXELS, decode, has_pages, squash
from extract.images.views import view_of
from features import open_stack, verify
from features.schema import made_by
from features.source import Unreadable, read_file

HTML = b"<!DOCTYPE html><html><head><title>403 Forbidden</title></head></html>"
BOMB = b"P4\n20000 20000\n" + bytes(1000)  # one bit a pixel: 400 million of them in 50 MB
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(a) show\n%%EOF\n"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)


def half_jpeg() -> bytes:
    """Cut in the middle; what of it `Image.verify` sees is fine."""
    whole = encoded(Image.fromarray(np.tile(NOISE, (8, 8, 1))), "JPEG")
    half = whole[: len(whole) // 2]
    Image.open(io.BytesIO(half)).verify()
    return half


BAD = {
    "zero.jpg": (b"", "the file is empty"),
    "page.jpg": (HTML, "not an image in any known format"),
    "drawing.png": (SVG, "not an image in any known format"),
    "script.jpg": (EPS, "not an image in any known format"),
    "half.jpg": (half_jpeg(), "cannot be decoded: image file is truncated"),
    "bomb.png": (BOMB, f"more than the {MOST_PIXELS:,} that are decoded"),
    "phone.heic": (HEIC, "a HEIC photo that cannot be decoded"),
}


@pytest.mark.slow
def test_bad_files_are_rejected_and_nothing_shifts(tmp_path: Path, extracted) -> None:
    """1, 2, 3, 4, 9: each in `rejects` with its reason, exit 3, and every other row computed from its own file."""
    data = photos(tmp_path / "photos", classes=2, each=8)
    for name, (content, _) in BAD.items():
        (data / "class0" / name).write_bytes(content)
    told = extracted(data, "--max-bad", "50")
    assert told.code == 3
    stack = open_stack(told.out.strip())
    reasons = {Path(path).name: reason for path, reason, *_ in stack.rejects}
    assert set(reasons) == set(BAD)
    for name, (_, reason) in BAD.items():
        assert reason in reasons[name]
        assert f"rejected class0/{name}: {reasons[name]}\n" in told.err
    assert f"{len(BAD)} images were rejected" in told.err
    assert verify(told.out.strip())["images"] == 16
    for name in BAD:
        (data / "class0" / name).unlink()
    (tmp_path / "a.h5").rename(tmp_path / "with.h5")
    assert extracted(data).code == 0
    clean = open_stack(tmp_path / "a.h5")
    assert clean.paths == stack.paths
    np.testing.assert_array_equal(clean.X, open_stack(tmp_path / "with.h5").X)


@pytest.mark.slow
def test_too_many_bad_images_fail_after_the_rest_is_done(tmp_path: Path, extracted) -> None:
    """Above --max-bad, 1 % unless told otherwise: exit 1, with a finished stack of all that could be read."""
    data = photos(tmp_path / "photos", classes=2, each=4)
    (data / "class0" / "zero.jpg").write_bytes(b"")
    told = extracted(data)
    assert told.code == 1
    assert "1 of 9 images could not be read, more than --max-bad 1 %: class0/zero.jpg: the file is empty" in told.err
    assert len(open_stack(tmp_path / "a.h5")) == 8
    assert extracted(data).code == 1, "a rerun says so again"
    assert extracted(data, "--max-bad", "12").code == 3
    assert extracted(data, "--max-bad", "-1")[::2] == (2, "error: --max-bad -1: give a percentage from 0 to 100\n")


def test_a_bomb_is_refused_at_our_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """4: whatever another package set Pillow's limit to, and before its pixels are allocated."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(
        Unreadable, match=rf"^it has 400,000,000 pixels, more than the {MOST_PIXELS:,} that are decoded"
    ):
        decode(BOMB)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animations_give_their_first_frame_and_are_counted(tmp_path: Path, extracted, kind: str) -> None:
    """8: the first frame's pixels; how many there were is said."""
    data = photos(tmp_path / "photos", classes=2, each=3)
    red, blue = (Image.new("RGB", (20, 20), colour) for colour in ("red", "blue"))
    moving = encoded(red, kind, save_all=True, append_images=[blue], **({"lossless": True} if kind == "WEBP" else {}))
    assert squash(decode(moving), 4)[0, 0].tolist() == pytest.approx([255, 0, 0], abs=3)
    assert has_pages(moving) and not has_pages(encoded(red, kind))
    (data / "class1" / f"9.{kind.lower()}").write_bytes(moving)
    told = extracted(data)
    assert told.code == 0
    said = "images have several pages or frames, and the first was read (--page N takes another)"
    assert f"1 {said}: class1/9.{kind.lower()}\n" in told.err
    if kind == "GIF":
        assert squash(decode(moving, page=2), 4)[0, 0].tolist() == [0, 0, 255]


@pytest.mark.slow
def test_a_tiff_whose_first_page_is_black(tmp_path: Path, extracted) -> None:
    """106: counted and named; `--page` takes another, is in the recipe, and new photos are read so too."""
    data = photos(tmp_path / "photos", classes=2, each=2)
    shown, black = Image.fromarray(NOISE), Image.new("RGB", (90, 60))
    for name, pages in (("8", [black, shown]), ("9", [black, shown, black])):
        pages[0].save(data / "class1" / f"{name}.tif", save_all=True, append_images=pages[1:])
    told = extracted(data)
    first = "2 images have several pages or frames, and the first was read (--page N takes another)"
    assert told.code == 0 and f"{first}: class1/8.tif, class1/9.tif\n" in told.err
    told = extracted(data, "--page", 2)
    assert told.code == 2 and "page: none in the stack, 2 asked for" in told.err
    (tmp_path / "a.h5").unlink()
    told = extracted(data, "--page", 3)
    assert told.code == 1 and "class1/8.tif: it has 2 pages, and page 3 is asked for" in told.err
    (tmp_path / "a.h5").unlink()
    assert extracted(data, "--page", 2).code == 0
    made = open_stack(tmp_path / "a.h5")
    stage = rebuild(made_by(made.attrs))
    pixels, reasons, _ = stage.pixels([data / "class1" / "9.tif"])
    assert np.array_equal(pixels[0], squash(shown, 16)) and not reasons
    np.testing.assert_array_equal(stage.rows(pixels)[0], made.X[made.paths.index("class1/9.tif")])


@pytest.mark.slow
def test_greys_of_which_twelve_bits_are_used(tmp_path: Path, extracted) -> None:
    """107: said with the range; `--white` spreads them alike, is in the recipe, and holds for new ones."""
    values = np.linspace(100, 1499, 3600).reshape(60, 60).astype("u2")
    for i in range(6):
        (tmp_path / "deep" / f"class{i % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(values - np.uint16(i)).save(
            tmp_path / "deep" / f"class{i % 2}" / f"{i}.{'tif' if i % 3 else 'png'}"
        )
    told = extracted(tmp_path / "deep")
    assert told.code == 0
    assert (
        "warning: 6 images of more than 8 bits use values from 95 to 1,499 of 65,535, 7 of 256 levels: "
        "--white N spreads them, N the camera's largest value (4095 for 12 bits) or 1,499\n"
    ) in told.err
    told = extracted(tmp_path / "deep", "--white", 1498)
    assert told.code == 2 and "white: none in the stack, 1498 asked for" in told.err
    (tmp_path / "a.h5").unlink()
    told = extracted(tmp_path / "deep", "--white", 1498)
    assert told.code == 0 and "6 images of deep greys have values from 95 to 1,499 of 1,498\n" in told.err
    assert "warning: 1 images have values above --white 1498, which are white: class0/0.png\n" in told.err
    stage = rebuild(made_by(open_stack(tmp_path / "a.h5").attrs))
    eight = Image.fromarray(np.round(np.minimum(values, 1498) * (255 / 1498)).astype("u1")).convert("RGB")
    pixels = stage.pixels([tmp_path / "deep" / "class0" / "0.png", Image.fromarray(values)])[0]
    assert np.array_equal(pixels[0], squash(eight, 16)) and np.array_equal(pixels[1], pixels[0])
    plain = photos(tmp_path / "photos", classes=2, each=2)
    text = PngImagePlugin.PngInfo()
    text.add_text("range", "a text of the file's own")
    PHOTO.save(plain / "class0" / "text.png", pnginfo=text)
    (tmp_path / "a.h5").unlink()
    told = extracted(plain, "--white", 4095)
    assert told.code == 0 and "--white 4095 changes nothing: no image that was read has deep greys\n" in told.err


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 1000), (1000, 1)])
@pytest.mark.parametrize("augment", ["photo", "sources"])
def test_odd_shapes(tmp_path: Path, extracted, width: int, height: int, augment: str) -> None:
    """12: an image of one pixel, and one a thousand times as long as wide, are rows like others, views too."""
    data = photos(tmp_path / "photos", classes=2, each=4)
    for label in (0, 1):
        Image.fromarray(np.resize(NOISE, (height, width, 3)) + np.uint8(label)).save(data / f"class{label}" / "odd.png")
    assert extracted(data, "--views", 1, "--augment", augment).code == 0
    stack = open_stack(tmp_path / "a.h5")
    assert sum(path.endswith("odd.png") for path in stack.paths) >= 2
    assert np.isfinite(stack.X).all()
    view = view_of(Image.new("RGB", (width, height), (200, 120, 40)), 16, augment, 0, np.zeros(32, "u1"), 1)
    assert view.min() > 0 and np.ptp(view, axis=(0, 1)).max() <= 2, "a view of one colour is of one colour, not black"


@pytest.mark.slow
def test_the_content_decides_and_not_the_extension(tmp_path: Path, extracted) -> None:
    """13: a PNG called .jpg is the same row as the same PNG under its own name."""
    data = photos(tmp_path / "photos", classes=2, each=3)
    png = (data / "class0" / "0.png").read_bytes()
    (data / "class0" / "wrong.jpg").write_bytes(png)
    assert extracted(data).code == 0
    stack = open_stack(tmp_path / "a.h5")
    one, other = (stack.paths.index(f"class0/{name}") for name in ("0.png", "wrong.jpg"))
    np.testing.assert_array_equal(stack.X[one], stack.X[other])


@pytest.mark.slow
def test_odd_names(tmp_path: Path, extracted) -> None:
    """14: a newline and 255 bytes are names like others; one that is not UTF-8 is rejected, escaped, on one line."""
    data = photos(tmp_path / "photos", classes=2, each=5)
    long = "é" * 125 + "x.png"
    assert len(os.fsencode(long)) == 255
    (data / "class0" / "0.png").rename(data / "class0" / long)
    (data / "class0" / "2.png").rename(data / "class0" / "two\nlines.png")
    (data / "class1" / "0.png").rename(os.fsdecode(os.fsencode(data) + b"/class1/caf\xe9.png"))
    (data / "class1" / "bad\nname.jpg").write_bytes(b"")
    told = extracted(data, "--max-bad", "50")
    assert told.code == 3
    lines = told.err.splitlines()
    assert r"rejected class1/caf\xe9.png: its name is not UTF-8: rename it" in lines
    assert r"rejected class1/bad\nname.jpg: the file is empty" in lines
    paths = open_stack(tmp_path / "a.h5").paths
    assert f"class0/{long}" in paths
    assert "class0/two\nlines.png" in paths
    assert verify(str(tmp_path / "a.h5"))["images"] == 9
    assert extracted(data, "--max-bad", "50").code == 3, "and it is up to date"


@pytest.mark.slow
def test_links(tmp_path: Path, extracted) -> None:
    """15: a dangling link and a loop are rejected with what the system says; a linked folder is read, and once."""
    data = photos(tmp_path / "photos", classes=2, each=4)
    (data / "class0" / "dangling.png").symlink_to("gone.png")
    (data / "class0" / "loop.png").symlink_to("loop.png")
    (data / "class0" / "round").symlink_to(data / "class0")
    elsewhere = photos(tmp_path / "elsewhere", classes=1, each=2, seed=9)
    (data / "class1" / "more").symlink_to(elsewhere)
    told = extracted(data, "--max-bad", "50")
    assert told.code == 3
    assert "rejected class0/dangling.png: No such file or directory\n" in told.err
    assert "rejected class0/loop.png: Too many levels of symbolic links\n" in told.err
    assert len(open_stack(tmp_path / "a.h5")) == 10
    assert "class1/more/class0/1.jpg" in open_stack(tmp_path / "a.h5").paths


# Root may read everything, so this child gives root up once all its imports are done.
WITHOUT_ROOT = """
import os, sys
from pathlib import Path
from extract.backbones import BACKBONES
from extract.images.dataset import scan
from extract.compute.pipeline import read_block
from extract.recipe import Recipe
from features import Refused
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
listing = scan(sys.argv[1])
recipe = Recipe(listing, BACKBONES["vgg16"], "random", "block5_pool", size=16, seed=0)
import numpy as np
count = len(listing.paths)
block = read_block(recipe, listing.paths, np.zeros(count, int), np.arange(count))
print([listing.paths[row] + ": " + why for row, why in block.reasons.items()])
os.chmod(sys.argv[1] + "/class1", 0)
try:
    scan(sys.argv[1])
except Refused as refused:
    print(refused)
"""


def test_files_that_this_user_may_not_read(tmp_path: Path) -> None:
    """16: a file is rejected with the reason; a folder, whose class would be missing in silence, is refused."""
    data = photos(tmp_path / "photos", classes=2, each=3)
    (data / "class0" / "1.jpg").chmod(0)
    place = Path(os.path.realpath(tmp_path))
    closed = [folder for folder in (place, *place.parents) if not folder.stat().st_mode & 0o001]
    modes = [folder.stat().st_mode for folder in closed]
    try:
        if os.getuid() == 0:
            for folder, mode in zip(closed, modes, strict=True):
                folder.chmod(mode | 0o001)
            for part in (data, data / "class0", data / "class1"):
                os.chown(part, 65534, 65534)
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_ROOT, str(data)], env=environment(), capture_output=True, text=True, cwd=REPO
        )
    finally:
        for folder, mode in zip(closed, modes, strict=True):
            folder.chmod(mode)
        (data / "class1").chmod(0o755)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "['class0/1.jpg: Permission denied']"
    assert second.endswith(
        "photos/class1 cannot be read: Permission denied. Let this user read it, or move it elsewhere."
    )


@pytest.mark.slow
def test_a_file_that_changes_during_the_run(tmp_path: Path, extracted, monkeypatch: pytest.MonkeyPatch) -> None:
    """17: replaced after it was read: read again, so that its row is of the file that is there. Deleted: rejected."""
    import extract.compute.local

    data = photos(tmp_path / "photos", classes=2, each=8)
    fill = extract.compute.local.fill

    def disturbed(*arguments):
        found = fill(*arguments)
        if not (data / "done").exists():
            (data / "done").touch()
            Image.new("RGB", (30, 30), "red").save(data / "class0" / "2.png")
            (data / "class1" / "4.png").unlink()
        return found

    monkeypatch.setattr(extract.compute.local, "fill", disturbed)
    told = extracted(data, "--max-bad", "50")
    assert "2 images changed during the run and are read again: class0/2.png, class1/4.png\n" in told.err
    assert told.code == 3
    assert "rejected class1/4.png: No such file or directory" in told.err
    assert verify(str(tmp_path / "a.h5"))["images"] == 15
    (tmp_path / "a.h5").rename(tmp_path / "disturbed.h5")
    monkeypatch.undo()
    assert extracted(data).code == 0
    straight, stack = open_stack(tmp_path / "a.h5"), open_stack(tmp_path / "disturbed.h5")
    assert straight.paths == stack.paths
    np.testing.assert_array_equal(straight.X, stack.X)


def test_a_file_that_is_being_written(tmp_path: Path) -> None:
    """17: bytes of two versions are never taken for one image."""
    path, stop = tmp_path / "a.png", threading.Event()
    path.write_bytes(bytes(4_000_000))

    def write() -> None:
        with open(path, "r+b", buffering=0) as file:
            while not stop.is_set():
                file.seek(0)
                file.write(os.urandom(100_000))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        reasons = set()
        for _ in range(200):
            try:
                read_file(path)
            except Unreadable as error:
                reasons.add(str(error))
                break
    finally:
        stop.set()
        writer.join()
    assert reasons == {"it changed while it was read"}


def test_a_postscript_file_is_not_handed_to_another_program() -> None:
    """13: Pillow would start Ghostscript for it, whatever the file is called."""
    with pytest.raises(Unreadable, match="not an image in any known format"):
        decode(EPS)
    assert squash(decode(encoded(PHOTO)), 8).shape == (8, 8, 3)
