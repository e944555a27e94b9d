import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from test_backbones import APPLICATIONS, calibrate, close
from tiny import environment, flip, photos

from extract import BACKBONES, extract
from extract.network.base import cut, load_base
from extract.network.convert import convert
from extract.network.engines import ENGINES, PRECISIONS, choose_engine
from extract.network.forward import compile_forward
from extract.network.importing import import_keras
from extract.network.network import KerasNetwork
from features import Refused, open_stack
from features.layout import offsets, partial_path

pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {"backbone": "vgg16", "size": 32, "batch": 4, "weights": "random", "layer": "block3_pool"}
FAMILIES = list({row.module: name for name, row in reversed(APPLICATIONS.items())}.values())  # the first of each module
SIDE = 80  # InceptionV3 takes no less than 75
# Random weights amplify rounding: against the same networks in float64 (128 px), Keras is 0.8e-4 (ResNet50) and 1.2e-4
# (InceptionV3) off and OpenVINO 0.7e-4 and 1.0e-4, so the two of them cannot be held to 1e-4 of each other.
AMPLIFY = ("resnet50", "inceptionv3")


@pytest.fixture(autouse=True)
def openvino_here() -> None:
    pytest.importorskip("openvino")
    if import_keras().backend.backend() != "tensorflow":
        pytest.skip("OpenVINO takes its networks from TensorFlow")


@pytest.mark.parametrize("name", [*FAMILIES, "scattering"])
def test_the_engines_agree(name: str) -> None:
    """Guards the default on CPUs: OpenVINO's rows are Keras's at f32, one backbone of every family."""
    row = BACKBONES[name]
    keras = import_keras()
    side = row.size if name == "scattering" else SIDE
    base, _ = load_base(row, "formula" if name == "scattering" else "random", side, seed=3)
    if name != "scattering":
        calibrate(base, getattr(keras.applications, row.module).preprocess_input)
    base = cut(base, row.layer)
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), "u1")
    network = KerasNetwork.around(base, row)
    (expected,), (got,) = (compile_forward(network, 4, "cpu", engine)(pixels) for engine in ("keras", "openvino"))
    assert (got.dtype, got.shape) == (np.float32, expected.shape)
    close(got, expected, 2e-4 if name in AMPLIFY else 1e-4)


def test_the_engines_agree_on_real_photos(shared: Path) -> None:
    """Guards the same on the weights and the photos that people use."""
    weights = shared / "weights" / "mobilenet_v2_imagenet_int8.weights.h5"
    base, _ = load_base(BACKBONES["mobilenetv2"], str(weights), 224, seed=0)
    files = sorted((shared / "data" / "food101-10" / "images").rglob("*.jpg"))[::500]
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB").resize((224, 224))) for file in files])
    network = KerasNetwork.around(base, BACKBONES["mobilenetv2"])
    (expected,), (got,) = (compile_forward(network, 16, "cpu", engine)(pixels) for engine in ("keras", "openvino"))
    close(got, expected)


def test_only_the_rows_are_put_out() -> None:
    """Guards the speed of networks with swish: what TensorFlow keeps for gradients is no output."""
    keras = import_keras()
    pixels = keras.Input((32, 32, 3), dtype="uint8")
    values = keras.layers.Conv2D(4, 3)(keras.ops.silu(keras.ops.cast(pixels, "float32")))
    model = keras.Model(pixels, [keras.layers.Flatten()(keras.ops.silu(values))])
    (rows,) = convert(model).outputs
    assert str(rows.partial_shape) == f"[?,{30 * 30 * 4}]"


def test_a_row_is_the_same_whatever_runs_beside_it() -> None:
    """Guards bit-identical resumption: neighbours, and calls at the same time, change no bit."""
    row = BACKBONES["mobilenetv2"]
    base, _ = load_base(row, "random", 64, seed=3)
    forward = compile_forward(KerasNetwork.around(base, row), 4, "cpu", "openvino")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 4, 64, 64, 3), "u1")
    alone = [forward(block)[0] for block in pixels]
    with ThreadPoolExecutor(forward.lanes + 1) as pool:
        together = [rows for (rows,) in pool.map(forward, pixels)]
    assert np.array_equal(alone, together)
    assert np.array_equal(forward(pixels[0][2:3])[0][0], alone[0][2])


@pytest.mark.parametrize("engine", ["keras", "openvino"])
def test_precision_is_recorded_and_drifts_a_little(tmp_path: Path, engine: str) -> None:
    """Guards `--precision`: another key and file, float32 rows near those at f32, and never those of f32 unasked."""
    if ENGINES[engine].unfit("cpu", "bf16", False):
        pytest.skip("this CPU has no bf16 for OpenVINO")
    data = photos(tmp_path / "photos")
    exact, rough = (
        open_stack(extract(str(data), engine=engine, precision=p, out=str(tmp_path / f"{p}.h5"), **SETTINGS))
        for p in ("f32", "bf16")
    )
    assert (exact.attrs["precision"], rough.attrs["precision"], rough.X.dtype) == ("f32", "bf16", np.float32)
    assert rough.attrs["engine"] == ENGINES[engine].recorded
    assert rough.attrs["weights_sha256"] == exact.attrs["weights_sha256"]
    assert rough.key != exact.key
    drift = np.linalg.norm(rough.X - exact.X) / np.linalg.norm(exact.X)
    assert 1e-4 < drift < 0.03
    with pytest.raises(Refused, match="precision: bf16 in the stack, f32 asked for"):
        extract(str(data), engine=engine, out=str(tmp_path / "bf16.h5"), **SETTINGS)


def test_the_engine_stays_with_a_begun_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards one file against two engines: `auto` goes on with the recorded one, another is refused; versions warn."""
    data, stack = photos(tmp_path / "photos"), tmp_path / "a.h5"
    extract(str(data), engine="keras", out=str(stack), **SETTINGS)
    before = open_stack(stack).X[:].copy()
    partial = stack.rename(partial_path(stack))
    flip(partial, offsets(partial)["row_crc32"])
    with h5py.File(partial, "r+") as file:
        file.attrs["versions"] = '{"numpy": "1.0"}'
    with pytest.raises(Refused, match="engine: keras on tensorflow in the stack, openvino asked for"):
        extract(str(data), engine="openvino", out=str(stack), **SETTINGS)
    extract(str(data), out=str(stack), **SETTINGS)
    said = capsys.readouterr().err
    assert f"warning: the other rows may differ in their last bits: numpy 1.0 then, {np.__version__} here" in said
    with h5py.File(stack, "r") as file:
        assert file.attrs["engine"] == "keras on tensorflow"
        assert np.array_equal(file["features"][:], before)


@pytest.mark.parametrize("engine", ["keras", "openvino"])
def test_the_batch_is_measured_where_there_are_many_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """Guards the batch that measuring chose: one of those tried, recorded, the same rows as when asked for."""
    data, few = photos(tmp_path / "photos"), SETTINGS | {"batch": None, "engine": engine}
    stacks = [open_stack(extract(str(data), out=str(tmp_path / "few.h5"), **few))]
    assert stacks[0].attrs["batch"] == ENGINES[engine].batch
    monkeypatch.setattr("extract.stack.passes.MEASURED_FROM", 18)
    stacks.append(open_stack(extract(str(data), out=str(tmp_path / "many.h5"), **few)))
    batch = stacks[1].attrs["batch"]
    assert batch in [ENGINES[engine].batch * 4**k for k in range(6)]
    asked = few | {"batch": batch}
    stacks.append(open_stack(extract(str(data), out=str(tmp_path / "asked.h5"), **asked)))
    assert np.array_equal(stacks[1].X, stacks[2].X)


def test_the_choice_and_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards `auto`: OpenVINO on CPUs where it is there, else Keras, and why; what is asked for is never replaced."""
    assert [engine.name for engine, _ in (choose_engine("auto", d, "f32") for d in ("cpu", "gpu"))] == [
        "openvino",
        "keras",
    ]
    with pytest.raises(Refused, match="--engine openvino: OpenVINO is for CPUs"):
        choose_engine("openvino", "gpu", "f32")
    with pytest.raises(Refused, match="no engine is called 'onnx'; there are auto, keras, openvino"):
        choose_engine("onnx", "cpu", "f32")
    with pytest.raises(Refused, match=f"no precision is called 'int8'; there are {', '.join(PRECISIONS)}"):
        choose_engine("auto", "cpu", "int8")
    monkeypatch.setitem(sys.modules, "openvino", None)
    engine, why = choose_engine("auto", "cpu", "f32")
    assert (engine.name, why) == ("keras", "OpenVINO is not installed; pip install openvino")
    with pytest.raises(Refused, match="--engine openvino: OpenVINO is not installed; pip install openvino, or use"):
        choose_engine("openvino", "cpu", "f32")


def test_nothing_is_reported_to_anybody(tmp_path: Path) -> None:
    """Guards privacy: OpenVINO's telemetry, which sends an event at each import, is never loaded."""
    photos(tmp_path / "photos")
    program = f"""
import sys
from extract import extract
extract("photos", engine="openvino", out="a.h5", **{SETTINGS!r})
loaded = {{name.split(".")[0] for name, module in sys.modules.items() if module}}
print("openvino" in loaded, "openvino_telemetry" in loaded)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.stdout == "True False\n", done.stderr
