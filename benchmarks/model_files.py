"""Stage one on ONNX files: MobileNetV2 against Keras's own, a ViT-S/14 against OpenVINO alone; turn about in one run.

    python -m benchmarks.model_files PHOTOS WEIGHTS

First the files of tests/data/hub.zip, as optimum, PyTorch and tf2onnx export the families that the docs name: the
largest difference from the rows of their makers, by both engines. Then images a second from the first image to the
last, with the network built. OpenVINO alone computes zeros: it reads, decodes and writes nothing. Each way's first turn
warms up and is not counted; the ratio is the median over the turns.
"""

import os
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.results import linked, row, speed
from extract import extract
from extract.backbones import backbone_named
from extract.network.base import load_base
from extract.network.convert import import_openvino
from extract.network.forward import compile_forward
from extract.network.onnx_network import OnnxNetwork
from extract.preprocessing import Preprocessing
from tests.onnx_models import of_keras, vit

HUB = Path(__file__).parents[1] / "tests" / "data" / "hub.zip"
TURNS, SIDE, BATCH = 5, 224, 4


def stage(data: Path, backbone: str, **how: str) -> float:
    """Images a second of stage one, as it records them."""
    with tempfile.TemporaryDirectory() as folder:
        return speed(extract(str(data), backbone, **how, batch=BATCH, out=f"{folder}/a.h5"))  # type: ignore[arg-type]


def alone(file: Path, count: int) -> float:
    """Images a second of OpenVINO's forward pass, as many batches at a time as there are cores."""
    openvino, lanes = import_openvino(), os.cpu_count() or 1
    model = openvino.Core().read_model(file)
    model.reshape([BATCH, 3, SIDE, SIDE])
    how = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": lanes, "INFERENCE_NUM_THREADS": lanes}
    compiled = openvino.Core().compile_model(model, "CPU", how)
    requests = [compiled.create_infer_request() for _ in range(lanes)]
    pixels = np.zeros((BATCH, 3, SIDE, SIDE), "f4")

    def some(lane: int) -> None:
        for _ in range(count // BATCH // lanes):
            requests[lane].infer([pixels], share_inputs=True)

    with ThreadPoolExecutor(lanes) as pool:
        began = time.perf_counter()
        list(pool.map(some, range(lanes)))
        return (count // BATCH // lanes) * BATCH * lanes / (time.perf_counter() - began)


def compared(what: str, ours: list[float], theirs: list[float], bar: str) -> None:
    ratio = median(a / b for a, b in zip(ours[1:], theirs[1:], strict=True))
    row(what, f"{median(ours[1:]):.1f} against {median(theirs[1:]):.1f} images/s: {ratio:.2f}×", bar)


def published(folder: Path) -> None:
    """How far the rows of published files are from those that PyTorch or Keras gave for them."""
    with zipfile.ZipFile(HUB) as hub:
        hub.extractall(folder)
    files, half, largest = (
        sorted(folder.glob("*/model.onnx")),
        Preprocessing.parsed("mean=0.5 std=0.5", None).values,
        0.0,
    )
    for file in files:
        known = dict(np.load(file.with_name("rows.npz")))
        side = int(known.pop("side"))
        pixels = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), "u1")
        for layer, rows in known.items():
            first = rows.ndim == 4 and not file.parent.name.startswith("keras")
            expected = (rows.transpose(0, 2, 3, 1) if first else rows).reshape(3, -1)
            for engine in ("openvino", "onnxruntime"):
                (made,) = compile_forward(OnnxNetwork(file, half, side, [layer]), 3, "cpu", engine)(pixels)
                largest = max(largest, float(np.abs(made - expected).max() / np.abs(expected).max()))
    row(
        f"{len(files)} files of hubs: largest difference from their makers' rows",
        f"{largest:.1e} of the largest",
        "1e-4",
    )


def main(photos: str, weights: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        published(folder / "hub")
        data = linked(Path(photos), 384, folder / "photos")
        base, _ = load_base(backbone_named("mobilenetv2"), weights, SIDE, seed=0)
        file = of_keras(base, folder / "mobilenet.onnx")
        onnx, keras = [], []
        for _ in range(TURNS + 1):
            onnx.append(stage(data, str(file), preprocess="tf"))
            keras.append(stage(data, "mobilenetv2", weights=weights))
        compared("mobilenetv2 as an ONNX file, against `--backbone mobilenetv2`", onnx, keras, "0.95×")
        few, file = linked(Path(photos), 96, folder / "few"), vit(folder / "vit.onnx")
        whole, bare = [], []
        for _ in range(TURNS + 1):
            whole.append(stage(few, str(file), preprocess="imagenet"))
            bare.append(alone(file, 96))
        compared(
            "ViT-S/14 (ONNX, random weights), the whole stage against OpenVINO's forward pass", whole, bare, "0.95×"
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
