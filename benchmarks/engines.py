"""Stage one against `image_dataset_from_directory` and `model.predict`, the same photos and weights, turn about.

    python -m benchmarks.engines PHOTOS [WEIGHTS]

MobileNetV2 (WEIGHTS, or seeded random ones) at f32 and bf16 on photos as they are, and at f32 on photos of 12
megapixels made of them (4000×3000, JPEG quality 92). Prints images/s, the median ratio, and how far the rows of the
12-megapixel photos, decoded no larger than needed, are from those of the same photos decoded in full.
"""

import os
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from extract import extract
from extract.backbones import backbone_named
from extract.base import import_keras, load_base
from extract.forward import compile_forward
from extract.image import decode, squash
from features import open_stack

ROUNDS, ROWS, LARGE, BATCH = 2, 192, 48, 32


def folders(photos: Path, count: int, folder: Path, large: bool) -> Path:
    """So many photos in two class folders: links to them, or copies of them at 12 megapixels."""
    files = sorted(photos.rglob("*.jpg"))
    random.Random(0).shuffle(files)
    for i, file in enumerate(files[:count]):
        place = folder / "ab"[i % 2] / f"{i:05}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        if large:
            image = Image.open(file).convert("RGB")
            size = (4000, 3000) if image.width >= image.height else (3000, 4000)
            image.resize(size, Image.Resampling.BICUBIC).save(place, quality=92)
        else:
            place.symlink_to(file.resolve())
    return folder


def turns(data: Path, weights: str, count: int, out: Path, precisions: tuple[str, ...]) -> None:
    keras, row = import_keras(), backbone_named("mobilenetv2")
    base, _ = load_base(row, weights, row.size, seed=0)
    peer: list[float] = []
    ours: dict[str, list[float]] = {name: [] for name in precisions}
    for turn in range(ROUNDS + 1):  # the first warms up, and is not counted
        photos = keras.utils.image_dataset_from_directory(
            data, image_size=(row.size, row.size), batch_size=BATCH, shuffle=False, verbose=False
        )
        prepared = photos.map(lambda pixels, _: keras.applications.mobilenet_v2.preprocess_input(pixels))
        began = time.perf_counter()
        base.predict(prepared, verbose=0)
        peer.append(count / (time.perf_counter() - began))
        for precision in precisions:
            file = out / f"{turn}-{precision}.h5"
            stack = extract(str(data), "mobilenetv2", weights=weights, precision=precision, batch=BATCH, out=str(file))
            ours[precision].append(count / open_stack(stack).extract_seconds)
            file.unlink()
    for name, speeds in ours.items():
        ratio = median(a / b for a, b in zip(speeds[1:], peer[1:], strict=True))
        print(
            f"MobileNetV2 {name}: whole stage {median(speeds[1:]):.1f} images/s, "
            f"predict {median(peer[1:]):.1f} images/s, ratio {ratio:.2f}",
            flush=True,
        )


def drift(data: Path, weights: str) -> str:
    row = backbone_named("mobilenetv2")
    base, _ = load_base(row, weights, row.size, seed=0)
    forward, _ = compile_forward(base, row, BATCH, "cpu", "openvino")
    files = [file.read_bytes() for file in sorted(data.rglob("*.jpg"))[:BATCH]]
    scaled = np.stack([squash(decode(file, row.size), row.size) for file in files])
    full = np.stack([squash(decode(file), row.size) for file in files])
    a, b = forward(scaled), forward(full)
    pixels = np.abs(scaled.astype("f4") - full).mean()
    rows = np.median(np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1))
    return f"scaled decoding: pixels {pixels:.2f} of 255 away on average, rows {100 * rows:.1f} % of their length"


def main(photos: Path, weights: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"load before: {os.getloadavg()[0]:.1f}", flush=True)
        turns(folders(photos, ROWS, folder / "small", large=False), weights, ROWS, folder, ("f32", "bf16"))
        large = folders(photos, LARGE, folder / "large", large=True)
        print("at 12 megapixels:")
        turns(large, weights, LARGE, folder, ("f32",))
        print(drift(large, weights))
        print(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "random")
