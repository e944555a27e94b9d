"""Exported files against the model that they were exported from: the same answers, and how fast one photo is.

    python -m benchmarks.exported PHOTOS WEIGHTS

Models of MobileNetV2's rows, each in Keras, ONNX Runtime and OpenVINO (f32), on 200 photos:

- How many labels are those of `Classifier`, and the largest difference of a probability, on the very same pixels.
- Seconds from a photo's file to its probabilities, one photo at a time: decoded and resized by Pillow and computed by
  the runtime, against `Classifier.predict_proba`, which computes a whole batch. The two take turns; medians. Of two
  models.

XGBoost goes to ONNX alone. The RBF SVM is fitted to pooled rows: those of the whole stack would be 0.8 GB.
"""

import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.results import drawn, row
from classify import Classifier, export, fit
from classify.export import TARGETS
from extract import extract

COUNT, AT_ONCE = 200, 20
TURNS, IN_A_TURN, WARM = 4, 20, 5  # the first few of a turn are not counted
CLOSE = 1e-4
MODELS: dict[str, dict[str, Any]] = {
    "logreg": {},
    "linearsvm": {},
    "svm": {"pool": "avg"},
    "knn": {"pool": "avg"},
    "xgboost": {},
    "dense": {},
    "finetune": {},
}
TIMED = ("logreg", "svm")
Answer = Callable[[np.ndarray], np.ndarray]


def runtime(file: Path) -> Answer:
    """A file in its own runtime, (n, size, size, 3) uint8 → (n, classes)."""
    if file.suffix == ".keras":
        import keras

        model = keras.saving.load_model(file, compile=False)
        return lambda pixels: np.asarray(model(pixels))
    if file.suffix == ".onnx":
        session = import_module("onnxruntime").InferenceSession(str(file))
        return lambda pixels: np.asarray(session.run(["probabilities"], {"pixels": pixels})[0])
    import openvino

    compiled = openvino.compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda pixels: np.asarray(compiled(pixels)["probabilities"])


def by_itself(answer: Answer, photo: Path) -> np.ndarray:
    """Probabilities of a photo's file, without this project."""
    image = Image.open(photo).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    return answer(np.asarray(image)[None])


def seconds(way: Callable[[Path], object], photo: Path) -> float:
    began = time.perf_counter()
    way(photo)
    return time.perf_counter() - began


def compared(name: str, to: str, folder: Path, photos: list[Path]) -> None:
    """The rows about one model in one format."""
    classifier = Classifier.load(folder)
    answer = runtime(export(str(folder), to))
    wanted = classifier.predict_proba(photos)
    pixels = classifier._stages[0].pixels(photos)[0]
    given = np.concatenate([answer(pixels[start : start + AT_ONCE]) for start in range(0, len(pixels), AT_ONCE)])
    labels = int((given.argmax(axis=1) == wanted.argmax(axis=1)).sum())
    apart = np.abs(given - wanted).max(axis=1)
    beyond = f", {int((apart > CLOSE).sum())} photos beyond 1e-4" if (apart > CLOSE).any() else ""
    row(f"{name} to {to}: labels equal, largest difference", f"{labels} of {COUNT}, {apart.max():.1e}{beyond}", "1e-4")
    if name in TIMED:
        row(f"{name} to {to}: one photo, against `Classifier`", beside(classifier, answer, photos))


def beside(classifier: Classifier, answer: Answer, photos: list[Path]) -> str:
    """Milliseconds of both ways, in turns of some photos: after a call, a runtime's threads wait busily for a while."""
    ways = {"file": lambda photo: by_itself(answer, photo), "whole": classifier.predict_proba}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(TURNS):
        for name, way in ways.items():
            some = photos[turn * IN_A_TURN : (turn + 1) * IN_A_TURN]
            taken[name] += [seconds(way, photo) for photo in some][WARM:]
    file, whole = (1e3 * median(taken[name]) for name in ways)
    return f"{file:.1f} ms against {whole:.1f} ms: {whole / file:.1f}×"


def main(photos: str, weights: str) -> None:
    some = drawn(Path(photos), COUNT)
    with TemporaryDirectory() as name:
        stack = extract(photos, "mobilenetv2", weights=weights, out=f"{name}/a.h5")
        for model, how in MODELS.items():
            folder = fit(str(stack), model, out=f"{name}/{model}", **how)
            for to in TARGETS:
                if model != "xgboost" or to == "onnx":
                    compared(model, to, folder, some)


if __name__ == "__main__":
    main(*sys.argv[1:])
