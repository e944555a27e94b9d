"""Tiny real things to test with: photos, stacks, and commands run as a user runs them."""

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from features.layout import lay_out, layout_path, partial_path
from features.runtime.disk import publish
from features.schema import SPLITS
from features.writer import StackWriter

REPO = Path(__file__).resolve().parents[1]
NO_KERAS = REPO / "tests" / "no_keras"  # its modules stand in the way of Keras in `make quick`
NOISE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), "u1")
PHOTO = Image.fromarray(NOISE)
# Another process that holds the lock of a stack until its stdin is closed.
HOLD = """
import pathlib, sys
from features.runtime.lock import writer_lock
with writer_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def photos(root: Path, classes: int = 3, each: int = 6, side: int = 40, seed: int = 0) -> Path:
    """Noise images in class folders, `root/class0/0.png` …, every other one a JPEG; no two alike."""
    random = np.random.default_rng(seed)
    for label in range(classes):
        for i in range(each):
            path = root / f"class{label}" / f"{i}.{'jpg' if i % 2 else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (side, side + label, 3), "u1")).save(path)
    return root


def attributes(**changes: Any) -> dict[str, Any]:
    """Root attributes as stage one writes them."""
    return {
        "backbone": "vgg16",
        "layer": "block5_pool",
        "weights": "random",
        "weights_sha256": "0" * 64,
        "preprocessing": "caffe",
        "input_size": 32,
        "resize": "squash",
        "resize_filter": "bilinear",
        "dtype": "float32",
        "precision": "f32",
        "seed": 0,
        "dataset_root": "/nowhere",
        "command": "python -m extract photos --backbone vgg16",
        **changes,
    }


def contents(rows: int = 10, shape: tuple[int, ...] = (2, 3, 4), classes: int = 2, seed: int = 0) -> dict[str, Any]:
    """What a stack may hold: features (rows, width) float32 and the rows' identity."""
    random = np.random.default_rng(seed)
    paths = [f"class{i % classes}/é{i}.png" for i in range(rows)]
    return {
        "features": random.standard_normal((rows, int(np.prod(shape)))).astype("<f4"),
        "labels": np.arange(rows) % classes,
        "paths": paths,
        "split": np.array([SPLITS["test"] if i % 4 == 3 else SPLITS["train"] for i in range(rows)], "u1"),
        "sha256": np.array([np.frombuffer(hashlib.sha256(path.encode()).digest(), "u1") for path in paths]),
        "size": np.arange(rows) + 100,
        "mtime_ns": np.arange(rows) + 10**18,
        "view": np.zeros(rows, "i4"),
        "label_names": [f"class{label}" for label in range(classes)],
        "shape": shape,
    }


def begin(path: Path, held: dict[str, Any], **attrs: Any) -> Path:
    """Lay out `<path>.partial` for these contents, every row still empty."""
    known = {
        name: held[name] for name in ("paths", "labels", "view", "size", "mtime_ns", "group", "copies") if name in held
    }
    lay_out(layout_path(path), known, held["label_names"], held["shape"], attributes(**attrs))
    publish(layout_path(path), partial_path(path))
    return path


def put(writer: StackWriter, held: dict[str, Any], start: int, stop: int, rejected: tuple[int, ...] = ()) -> None:
    """Write rows start:stop of the contents."""
    stats = {name: held[name][start:stop] for name in ("sha256", "size", "mtime_ns")}
    writer.write(start, held["features"][start:stop], stats, np.isin(np.arange(start, stop), rejected), 0.5)


def stack(path: Path, held: dict[str, Any], **attrs: Any) -> Path:
    """A finished stack of these contents."""
    begin(path, held, **attrs)
    with StackWriter(path) as writer:
        put(writer, held, 0, len(held["paths"]))
        return writer.finish(held["split"], {})


def flip(path: Path, offset: int, mask: int = 1) -> None:
    """Flip bits of one byte of a file."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


def environment(**changes: str) -> dict[str, str]:
    """What a process that a test starts has in its environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as in an activated environment
    env = os.environ | {"PYTHONPATH": str(REPO), "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": path} | changes
    if "QUICK" in os.environ:
        env["PYTHONPATH"] = f"{NO_KERAS}:{env['PYTHONPATH']}"
    return env


def run(*words: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """`python -m …` in a folder outside the repository, as a user would."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)], cwd=cwd, env=environment(**env), capture_output=True, text=True
    )


def copies(root: Path, *paths: str) -> Path:
    """Small image files at these paths below root."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / path)
    return root


def csv(root: Path, text: str, encoding: str = "utf-8") -> str:
    """A manifest in root, beside images a.png … d.png."""
    copies(root, "a.png", "b.png", "c.png", "d.png")
    (root / "list.csv").write_text(text, encoding)
    return str(root / "list.csv")


def food(root: Path) -> Path:
    copies(root, *(f"images/{label}/{i}.jpg" for label in ("soup", "pie") for i in range(3)))
    (root / "meta").mkdir()
    (root / "meta" / "classes.txt").write_text("pie\nsoup\n")
    (root / "meta" / "train.txt").write_text("soup/0\nsoup/2\npie/1\npie/0\n")
    (root / "meta" / "test.txt").write_text("soup/1\npie/2\n")
    return root


def rows_of(path: Path) -> dict[str, bytes]:
    """The bytes of every dataset but the clock's, read with h5py alone."""
    with h5py.File(path, "r") as file:
        return {name: file[name][()].tobytes() for name in file if name not in ("extract_seconds", "label_names")}


def encoded(image: Image.Image, kind: str = "PNG", **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()
