"""Stage one against other ways to the same features: the same photos, network and weights, turn about in one run.

    python -m benchmarks.engines PHOTOS [WEIGHTS]

- `image_dataset_from_directory` and `Model.predict`, today's Keras, for three networks and for photos of 12 megapixels,
  made of the given ones (4000×3000, JPEG quality 92).
- `ImageDataGenerator.flow_from_directory` and `Model.predict`, as the sources of the published figures do it.
- The well-known HDF5 recipe: `load_img` for each image, `predict` for each batch of 32, a float64 dataset that grows.

MobileNetV2 has the WEIGHTS, the others seeded random ones. Images a second from the first image to the last, with the
network built and compiled; each way's first turn warms up and is not counted. The ratio is the median over the turns.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import numpy as np
from PIL import Image

from benchmarks.results import drawn, linked, row, speed
from extract import extract
from extract.backbones import Backbone, backbone_named
from extract.network.base import load_base
from extract.network.engines import choose_engine
from extract.network.forward import choose_device
from extract.network.importing import import_keras

TURNS, BATCH, LARGE = 3, 32, 96
# backbone → images, and --precision → how many times the peer's images/s it should reach
CASES: dict[str, tuple[int, dict[str, float]]] = {
    "mobilenetv2": (384, {"f32": 1.8, "bf16": 3.0}),
    "efficientnetb0": (384, {"f32": 1.8}),
    "vgg16": (64, {"f32": 1.0, "bf16": 1.9}),
}
Way = Callable[[Path, Any, Backbone], None]  # (folder of photos, base, backbone): compute all features


def prepared(backbone: Backbone, pixels: Any) -> Any:
    return getattr(import_keras().applications, backbone.module).preprocess_input(pixels)


def dataset_and_predict(data: Path, base: Any, backbone: Backbone) -> None:
    photos = import_keras().utils.image_dataset_from_directory(
        data, image_size=(backbone.size, backbone.size), batch_size=BATCH, shuffle=False, verbose=False
    )
    base.predict(photos.map(lambda pixels, _: prepared(backbone, pixels)), verbose=0)


def flow_from_directory(data: Path, base: Any, backbone: Backbone) -> None:
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    generator = ImageDataGenerator(preprocessing_function=lambda pixels: prepared(backbone, pixels))
    size = (backbone.size, backbone.size)
    flow = generator.flow_from_directory(data, target_size=size, batch_size=BATCH, shuffle=False, class_mode=None)
    base.predict(flow, verbose=0)


def hdf5_recipe(data: Path, base: Any, backbone: Backbone) -> None:
    keras = import_keras()
    files, width = sorted(data.rglob("*.jpg")), int(np.prod(base.output_shape[1:]))
    with tempfile.TemporaryDirectory() as folder, h5py.File(Path(folder) / "features.h5", "w") as file:
        out = file.create_dataset("features", (0, width), maxshape=(None, width), dtype="float64")
        for start in range(0, len(files), BATCH):
            batch = []
            for path in files[start : start + BATCH]:
                image = keras.utils.load_img(path, target_size=(backbone.size, backbone.size))
                batch.append(prepared(backbone, np.expand_dims(keras.utils.img_to_array(image), 0)))
            features = base.predict(np.vstack(batch), verbose=0)
            out.resize(start + len(features), axis=0)
            out[start:] = features.reshape(len(features), -1)


def ours(data: Path, name: str, weights: str, precision: str) -> float:
    """Images a second of stage one, as it records them."""
    with tempfile.TemporaryDirectory() as folder:
        return speed(extract(str(data), name, weights=weights, precision=precision, out=f"{folder}/a.h5"))


def is_computed_here(precision: str) -> bool:
    """Whether the machine has this arithmetic; on a CPU without, Keras would emulate it, which nobody wants to time."""
    device = choose_device("auto")
    return precision == "f32" or device == "gpu" or choose_engine("auto", device, precision)[0].name == "openvino"


def turns(data: Path, name: str, weights: str, count: int, way: Way, bars: dict[str, float], what: str) -> None:
    """Print a row for each precision: our images/s, the peer's, and the ratio."""
    for precision in bars:
        if not is_computed_here(precision):
            row(
                f"{name} {precision}, {what}", "not tried: this processor has no such arithmetic", f"{bars[precision]}×"
            )
    bars = {precision: bar for precision, bar in bars.items() if is_computed_here(precision)}
    backbone = backbone_named(name)
    base, _ = load_base(backbone, weights, backbone.size, seed=0)
    theirs: list[float] = []
    mine: dict[str, list[float]] = {precision: [] for precision in bars}
    for _ in range(TURNS + 1):
        began = time.perf_counter()
        way(data, base, backbone)
        theirs.append(count / (time.perf_counter() - began))
        for precision, speeds in mine.items():
            speeds.append(ours(data, name, weights, precision))
    for precision, speeds in mine.items():
        ratio = median(a / b for a, b in zip(speeds[1:], theirs[1:], strict=True))
        figure = f"{median(speeds[1:]):.1f} against {median(theirs[1:]):.1f} images/s: {ratio:.2f}×"
        row(f"{name} {precision}, {what}", figure, f"{bars[precision]}×" if bars[precision] else "")


def enlarged(photos: Path, count: int, folder: Path) -> Path:
    """Photos of 12 megapixels, as today's cameras take them, made of smaller ones."""
    for i, photo in enumerate(drawn(photos, count)):
        place = folder / "ab"[i % 2] / f"{i:05}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        image = Image.open(photo).convert("RGB")
        size = (4000, 3000) if image.width >= image.height else (3000, 4000)
        image.resize(size, Image.Resampling.BICUBIC).save(place, quality=92)
    return folder


def main(photos: Path, weights: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for backbone, (count, bars) in CASES.items():
            data = linked(photos, count, folder / backbone)
            wanted = weights if backbone == "mobilenetv2" else "random"
            turns(data, backbone, wanted, count, dataset_and_predict, bars, "against `image_dataset` + `predict`")
        large = enlarged(photos, LARGE, folder / "large")
        what = "12-megapixel photos, against the same"
        turns(large, "mobilenetv2", weights, LARGE, dataset_and_predict, {"f32": 1.5}, what)
        data = folder / "mobilenetv2"
        for way, what in ((flow_from_directory, "`flow_from_directory` + `predict`"), (hdf5_recipe, "the HDF5 recipe")):
            turns(data, "mobilenetv2", weights, len(list(data.rglob("*.jpg"))), way, {"f32": 0}, f"against {what}")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "random")
