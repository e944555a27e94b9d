"""What faster ways to the features cost in accuracy: bf16 arithmetic, and JPEGs decoded no larger than needed.

    python -m benchmarks.accuracy PHOTOS WEIGHTS

MobileNetV2 and logistic regression on the same test rows, paired 95 % intervals. The photos' short side is 256 pixels,
so decoding at half size is tried at 64 pixels, where it just sets in: the least spare detail there can be. Then how far
pixels and rows move in photos of 12 megapixels, made of the given ones.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.engines import enlarged
from benchmarks.results import row
from classify import fit
from classify.comparison.judge import paired_difference
from extract import extract
from extract.backbones import backbone_named
from extract.compute.local import Compute
from extract.images.dataset import scan
from extract.images.decode import decode, squash
from extract.network.forward import choose_device, compile_forward
from extract.network.network import KerasNetwork
from extract.recipe import Recipe
from extract.stack.job import Job
from extract.stack.make import make_stacks

LARGE = 32  # photos


def compared(what: str, plain: Path, faster: Path, folder: Path) -> None:
    """A row on logistic regression with the faster rows against the plain ones."""
    fits = [fit(str(stack), "logreg", out=str(folder / f"fit-{stack.stem}")) for stack in (plain, faster)]
    before, after = (json.loads((made / "result.json").read_text())["accuracy"] for made in fits)
    difference, (low, high), _ = paired_difference(fits[1], fits[0])
    figure = f"{after:.2%} against {before:.2%}: {100 * difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
    row(f"logreg on mobilenetv2, {what}", figure, "0 inside")


def drift(photos: Path, weights: str) -> None:
    """A row on how far scaled decoding moves pixels and rows of 12-megapixel photos."""
    backbone = backbone_named("mobilenetv2")
    network = KerasNetwork.named(backbone, weights, backbone.size, 0, [backbone.layer])
    forward = compile_forward(network, LARGE, choose_device("auto"))
    files = [file.read_bytes() for file in sorted(photos.rglob("*.jpg"))]
    scaled = np.stack([squash(decode(file, backbone.size), backbone.size) for file in files])
    full = np.stack([squash(decode(file), backbone.size) for file in files])
    pixels = np.abs(scaled.astype("f4") - full).mean()
    (a,), (b,) = forward(scaled), forward(full)
    rows = np.median(np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1))
    figure = f"pixels {pixels:.2f} of 255 away on average, rows {rows:.1%} of their length"
    row("12-megapixel photos for 224 px, scaled decoding against full", figure)


def main(data: str, weights: str) -> None:
    with TemporaryDirectory() as name:
        folder, backbone = Path(name), backbone_named("mobilenetv2")
        exact, rough = (
            extract(data, "mobilenetv2", weights=weights, precision=precision, out=str(folder / f"{precision}.h5"))
            for precision in ("f32", "bf16")
        )
        compared("bf16 against f32", exact, rough, folder)
        full, scaled = make_stacks(
            [
                Job(
                    folder / f"{decode}.h5",
                    Recipe(scan(data), backbone, weights, backbone.layer, size=64, seed=0, decode=decode),
                    Compute(batch=32),
                    "benchmarks.accuracy",
                )
                for decode in ("full", "scaled")
            ]
        )
        compared("64 px, scaled decoding against full", full, scaled, folder)
        drift(enlarged(Path(data), LARGE, folder / "large"), weights)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
