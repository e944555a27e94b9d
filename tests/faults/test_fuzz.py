"""Thousands of damaged files: rows, or one line that says what is wrong; no crash, no hang, no other file opened."""

import ctypes
import io
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from tiny import REPO, begin, contents, environment, put, stack

from benchmarks.profiles import ADOBE_RGB, rgb_profile
from features.writer import StackWriter

# One line a file. What is opened may take half a gigabyte beside what the imports took, an image the 640 MB that the
# largest takes and as much again for its turned copy; and ten seconds of the processor.
OPEN = """
import resource, signal, sys
from features import Failed, verify

def limited(room):
    now = int(open("/proc/self/statm").read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (now + room,) * 2)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, 10)
        yield line.rstrip("\\n")

def one(path):
    try:
        verify(path, rows_only=True)
        return "sound"
    except Failed as error:
        return str(error).splitlines()[0]
"""
OPEN_ALL = OPEN + "\nfor path in limited(512 << 20): print(one(path), flush=True)"
READ_ALL = (
    OPEN
    + """
from pathlib import Path
import numpy as np
from extract.backbones import BACKBONES
from extract.images.dataset import Listing
from extract.compute.pipeline import read_block
from extract.recipe import Recipe

def one(path):
    listing = Listing("fuzz", Path(path).parent, [Path(path).name], np.zeros(1, int), ["a"], None)
    recipe = Recipe(listing, BACKBONES["vgg16"], "random", "block5_pool", size=16, seed=0, views=1)
    block = read_block(recipe, 2 * listing.paths, np.array([0, 1]), np.array([0, 1]))
    assert block.images.shape == (2, 16, 16, 3) and len(set(block.reasons.values())) <= 1
    return "sound" if not block.reasons else block.reasons[0]

for path in limited(3 << 30): print(one(path), flush=True)
"""
)


def said_of(program: str, paths: Iterable[Path]) -> list[str]:
    """What a process with little memory says of each file; `died …` where it crashed, hung or raised."""
    left, said = list(map(str, paths)), []
    cwd = Path(left[0]).parent  # where HDF5 looks for other files
    while left:
        words = [sys.executable, "-c", program]
        env = environment(PYTHONPATH=str(REPO), OPENBLAS_NUM_THREADS="1")
        done = subprocess.run(words, input="\n".join(left), env=env, capture_output=True, text=True, cwd=cwd)
        lines = done.stdout.splitlines()
        if done.returncode:
            lines.append(f"died {done.returncode} of {left[len(lines)]}: {done.stderr[-300:]}")
        said, left = said + lines, left[len(lines) :]
    return said


def mutated(seeds: list[bytes], count: int, seed: int = 0) -> list[bytes]:
    """Seeds with bits flipped, bytes replaced, inserted or cut out, part of another in them, or their end missing."""
    random = np.random.default_rng(seed)
    changed = []
    for _ in range(count):
        data = bytearray(seeds[random.integers(len(seeds))])
        for _ in range(random.integers(1, 5)):
            # Headers are short, and what can be changed in them counts most.
            at = int(len(data) * random.random() ** random.choice([1, 4]))
            size = int(random.integers(1, 9))
            other = seeds[random.integers(len(seeds))]
            part = int(random.integers(len(other)))
            noise = random.choice([random.bytes(size), bytes(size), b"\xff" * size, b"\x7f" + bytes(size - 1)])
            kind = random.integers(6)
            if kind == 0 and at < len(data):
                data[at] ^= 1 << int(random.integers(8))
            elif kind == 1:
                data[at : at + size] = noise
            elif kind == 2:
                data[at:at] = noise
            elif kind == 3:
                del data[at : at + int(random.integers(1, 65))]
            elif kind == 4:
                data[at : at + 64 * size] = other[part : part + 64 * size]
            elif random.random() < 0.5:
                del data[at:]
        changed.append(bytes(data))
    return changed


def images() -> list[bytes]:
    """One image of every kind that is read."""
    random = np.random.default_rng(0)
    rgb = Image.fromarray(random.integers(0, 256, (21, 30, 3), "u1"))
    deep = Image.fromarray(random.integers(0, 65536, (21, 30), "u2"))
    clear = Image.fromarray(random.integers(0, 256, (21, 30, 4), "u1"))
    turned = Image.Exif()
    turned[0x0112] = 6
    moving = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}
    made: list[tuple[Image.Image, str, dict[str, object]]] = [
        *((rgb, "JPEG", how) for how in ({}, {"progressive": True}, {"exif": turned}, {"subsampling": 2})),
        *((rgb.convert(mode), "JPEG", {}) for mode in ("CMYK", "L")),
        *((image, "PNG", {}) for image in (rgb, deep, clear, rgb.convert("P"), rgb.convert("1"))),
        *((rgb, "GIF", how) for how in ({}, moving)),
        *((clear, "WEBP", how) for how in ({}, {"lossless": True}, moving)),
        *((rgb, "TIFF", {"compression": how}) for how in (None, "tiff_lzw", "tiff_deflate", "jpeg", "packbits")),
        *((image, "TIFF", {}) for image in (deep, clear, rgb.convert("F"), rgb.convert("LAB"))),
        *((image, "BMP", {}) for image in (rgb, rgb.convert("P"), rgb.convert("1"))),
        *((image, "PPM", {}) for image in (rgb, deep, rgb.convert("1"))),
        *((rgb.convert("1"), "TIFF", {"compression": how}) for how in ("group3", "group4")),
        *((rgb, name, {"icc_profile": rgb_profile(ADOBE_RGB)}) for name in ("JPEG", "PNG")),
        *((rgb, name, {}) for name in ("JPEG2000", "DDS", "DIB")),
        *((rgb, name, moving if name == "MPO" else {}) for name in ("MPO", "AVIF") if name in Image.SAVE),
    ]
    files = []
    for image, kind, how in made:
        file = io.BytesIO()
        image.save(file, kind, **how)
        files.append(file.getvalue())
    return files


def stacks(folder: Path) -> list[bytes]:
    """A plain stack, one with rejects, a packed one, and ones that point at `secret.h5`."""
    held = contents()
    secret = stack(folder / "secret.h5", held).name  # beside them: the same bytes in whatever folder
    paths = [stack(folder / f"{name}.h5", held) for name in ("plain", "packed", "linked", "virtual", "elsewhere")]
    begin(folder / "rejects.h5", held)
    with StackWriter(folder / "rejects.h5") as writer:
        put(writer, held, 0, 10, rejected=(3,))
        paths.append(writer.finish(held["split"], {3: "torn"}))
    for path, name in ((folder / f"{name}.h5", name) for name in ("packed", "linked", "virtual", "elsewhere")):
        with h5py.File(path, "r+") as file:
            rows = file["features"][:]
            del file["features"]
            if name == "packed":
                file.create_dataset("features", data=rows, chunks=(4, 24), compression="gzip", fletcher32=True)
            elif name == "linked":
                file["features"] = h5py.ExternalLink(secret, "/features")
            elif name == "elsewhere":
                file.create_dataset("features", rows.shape, "<f4", external=[(secret, 4096, rows.nbytes)])
            else:
                layout = h5py.VirtualLayout(rows.shape, "<f4")
                layout[:] = h5py.VirtualSource(secret, "features", rows.shape)
                file.create_virtual_dataset("features", layout)
    return [path.read_bytes() for path in paths]


class Watch:
    """Whether a file is opened by any process: Linux's inotify."""

    def __init__(self, path: Path) -> None:
        self._libc = ctypes.CDLL(None)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK)
        assert self._libc.inotify_add_watch(self._fd, os.fsencode(path), 0x20) > 0  # IN_OPEN

    def opened(self) -> bool:
        try:
            return bool(os.read(self._fd, 4096))
        except BlockingIOError:
            return False


def written(folder: Path, files: list[bytes]) -> list[Path]:
    paths = [folder / f"{i}" for i in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    return paths


SOAK = pytest.mark.soak


@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=SOAK)])
def test_mutated_images(tmp_path: Path, count: int) -> None:
    """3, 4, 13: of every kind that is read: decoded, or unreadable for one reason; views of it too."""
    seeds = images()
    assert said_of(READ_ALL, written(tmp_path, seeds)) == ["sound"] * len(seeds)
    said = said_of(READ_ALL, written(tmp_path, mutated(seeds, count)))
    assert [line for line in said if line.startswith("died")] == []
    assert len(said) == count
    assert count / 4 < sum(line != "sound" for line in said) < count


@pytest.mark.parametrize("count", [500, pytest.param(20_000, marks=SOAK)])
def test_mutated_stacks(tmp_path: Path, count: int) -> None:
    """45: sound, or refused in one line; whatever they point at is not opened."""
    seeds = stacks(tmp_path)
    watch = Watch(tmp_path / "secret.h5")
    said = said_of(OPEN_ALL, written(tmp_path, mutated(seeds, count)))
    assert [line for line in said if line.startswith("died")] == []
    assert len(said) == count
    assert count / 4 < sum(line != "sound" for line in said) < count
    assert not watch.opened()
    assert (tmp_path / "secret.h5").read_bytes() and watch.opened(), "and it would have been seen"
