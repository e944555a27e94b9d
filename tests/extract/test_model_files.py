"""Backbones that are files: their rows against ONNX Runtime, PyTorch and Keras, and what is refused."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import small
from PIL import Image
from test_backbones import close
from tiny import environment, photos
from warm import run
from withheld import nothing_opens

from classify import fit
from classify.classifier import Classifier
from extract import extract
from extract.layers import layers_of
from extract.model_file import ModelFile
from extract.network.forward import compile_forward
from extract.network.keras_file import read_keras
from extract.network.onnx_file import read_onnx
from extract.network.onnx_network import OnnxNetwork
from extract.preprocessing import Preprocessing
from features import Failed, Refused, open_stack, pool

HERE = Path(__file__).parents[1] / "data"
VIT = [HERE / "vit-torchscript.onnx", HERE / "vit-dynamo.onnx"]  # made by make_vit.py, beside them
HALF = Preprocessing.parsed("mean=0.5 std=0.5", None).values

pytest.importorskip("openvino")


def rows_of(
    path: Path, size: int, layers: list[str], pixels: np.ndarray, engine: str = "openvino", pool: str = ""
) -> Any:
    return compile_forward(OnnxNetwork(path, HALF, size, layers, pool), 4, "cpu", engine)(pixels)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("file", VIT, ids=lambda file: file.stem)
def test_a_vision_transformer_gives_pytorchs_rows(file: Path, engine: str) -> None:
    """Guards tokens: both of PyTorch's exporters, both engines; the rows that PyTorch itself gave."""
    known = np.load(HERE / "vit.npz")
    tokens, pooled = rows_of(file, 56, ["last_hidden_state", "pooler_output"], known["pixels"], engine)
    close(tokens, known["tokens"].reshape(3, -1))
    close(pooled, known["pooled"])
    (first,), (mean,) = (
        rows_of(file, 56, ["last_hidden_state"], known["pixels"], engine, how) for how in ("cls", "avg")
    )
    close(first, known["tokens"][:, 0])
    close(mean, known["tokens"][:, 5:].mean(axis=1))  # a class token, four registers, 4 × 4 patches


def test_an_inner_tensor_is_a_layer() -> None:
    """Guards `--layer` inside a file: listed with its shape, and the same numbers by both engines."""
    found = layers_of(str(VIT[0]))
    assert found["last_hidden_state"] == (21, 32)
    name = next(name for name, shape in found.items() if shape == (4, 4, 32))  # the patches, (b, 32, 4, 4) in the file
    pixels = np.load(HERE / "vit.npz")["pixels"]
    (ours,), (theirs,) = (rows_of(VIT[0], 56, [name], pixels, engine) for engine in ("openvino", "onnxruntime"))
    close(ours, theirs)
    with pytest.raises(
        Refused, match="no tensor 'last_hiden_state' that the image decides. Did you mean last_hidden_state"
    ):
        rows_of(VIT[0], 56, ["last_hiden_state"], pixels)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        (("b", 3, "h", "w"), TensorProto.FLOAT),
        ((None, 3, 8, 8), TensorProto.FLOAT16),
        (("b", 3, 8, 8), TensorProto.UINT8),
    ],
)
def test_maps_become_channels_last(tmp_path: Path, shape: Any, kind: int) -> None:
    """Guards (h, w, c), for float32, float16 and byte inputs: plain ONNX Runtime on plain NumPy gives the reference."""
    runtime = pytest.importorskip("onnxruntime")
    file = small(tmp_path / "small.onnx", shape, kind)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), "u1")
    values = Preprocessing.parsed("none", None).values
    rows, vector = compile_forward(OnnxNetwork(file, values, 8, ["map", "vector"]), 4, "cpu", "openvino")(pixels)
    to = {TensorProto.FLOAT: "f4", TensorProto.FLOAT16: "f2", TensorProto.UINT8: "u1"}[kind]
    given = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(to)
    expected, mean = runtime.InferenceSession(str(file)).run(None, {"image": given})
    close(rows, expected.transpose(0, 2, 3, 1).reshape(4, -1))
    close(vector, mean)


def folder(tmp_path: Path, **changes: Any) -> Path:
    """A model as hubs publish it, with weights beside it, and how it wants its images."""
    place = tmp_path / "tiny-net"
    small(place / "onnx" / "model.onnx", ("b", 3, "h", "w"), external="model.onnx_data")
    told = {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 10},
        "crop_size": {"height": 8, "width": 8},
        "resample": 3,
    }
    told |= {"do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
    (place / "preprocessor_config.json").write_text(json.dumps(told | changes))
    return place


def test_from_a_folder_to_a_prediction(tmp_path: Path) -> None:
    """Guards the whole way of a published folder: stack, resumption, another place of the file, and a prediction.

    The reference is Pillow and NumPy on the published steps, and ONNX Runtime.
    """
    runtime = pytest.importorskip("onnxruntime")
    data, place = photos(tmp_path / "photos", side=24), folder(tmp_path)
    done = run(
        "extract", data, "--backbone", place, "--layer", "vector", "map", "--out", tmp_path / "out", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    first, second = (open_stack(line) for line in done.stdout.split())
    assert first.attrs["backbone"] == "tiny-net.onnx" and first.feature_shape == (5,)
    assert second.feature_shape == (4, 4, 5) and second.attrs["resize"] == "edge10"
    session = runtime.InferenceSession(str(place / "onnx" / "model.onnx"))
    for row in (0, 7):
        image = Image.open(data / first.paths[row]).convert("RGB")
        short = min(image.size)
        whole = image.resize((10 * image.width // short, 10 * image.height // short), Image.Resampling.BICUBIC)
        left, top = (whole.width - 8) // 2, (whole.height - 8) // 2
        pixels = np.asarray(whole.crop((left, top, left + 8, top + 8)), "f4") / 255
        values = ((pixels - [0.5, 0.4, 0.3]) / [0.2, 0.25, 0.3]).astype("f4").transpose(2, 0, 1)[None]
        expected = session.run(["vector"], {"image": values})[0]
        assert np.abs(np.asarray(first.X)[row] - expected).max() < 0.02 * np.abs(expected).max()  # a rounding of pixels
    assert run(
        "extract", data, "--backbone", place, "--layer", "vector", "--out", first.path, cwd=tmp_path
    ).stderr.count("nothing to do")
    model = fit(str(first.path), model="logreg", out=str(tmp_path / "model"))
    moved = tmp_path / "elsewhere"
    place.rename(moved)
    some = [data / path for path in first.paths[:3]]
    with pytest.raises(Refused, match="no weights file at"):
        Classifier.load(model).predict_proba(some)
    told = Classifier.load(model, moved / "onnx").predict_proba(some)
    assert told.shape == (3, 3) and np.isfinite(told).all()
    data_file = moved / "onnx" / "model.onnx_data"
    held = bytearray(data_file.read_bytes())
    held[0] ^= 1
    data_file.write_bytes(held)
    with pytest.raises(Refused, match="have SHA-256"):
        Classifier.load(model, moved / "onnx").predict_proba(some)


def test_a_link_keeps_its_name(tmp_path: Path) -> None:
    """Guards a hub's own cache, where files lie under their hash and a folder of links names them."""
    blob = small(tmp_path / "blobs" / "m.onnx").rename(tmp_path / "blobs" / "0123abcd")
    link = tmp_path / "nice-net" / "model.onnx"
    link.parent.mkdir()
    link.symlink_to(blob)
    data = str(photos(tmp_path / "photos"))
    made = extract(data, str(link.parent), preprocess="none", layer="vector", out=str(tmp_path / "a.h5"))
    assert open_stack(made).attrs["backbone"] == "nice-net.onnx"
    model = fit(str(made), model="logreg", out=str(tmp_path / "model"))
    assert Classifier.load(model).predict_proba([str(tmp_path / "photos" / "class0" / "0.png")]).shape == (1, 3)


def test_an_onnx_backbone_imports_no_keras(tmp_path: Path) -> None:
    """Guards the start: Keras takes four seconds, and has no part in an ONNX file."""
    code = "import sys; from extract import extract; extract(*sys.argv[1:3], preprocess='none size=8', out=sys.argv[3])"
    code += "; assert 'keras' not in sys.modules and 'tensorflow' not in sys.modules"
    words = [sys.executable, "-c", code, photos(tmp_path / "p"), small(tmp_path / "m.onnx"), tmp_path / "out.h5"]
    done = subprocess.run(list(map(str, words)), cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_tokens_are_pooled_later_too(tmp_path: Path) -> None:
    """Guards `features pool --pool cls`: the very rows of `extract --pool cls`; maps have no class token."""
    data = str(photos(tmp_path / "photos"))
    how: dict[str, Any] = {"backbone": str(VIT[0]), "preprocess": "siglip"}
    whole = extract(data, **how, out=str(tmp_path / "tokens.h5"))
    assert open_stack(whole).feature_shape == (21, 32)
    at_once = open_stack(extract(data, **how, pool="cls", out=str(tmp_path / "cls.h5")))
    later = open_stack(pool(str(whole), "cls"))
    assert np.array_equal(at_once.X, later.X) and later.key == at_once.key
    assert np.array_equal(later.X, np.asarray(open_stack(whole).X).reshape(-1, 21, 32)[:, 0])
    maps = extract(data, str(small(tmp_path / "m.onnx")), preprocess="none size=8", out=str(tmp_path / "maps.h5"))
    with pytest.raises(Refused, match="4×4×5 have no class token"):
        pool(str(maps), "cls")


TEXT = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "n"])
OTHER = helper.make_tensor_value_info("other", TensorProto.FLOAT, ["b", 3, 8, 8])
REFUSED: list[tuple[Any, str]] = [
    ({"shape": ("b", 4, 8, 8)}, "does not take RGB images: its inputs are image .×4×8×8"),
    ({"shape": ("b", 3, 8, 9)}, "a square is expected"),
    ({"shape": ("b", 3, 8)}, "takes no images"),
    ({"kind": TensorProto.INT32}, "ONNX's type 6"),
    ({"inputs": [OTHER]}, "takes 2 images: its inputs are image .×3×8×8; other"),
    (
        {
            "inputs": [TEXT],
            "nodes": [
                helper.make_node("Cast", ["input_ids"], ["f"], to=1),
                helper.make_node("ReduceSum", ["f"], ["s"], keepdims=0),
                helper.make_node("Mul", ["vector", "s"], ["both"]),
            ],
            "outputs": ["both"],
        },
        "more than an image for each of its outputs: image, input_ids",
    ),
]


@pytest.mark.parametrize(("made", "named"), REFUSED, ids=[named[:20] for _, named in REFUSED])
def test_networks_that_cannot_be_taken(tmp_path: Path, made: dict[str, Any], named: str) -> None:
    """Guards the message of each kind of network that makes no row of one image."""
    with pytest.raises(Refused, match=named):
        read_onnx(small(tmp_path / "m.onnx", **made))


def test_the_image_tower_of_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards models of images and texts: the output that texts are compared with, and it is said."""
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["f"], to=1),
        helper.make_node("ReduceSum", ["f"], ["text_embeds"], axes=None, keepdims=0),
        helper.make_node("Identity", ["vector"], ["image_embeds"]),
    ]
    file = small(tmp_path / "m.onnx", inputs=[TEXT], nodes=nodes, outputs=["text_embeds", "map", "image_embeds"])
    model = ModelFile.at(file, "none", 8)
    assert model.layer == "image_embeds"
    assert "layer: image_embeds, of the outputs map, image_embeds" in capsys.readouterr().err
    rows = compile_forward(OnnxNetwork(file, HALF, 8, [model.layer]), 4, "cpu", "openvino")(
        np.zeros((1, 8, 8, 3), "u1")
    )
    assert rows[0].shape == (1, 5)


def test_logits_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against rows of class scores, which look like features and are worse."""
    file = small(tmp_path / "m.onnx", nodes=[helper.make_node("Softmax", ["vector"], ["said"])], outputs=["said"])
    ModelFile.at(file, "none", 8)
    assert "looks like logits" in capsys.readouterr().err


@pytest.mark.parametrize("read", [read_keras, read_onnx, Preprocessing.of_config])
def test_what_the_system_does_not_open_is_not_called_damaged(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    """Guards models that may be whole: the reason is told."""
    file = small(tmp_path / "model.onnx")
    with pytest.raises(Failed) as told, nothing_opens():
        read(file)
    why = "Too many open files"
    assert str(told.value) in (f"{file} cannot be opened: {why}", f"cannot read {file}: {why}")


@pytest.mark.parametrize("damage", ["", "text", "truncated", "missing", "outside", "absolute", "link"])
def test_damaged_and_hostile_files(tmp_path: Path, damage: str) -> None:
    """Guards one line for each, and that nothing outside the model's folder is read."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(240))
    file = tmp_path / "model" / "m.onnx"
    small(file, external="weights")
    weights = file.with_name("weights")
    if damage in ("", "text"):
        file.write_text(damage)
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:-40])
    elif damage == "missing":
        weights.unlink()
    elif damage == "link":
        weights.unlink()
        weights.symlink_to(secret)
    else:
        name = "../secre" if damage == "outside" else "/etc/pw"
        file.write_bytes(file.read_bytes().replace(b"weights", name.encode()[:7].ljust(7, b"s")))
    named = dict.fromkeys(("text", "truncated"), "is not an ONNX file, or it is truncated") | {"": "it is empty"}
    with pytest.raises(Failed, match=named.get(damage, "is not there|outside of its folder")):
        read_onnx(file)


def test_random_bytes_end_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the reader: changed bytes of a real file give its description, or one of our own errors."""
    monkeypatch.setenv("FEATURE_STACKS_CACHE_GB", "0")
    held, random = VIT[0].read_bytes(), np.random.default_rng(0)
    file = tmp_path / "m.onnx"
    for _ in range(300):
        changed = bytearray(held[: random.integers(1, len(held))] if random.random() < 0.3 else held)
        for place in random.integers(0, min(len(changed), 4000), 5):
            changed[place] = random.integers(0, 256)
        file.write_bytes(changed)
        try:
            read_onnx(file)
        except Failed:
            continue


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--backbone", "nowhere/model.onnx"], "there is no model at nowhere/model.onnx"),
        (["--backbone", "."], "holds no model: vision_model.onnx"),
        (["--backbone", "m.onnx"], "m.onnx wants its images: there is no preprocessor_config.json beside it"),
        (["--backbone", "m.onnx", "--preprocess", "none", "--weights", "random"], "a model file holds its own"),
        (
            ["--backbone", "m.onnx", "--preprocess", "none size=9"],
            "takes images of 8 px, and 9 px are asked for",
        ),
        (["--backbone", "m.onnx", "--preprocess", "none", "--engine", "keras"], "Keras computes no ONNX files"),
        (["--backbone", "vgg16", "--preprocess", "none"], "is for models of your own"),
        (["--backbone", "m.onnx", "--preprocess", "none", "--layer", "vector", "--pool", "avg"], "no positions"),
    ],
)
def test_bad_commands(tmp_path: Path, words: list[str], named: str) -> None:
    """Guards the message of each mistake, and that none begins a stack."""
    small(tmp_path / "m.onnx")
    done = run("extract", photos(tmp_path / "photos"), *words, "--out", tmp_path / "x.h5", cwd=tmp_path)
    assert done.returncode == 2 and named in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("x.h5*"))


@pytest.mark.slow
def test_a_keras_model_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a network of one's own: the model, and the file that it is saved to; Keras alone is the reference."""
    from extract.network.importing import import_keras

    monkeypatch.chdir(tmp_path)
    keras = import_keras()
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((16, 16, 3)), layers.Conv2D(4, 3, name="maps"), layers.GlobalMaxPooling2D()], name="mine"
    )
    data = photos(tmp_path / "photos", side=16)
    made = open_stack(extract(str(data), model, preprocess="tf"))
    again = open_stack(extract(str(data), model, preprocess="tf"))
    assert made.path == again.path and made.attrs["backbone"].startswith("mine-") and made.feature_shape == (4,)
    files = [Image.open(data / path).convert("RGB").resize((16, 16), Image.Resampling.BILINEAR) for path in made.paths]
    close(np.asarray(made.X), model.predict(np.stack(files).astype("f4") / 127.5 - 1, verbose=0))
    inner = open_stack(extract(str(data), made.attrs["weights_file"], preprocess="tf", layer="maps"))
    assert inner.feature_shape == (14, 14, 4)


@pytest.mark.slow
def test_code_in_a_keras_file_is_not_run(tmp_path: Path) -> None:
    """Guards against a file's code: a Lambda, and a class that is not Keras's, are named and refused."""
    from extract.network.importing import import_keras

    keras = import_keras()
    pixels = keras.Input((8, 8, 3))
    file = tmp_path / "m.keras"
    keras.Model(pixels, keras.layers.Lambda(lambda x: x + 1)(pixels)).save(file)
    with pytest.raises(Refused, match="holds code, which is not run: a Lambda"):
        ModelFile.at(file, "none", None)
    keras.Model(pixels, keras.layers.Conv2D(2, 3)(pixels)).save(file)
    with zipfile.ZipFile(file) as held:
        parts = {name: held.read(name) for name in held.namelist()}
    told = json.loads(parts["config.json"])
    told["config"]["layers"][1] |= {"module": "os", "class_name": "system"}
    with zipfile.ZipFile(file, "w") as changed:
        for name, content in (parts | {"config.json": json.dumps(told).encode()}).items():
            changed.writestr(name, content)
    with pytest.raises(Refused, match=r"os\.system"):
        ModelFile.at(file, "none", None)
    file.write_bytes(b"PK")
    with pytest.raises(Failed, match="damaged"):
        ModelFile.at(file, "none", None)


@pytest.mark.slow
def test_real_weights_as_onnx_give_the_stack_of_keras(tmp_path: Path, shared: Path) -> None:
    """Guards the bridge: MobileNetV2's real weights exported to ONNX give the rows of `--backbone mobilenetv2`."""
    from onnx_models import of_keras

    from extract import BACKBONES
    from extract.network.base import load_base

    weights = str(shared / "weights" / "mobilenet_v2_imagenet_int8.weights.h5")
    base, _ = load_base(BACKBONES["mobilenetv2"], weights, 96, seed=0)
    file = of_keras(base, tmp_path / "mobilenetv2.onnx")
    images = sorted((shared / "data" / "food101-10" / "images").rglob("*.jpg"))[::250]
    data = tmp_path / "photos"
    for image in images:
        place = data / image.parent.name / image.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(image)
    ours = open_stack(extract(str(data), str(file), preprocess="tf size=96", out=str(tmp_path / "onnx.h5")))
    theirs = open_stack(extract(str(data), "mobilenetv2", weights=weights, size=96, out=str(tmp_path / "keras.h5")))
    assert ours.paths == theirs.paths and ours.feature_shape == theirs.feature_shape == (3, 3, 1280)
    close(np.asarray(ours.X), np.asarray(theirs.X))
