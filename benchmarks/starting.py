"""How soon commands are done, as whole processes: from their start to their end, with the network kept from before.

    python -m benchmarks.starting PHOTOS WEIGHTS

- `predict` of one photo, MobileNetV2 with WEIGHTS and logistic regression, against the same with nothing kept
  (`FEATURE_STACKS_CACHE_GB=0`): Keras is imported, the network built and converted.
- Extraction of 100 and of 1,000 photos, MobileNetV2 with WEIGHTS, against a program of plain Keras that does the same:
  `image_dataset_from_directory`, `predict`, `numpy.save`.
- Three layers of VGG16 (seeded random weights) in one pass, against a command for each.

The ways take turns in one run; the first turn warms up and is not counted. Seconds and ratio: medians over the turns.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.results import linked, row

KERAS = """
import sys
import keras
import numpy as np

data, weights, out = sys.argv[1:]
module = keras.applications.mobilenet_v2
base = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(224, 224, 3))
base.load_weights(weights)
photos = keras.utils.image_dataset_from_directory(data, image_size=(224, 224), batch_size=32, shuffle=False)
np.save(out, base.predict(photos.map(lambda pixels, _: module.preprocess_input(pixels)), verbose=0))
"""
EXTRACTED = {100: (5, "5×"), 1000: (3, "2.5×")}  # photos → turns, bar
PREDICTED, THREE, THREE_TURNS = 7, 64, 3  # turns of predicting; photos and turns of three layers
LAYERS = ("block3_pool", "block4_pool", "block5_pool")


def seconds(*words: object, **env: str) -> float:
    """Of a whole process."""
    began = time.perf_counter()
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | env)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - began


def told(what: str, slow: list[float], fast: list[float], bar: str) -> None:
    """A row on two ways that took turns, without the first of them."""
    ratio = median(a / b for a, b in zip(slow[1:], fast[1:], strict=True))
    row(what, f"{median(fast[1:]):.2f} s against {median(slow[1:]):.2f} s: {ratio:.2f}×", bar)


def predicting(photos: Path, weights: str, folder: Path) -> None:
    data, model = linked(photos, 200, folder / "few"), folder / "model"
    extraction = ("-m", "extract", data, "--backbone", "mobilenetv2", "--weights", weights)
    seconds(*extraction, "--out", folder / "few.h5")
    seconds("-m", "classify", "fit", folder / "few.h5", "--model", "logreg", "--out", model)
    words = ("-m", "classify", "predict", model, next(data.rglob("*.jpg")))
    slow, fast = [], []
    for _ in range(PREDICTED + 1):
        slow.append(seconds(*words, FEATURE_STACKS_CACHE_GB="0"))
        fast.append(seconds(*words))
    told("`predict` of one photo, mobilenetv2 and logreg, against nothing kept", slow, fast, "5×, 1.5 s")


def extracting(photos: Path, weights: str, count: int, folder: Path) -> None:
    data, (turns, bar) = linked(photos, count, folder / str(count)), EXTRACTED[count]
    slow, fast = [], []
    for turn in range(turns + 1):
        slow.append(seconds("-c", KERAS, data, weights, folder / "keras.npy", TF_CPP_MIN_LOG_LEVEL="2"))
        out = ("--out", folder / f"{count}-{turn}.h5")
        fast.append(seconds("-m", "extract", data, "--backbone", "mobilenetv2", "--weights", weights, *out))
    told(f"mobilenetv2 f32, {count:,} photos as a whole process, against `image_dataset` + `predict`", slow, fast, bar)


def layers(photos: Path, folder: Path) -> None:
    data = linked(photos, THREE, folder / "three")
    words = ("-m", "extract", data, "--backbone", "vgg16", "--weights", "random")
    slow, fast = [], []
    for turn in range(THREE_TURNS + 1):
        each = (("--layer", layer, "--out", folder / f"{turn}-{layer}.h5") for layer in LAYERS)
        slow.append(sum(seconds(*words, *one) for one in each))
        fast.append(seconds(*words, "--layer", *LAYERS, "--out", folder / f"{turn}"))
    told(f"vgg16, {', '.join(LAYERS)} of {THREE} photos in one pass, against three commands", slow, fast, "2.7×")


def main(photos: Path, weights: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["FEATURE_STACKS_CACHE"] = str(folder / "cache")
        predicting(photos, weights, folder)
        for count in EXTRACTED:
            extracting(photos, weights, count, folder)
        layers(photos, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
