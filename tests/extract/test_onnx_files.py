"""ONNX files as hubs and exporters write them: where their channels are, what they take, and what runs them."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import small
from test_backbones import close
from test_model_files import HALF, TEXT, rows_of
from tiny import environment, photos
from warm import run

from classify import Classifier, export, fit
from extract import extract
from extract.layers import layers_of
from extract.network.forward import compile_forward
from extract.network.onnx_file import read_onnx
from extract.network.onnx_network import OnnxNetwork
from extract.preprocessing import Preprocessing
from features import Refused, open_stack

HUB = Path(__file__).parents[1] / "data" / "hub.zip"  # made by make_hub.py, beside it
ENGINES = ("openvino", "onnxruntime")
NAMED = ("batch_size", "num_channels", "height", "width")
BYTES = Preprocessing.parsed("none", None).values
pytest.importorskip("openvino")
runtime = pytest.importorskip("onnxruntime")


def unpacked(folder: Path, name: str) -> Path:
    with zipfile.ZipFile(HUB) as hub:
        return Path(hub.extract(f"{name}/model.onnx", folder))


def pixels_of(side: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), "u1")


def node(kind: str, given: str, made: str, **attributes: Any) -> Any:
    return helper.make_node(kind, given.split(), made.split(), **attributes)


def published() -> list[Any]:
    with zipfile.ZipFile(HUB) as hub:
        return sorted({Path(name).parent.name for name in hub.namelist()})


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", published())
def test_files_of_hubs_give_their_makers_rows(tmp_path: Path, name: str, engine: str) -> None:
    """Guards every family that the docs name, by optimum, PyTorch and tf2onnx: rows that PyTorch or Keras gave."""
    file = unpacked(tmp_path, name)
    with zipfile.ZipFile(HUB) as hub:
        known = np.load(io.BytesIO(hub.read(f"{name}/rows.npz")))
    side = int(known["side"])
    for layer in set(known) - {"side"}:
        rows = known[layer]
        is_map_of_torch = rows.ndim == 4 and not name.startswith("keras")
        network = OnnxNetwork(file, HALF, side, [layer])
        (made,) = compile_forward(network, 2, "cpu", engine)(pixels_of(side)[:2])
        expected = rows.transpose(0, 2, 3, 1) if is_map_of_torch else rows
        assert network.output_shapes == [expected.shape[1:]]
        close(made, expected[:2].reshape(2, -1))


@pytest.mark.parametrize("engine", ENGINES)
def test_bytes_are_not_normalised(tmp_path: Path, engine: str) -> None:
    """Guards inputs of bytes: fractions are refused, whole numbers arrive as they are."""
    file = small(tmp_path / "m.onnx", kind=TensorProto.UINT8)
    with pytest.raises(Refused, match=r"takes bytes \(0 to 255\), .* Give --preprocess 'none size=8'"):
        compile_forward(OnnxNetwork(file, HALF, 8, ["map"]), 4, "cpu", engine)
    whole = Preprocessing.parsed(f"mean=0 std={1 / 255} order=bgr size=8", None).values
    (rows,) = compile_forward(OnnxNetwork(file, whole, 8, ["vector"]), 4, "cpu", engine)(pixels_of(8, 4))
    given = np.ascontiguousarray(pixels_of(8, 4)[..., ::-1].transpose(0, 3, 1, 2))
    close(rows, runtime.InferenceSession(str(file)).run(["vector"], {"image": given})[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_the_part_that_the_image_decides(tmp_path: Path, engine: str) -> None:
    """Guards whole models of images and texts: the texts' inputs are cut off; a layer that needs them is refused."""
    nodes = [node("Cast", "input_ids", "f", to=1), node("Add", "vector f", "both")]
    file = small(tmp_path / "m.onnx", inputs=[TEXT], nodes=nodes, outputs=["both", "vector"])
    plain = small(tmp_path / "plain.onnx")
    (rows,), (expected,) = (rows_of(each, 8, ["vector"], pixels_of(8), engine) for each in (file, plain))
    close(rows, expected)
    with pytest.raises(Refused, match="no tensor 'both' that the image decides"):
        rows_of(file, 8, ["both"], pixels_of(8), engine)


def test_weights_that_are_inputs_too(tmp_path: Path) -> None:
    """Guards files of IR 3, in which each weight is an input as well: read, computed, and exported with a head."""
    value = helper.make_tensor_value_info("kernel", TensorProto.FLOAT, [5, 3, 2, 2])
    file = small(tmp_path / "m.onnx", inputs=[value], ir=3, opset=10)
    data = photos(tmp_path / "photos", each=3)
    stack = extract(str(data), str(file), preprocess="none", layer="vector", out=str(tmp_path / "a.h5"))
    model = fit(str(stack), "logreg", out=str(tmp_path / "model"))
    made = export(str(model), "onnx", str(tmp_path / "out.onnx"))
    classifier, paths = Classifier.load(model), [data / path for path in open_stack(stack).paths]
    pixels = classifier._stages[0].pixels(paths)[0]
    given = runtime.InferenceSession(str(made)).run(None, {"pixels": pixels})[0]
    np.testing.assert_allclose(given, classifier.predict_proba(paths), rtol=0, atol=1e-4)


def rounded() -> dict[str, Any]:
    """The vector, rounded to bytes and back, as quantised files hold it."""
    held = [numpy_helper.from_array(np.float32(0.05), "step"), numpy_helper.from_array(np.int8(0), "zero")]
    nodes = [node("QuantizeLinear", "vector step zero", "q"), node("DequantizeLinear", "q step zero", "rounded")]
    return {"nodes": nodes, "weights": held, "outputs": ["rounded"]}


def four_bits() -> dict[str, Any]:
    """The vector times weights of four bits, by an operator of ONNX Runtime's own."""
    held = [
        numpy_helper.from_array(np.random.default_rng(0).integers(0, 256, (4, 1, 8), "u1"), "packed"),
        numpy_helper.from_array(np.full(4, 0.1, "f4"), "scales"),
    ]
    how = {"domain": "com.microsoft", "K": 5, "N": 4, "bits": 4, "block_size": 16}
    return {
        "nodes": [node("MatMulNBits", "vector packed scales", "product", **how)],
        "weights": held,
        "outputs": ["product"],
    }


def bits_and_bytes() -> dict[str, Any]:
    """The same by an operator that OpenVINO lacks."""
    held = [numpy_helper.from_array(np.arange(10, dtype="u1"), "packed")]
    held.append(numpy_helper.from_array(np.full(2, 0.1, "f4"), "largest"))
    how = {"domain": "com.microsoft", "K": 5, "N": 4, "block_size": 16, "quant_type": 1}
    product = node("MatMulBnb4", "vector packed largest", "product", **how)
    return {"nodes": [product], "weights": held, "outputs": ["product"]}


@pytest.mark.parametrize(
    ("made", "engine", "operators"),
    [
        (rounded, "openvino", "DequantizeLinear, QuantizeLinear"),
        (rounded, "onnxruntime", "DequantizeLinear, QuantizeLinear"),
        (four_bits, "onnxruntime", "MatMulNBits"),
        (bits_and_bytes, "onnxruntime", "MatMulBnb4"),
    ],
)
def test_quantised_files_are_recorded_as_such(tmp_path: Path, made: Any, engine: str, operators: str) -> None:
    """Guards the record: what computes with eight bits or fewer is never called f32, whatever its operators' names."""
    data, file = photos(tmp_path / "photos", each=3), small(tmp_path / "m.onnx", **made())
    words = ("extract", data, "--backbone", file, "--preprocess", "none", "--engine", engine, "--out", "a.h5")
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 0 and f"is quantised ({operators}): so are its rows" in done.stderr, done.stderr
    stack = open_stack(tmp_path / "a.h5")
    assert stack.attrs["precision"] == "quantised"
    model = fit(str(stack.path), "logreg", out=str(tmp_path / "model"))
    assert Classifier.load(model).predict_proba([data / stack.paths[0]]).shape == (1, 3)
    refused = run(*words[:-2], "--precision", "bf16", cwd=tmp_path)
    assert "--precision bf16" in refused.stderr and "is quantised, and is computed as it is" in refused.stderr


def test_an_operator_that_openvino_lacks(tmp_path: Path) -> None:
    """Guards the way on: the operator is named, and the engine that knows it."""
    file = small(tmp_path / "m.onnx", **bits_and_bytes())
    with pytest.raises(Refused, match=r"OpenVINO cannot take .*MatMulBnb4.*try --engine onnxruntime"):
        rows_of(file, 8, ["product"], pixels_of(8))


def cached(root: Path, **changes: Any) -> Path:
    """A model in the cache of a hub's client: links into a folder of files that are named by their hash."""
    blobs, snapshot = root / "models--o--net" / "blobs", root / "models--o--net" / "snapshots" / "1a2b" / "onnx"
    small(blobs / "model.onnx", external="model.onnx_data", **changes)
    snapshot.mkdir(parents=True)
    for name, digest in (("model.onnx", "0a" * 32), ("model.onnx_data", "0b" * 32)):
        (blobs / name).rename(blobs / digest)
        (snapshot / name).symlink_to(f"../../../blobs/{digest}")
    return snapshot.parent


@pytest.mark.parametrize("engine", ENGINES)
def test_a_hubs_cache(tmp_path: Path, engine: str) -> None:
    """Guards links: weights beside the real file are inside; elsewhere they are not."""
    place, plain = cached(tmp_path), small(tmp_path / "plain.onnx")
    (rows,), (expected,) = (
        rows_of(each, 8, ["vector"], pixels_of(8), engine) for each in (place / "onnx" / "model.onnx", plain)
    )
    close(rows, expected)
    weights = place / "onnx" / "model.onnx_data"
    elsewhere = tmp_path / "secret"
    elsewhere.write_bytes(weights.read_bytes())
    weights.unlink()
    weights.symlink_to(elsewhere)
    with pytest.raises(Refused, match="names weights outside of its folder"):
        read_onnx(place / "onnx" / "model.onnx")


def test_a_batch_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the halving on ONNX Runtime: too little memory for a batch is no sign of a batch of one."""
    no_memory = runtime.capi.onnxruntime_pybind11_state.RuntimeException

    class Small:
        def run(self, layers: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
            if len(given["image"]) > 2:
                raise no_memory("Failed to allocate memory for requested buffer of size 1")
            return [np.zeros((len(given["image"]), 5), "f4")]

    monkeypatch.setattr(OnnxNetwork, "_session", lambda *args: Small())
    network = OnnxNetwork(small(tmp_path / "m.onnx"), BYTES, 8, ["vector"])
    assert compile_forward(network, 8, "cpu", "onnxruntime").batch == 2


def of_one(inside: bool) -> dict[str, Any]:
    """A network of one image at a time: its input says so, or only a constant inside."""
    held = [numpy_helper.from_array(np.array([1, 5], "i8"), "one")]
    nodes = [node("Reshape", "vector one", "row")]
    return {"shape": ("b" if inside else 1, 3, 8, 8), "nodes": nodes, "weights": held, "outputs": ["row"]}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("inside", [False, True])
def test_a_batch_of_one(tmp_path: Path, engine: str, inside: bool) -> None:
    """Guards files of a fixed batch: images go through one by one, and that is said."""
    data, file = photos(tmp_path / "photos", each=3), small(tmp_path / "m.onnx", **of_one(inside))
    (rows,), (expected,) = (
        rows_of(each, 8, [layer], pixels_of(8), engine)
        for each, layer in ((file, "row"), (small(tmp_path / "plain.onnx"), "vector"))
    )
    close(rows, expected)
    words = ("extract", data, "--backbone", file, "--preprocess", "none", "--engine", engine, "--out", "a.h5")
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 0 and "batch is fixed at 1: images go through it 1 at a time" in done.stderr, done.stderr
    assert open_stack(tmp_path / "a.h5").feature_shape == (5,)
    if engine == "openvino":
        model = fit(str(tmp_path / "a.h5"), "logreg", out=str(tmp_path / "model"))
        for to in ENGINES:
            with pytest.raises(Refused, match="takes 1 as a fixed batch, and an exported file takes any"):
                export(
                    str(model), {"openvino": "openvino", "onnxruntime": "onnx"}[to], str(tmp_path / f"{to}{SUFFIX[to]}")
                )


SUFFIX = {"openvino": ".xml", "onnxruntime": ".onnx"}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_width_that_only_a_run_tells(tmp_path: Path, engine: str) -> None:
    """Guards rows whose sides follow from numbers inside: the network is run once, and the shape is kept."""
    held = [numpy_helper.from_array(np.array([1, 0, 1, 1, 0], "f4"), "flags")]
    nodes = [
        *(node("NonZero", "flags", "where"), node("Transpose", "where", "turned", perm=[1, 0])),
        *(node("Squeeze", "turned", "which"), node("Gather", "vector which", "some", axis=1)),
    ]
    file = small(tmp_path / "m.onnx", nodes=nodes, weights=held, outputs=["some"])
    network = OnnxNetwork(file, BYTES, 8, ["some"])
    (rows,) = compile_forward(network, 4, "cpu", engine)(pixels_of(8))
    assert network.output_shapes == [(3,)] and rows.shape == (3, 3)


def test_the_folder_that_was_moved(tmp_path: Path) -> None:
    """Guards `--weights FOLDER` where the file lies in its `onnx/`, as hubs lay it out."""
    data = photos(tmp_path / "photos", each=3)
    place = tmp_path / "net"
    small(place / "onnx" / "model.onnx")
    stack = extract(str(data), str(place), preprocess="none", layer="vector", out=str(tmp_path / "a.h5"))
    model = fit(str(stack), "logreg", out=str(tmp_path / "model"))
    place.rename(tmp_path / "moved")
    done = run("classify", "predict", model, data / "class1", "--weights", tmp_path / "moved", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_layers_at_the_side_of_the_description(tmp_path: Path) -> None:
    """Guards `--layers` where the file fixes no side, but its positions do: the description beside it says which."""
    file = unpacked(tmp_path, "vit")
    with pytest.raises(Refused, match="at 224 px: .* If it takes images of another side, give --size"):
        layers_of(str(file.parent))
    told = {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}}
    (file.parent / "preprocessor_config.json").write_text(json.dumps(told))
    assert layers_of(str(file.parent))["last_hidden_state"] == (5, 8)


def test_what_was_converted_needs_no_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the start of a later process: a network that is kept is neither parsed nor converted again."""
    monkeypatch.setenv("FEATURE_STACKS_CACHE", str(tmp_path / "cache"))
    code = "import sys; from extract import extract; extract(*sys.argv[1:3], preprocess='none size=8', out=sys.argv[3])"
    code += "; print('onnx' in sys.modules, 'google.protobuf' in sys.modules)"
    data, file = photos(tmp_path / "p", each=3), small(tmp_path / "m.onnx", NAMED)
    said = []
    for name in ("a.h5", "b.h5"):
        words = [sys.executable, "-c", code, str(data), str(file), str(tmp_path / name)]
        done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.split())
    assert said == [["True", "True"], ["False", "False"]]
    assert np.array_equal(*(open_stack(tmp_path / name).X for name in ("a.h5", "b.h5")))
    listed = run("extract", "cache", cwd=tmp_path, FEATURE_STACKS_CACHE=str(tmp_path / "cache"))
    assert "m.onnx 8 px map" in listed.stdout and "1 networks in" in listed.stderr
