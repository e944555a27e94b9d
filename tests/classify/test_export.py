"""Exported files: the same labels and probabilities as `predict`, in Keras, ONNX Runtime and OpenVINO."""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
from PIL import Image
from tiny import environment, photos, run

from classify import Classifier, export, fit
from classify.answers import SavedModel
from classify.classical.answering import Kernel, Landmarks, Linear, Neighbours
from classify.classical.votes import Ballots
from classify.export import SUFFIXES, TARGETS
from classify.portable import head
from classify.portable.onnx_graphs import of_keras
from classify.saved import load_answers, save_model
from extract import extract
from extract.images.decode import decode
from extract.network.onnx_file import read_onnx
from features import Failed, Refused

CLOSE = 1e-4  # of probabilities, which files compute in float32
WITHOUT_KERAS = ("onnx", "openvino")
tf2onnx = pytest.mark.skipif(not __import__("importlib.util").util.find_spec("tf2onnx"), reason="no tf2onnx here")
FORMATS = [pytest.param("keras"), pytest.param("onnx", marks=tf2onnx), pytest.param("openvino")]
Answer = Callable[[np.ndarray], np.ndarray]


def runtime(file: Path) -> Answer:
    """A file in its own runtime, (n, size, size, 3) uint8 → (n, classes)."""
    if file.suffix == ".keras":
        import keras

        model = keras.saving.load_model(file, compile=False, safe_mode=True)
        return lambda pixels: np.asarray(model(pixels))
    if file.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file))
        return lambda pixels: session.run(["probabilities"], {"pixels": pixels})[0]
    import openvino

    compiled = openvino.compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda pixels: np.asarray(compiled(pixels)["probabilities"])


def assert_same(folder: Path, to: str, root: Path, out: Path) -> Path:
    """Labels and probabilities of a folder's images, in a batch and alone."""
    file = export(str(folder), to, str(out / f"model{SUFFIXES[to]}"))
    classifier, paths = Classifier.load(folder), sorted(root.rglob("*.*g"))
    wanted = classifier.predict_proba(paths)
    pixels = classifier._stages[0].pixels(paths)[0]
    answer = runtime(file)
    given = answer(pixels)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, wanted, rtol=0, atol=CLOSE)
    np.testing.assert_allclose(answer(pixels[:1]), wanted[:1], rtol=0, atol=CLOSE)
    assert [classifier.label_names[i] for i in given.argmax(axis=1)] == classifier.predict(paths)
    return file


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 27 photos, a stack of a wavelet network, and two models of it."""
    folder = tmp_path_factory.mktemp("export")
    photos(folder / "photos", each=9)
    stack = extract(str(folder / "photos"), "scattering", size=16, out=str(folder / "s.h5"))
    for name in ("logreg", "svm"):
        fit(str(stack), name, out=str(folder / name))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("name", ["linearsvm", "svm", "dense"])
def test_same_as_predict(here: Path, tmp_path: Path, name: str, to: str) -> None:
    """Models of rows, pooled by each way."""
    more = {"linearsvm": {"pool": "max"}, "dense": {"epochs": 1}}.get(name, {})
    folder = here / (name if name == "svm" else f"own-{name}")
    if not folder.exists():
        fit(str(here / "s.h5"), name, **more, out=str(folder))
    assert_same(folder, to, here / "photos", tmp_path)


@pytest.fixture(scope="module")
def finetuned(here: Path) -> Path:
    """A model that trained the top of a random MobileNetV2."""
    stack = extract(str(here / "photos"), "mobilenetv2", weights="random", size=32, batch=4, out=str(here / "n.h5"))
    return fit(str(stack), "finetune", epochs=1, layers=3, out=str(here / "finetune"))


@pytest.mark.slow
@pytest.mark.parametrize("to", FORMATS)
def test_finetuned(finetuned: Path, tmp_path: Path, to: str) -> None:
    """Base, tail and head in one."""
    assert_same(finetuned, to, finetuned.parent / "photos", tmp_path)


@pytest.mark.slow
def test_scratch(here: Path, tmp_path: Path) -> None:
    """The network that takes pixels, with nothing below it; its weights are random."""
    from classify.networks.scratch import Scratch, cnn

    about = json.loads((here / "logreg" / "model.json").read_text())
    untrained = Scratch().restore(cnn(3), {"classes_": [0, 1, 2], "history_": {}, "best_epoch_": 0, "stopped_": ""})
    save_model(untrained, tmp_path / "m", about | {"model": "scratch"})
    assert_same(tmp_path / "m", "keras", here / "photos", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("to", FORMATS)
def test_preprocessing(here: Path, tmp_path: Path, to: str) -> None:
    """Channels turned and means taken off, as VGG16 wants them; and rows that were stored pooled, as float16."""
    folder = here / "caffe"
    if not folder.exists():
        how = {"weights": "random", "layer": "block1_pool", "pool": "avg", "store": "f16"}
        stack = extract(str(here / "photos"), "vgg16", size=32, out=str(here / "caffe.h5"), **how)
        fit(str(stack), "logreg", out=str(folder))
    assert_same(folder, to, here / "photos", tmp_path)


@pytest.mark.slow
@tf2onnx
def test_what_keras_networks_hold(tmp_path: Path) -> None:
    """Constants that Keras keeps beside its graph, grouped convolutions, erfc: as in ConvNeXt and EfficientNet."""
    import keras
    import onnxruntime

    pixels = keras.Input((8, 8, 4))
    x = keras.layers.Normalization(mean=[1, 2, 3, 4], variance=[1, 4, 9, 16])(pixels)
    x = keras.layers.Conv2D(6, 3, groups=2, activation=lambda x: keras.ops.gelu(x, approximate=False))(x)
    network = keras.Model(pixels, x)
    made = of_keras(network, 18)
    session = onnxruntime.InferenceSession(made.SerializeToString())
    given = np.random.default_rng(0).normal(size=(3, 8, 8, 4)).astype("f4")
    (answer,) = session.run(None, {made.graph.input[0].name: given})
    np.testing.assert_allclose(answer, np.asarray(network(given)), rtol=0, atol=1e-5)
    strange = keras.Model(pixels, keras.ops.erfinv(pixels))
    with pytest.raises(Refused, match=r"tf2onnx does not know Erfinv of this network: .* --to openvino"):
        of_keras(strange, 18)


@pytest.mark.slow
@pytest.mark.parametrize("to", FORMATS)
def test_side_by_side(here: Path, tmp_path: Path, to: str) -> None:
    """Two stacks under one model, each of unit length; and two classes, whose decision is one number."""
    folder, few = here / "both", here / "few"
    if not folder.exists():
        for name in ("class0", "class2"):
            shutil.copytree(here / "photos" / name, few / name)
        how = {"backbone": "scattering", "size": 16}
        stacks = [
            extract(str(few), layer=layer, out=str(here / f"{layer}.h5"), **how) for layer in ("scale1", "scale2")
        ]
        fit([str(stack) for stack in stacks], "logreg", out=str(folder))
    assert_same(folder, to, few, tmp_path)


def of_onnx(folder: Path, file: Path, layer: str, **how: Any) -> Path:
    """A model of an ONNX file's rows."""
    photos(folder / "photos", each=6)
    stack = extract(str(folder / "photos"), str(file), layer=layer, out=str(folder / "s.h5"), **how)
    return fit(str(stack), "logreg", out=str(folder / "m"))


@pytest.mark.parametrize("to", WITHOUT_KERAS)
def test_onnx_base(tmp_path: Path, to: str) -> None:
    """The graph of a file, up to an inner map, and the head in one; other inputs and outputs of it are left out."""
    text = onnx_models.helper.make_tensor_value_info("text", onnx_models.TensorProto.FLOAT, ["batch", 5])
    node = onnx_models.helper.make_node("Add", ["vector", "text"], ["both"])
    file = onnx_models.small(
        tmp_path / "net.onnx", nodes=[node], inputs=[text], outputs=["vector", "both"], external="net.bin"
    )
    folder = of_onnx(tmp_path, file, "map", preprocess="mean=0.5,0.4,0.3 std=0.2,0.3,0.4 order=bgr", size=8)
    made = assert_same(folder, to, tmp_path / "photos", tmp_path / "out")
    with pytest.raises(Refused, match=r"net\.onnx is an ONNX file, of which Keras makes no layers: .* --to onnx"):
        export(str(folder), "keras")
    if to == "onnx":
        assert [tensor.name for tensor in read_onnx(made).inputs] == ["pixels"]


def test_formats_in_one_folder(tmp_path: Path) -> None:
    """Guards files side by side, each with its page; what lay there stays as it was."""
    folder = of_onnx(tmp_path, onnx_models.small(tmp_path / "net.onnx"), "vector", preprocess="none", size=8)
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("mine")
    for to in WITHOUT_KERAS:
        export(str(folder), to, str(out / f"model{SUFFIXES[to]}"))
    names = ["README.md", "model.bin", "model.onnx", "model.onnx.md", "model.xml", "model.xml.md"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert (out / "README.md").read_text() == "mine"
    assert 'InferenceSession("model.onnx")' in (out / "model.onnx.md").read_text()
    assert 'read_model("model.xml")' in (out / "model.xml.md").read_text()


@pytest.mark.parametrize("to", WITHOUT_KERAS)
def test_tokens(tmp_path: Path, to: str) -> None:
    """A vision transformer's class token."""
    file = onnx_models.vit(tmp_path / "vit.onnx", side=28, width=16, depth=1, heads=2)
    layer = read_onnx(file).outputs[0].name
    folder = of_onnx(tmp_path, file, layer, preprocess="imagenet", size=28, pool="cls")
    assert_same(folder, to, tmp_path / "photos", tmp_path / "out")


@pytest.mark.slow
@tf2onnx
@pytest.mark.parametrize("classes", [2, 3])
def test_trees(here: Path, tmp_path: Path, classes: int) -> None:
    """XGBoost, to ONNX alone."""
    for label in range(classes):
        shutil.copytree(here / "photos" / f"class{label}", tmp_path / "photos" / f"class{label}")
    stack = extract(str(tmp_path / "photos"), "scattering", size=16, out=str(tmp_path / "s.h5"))
    folder = fit(str(stack), "xgboost", out=str(tmp_path / "m"))
    assert_same(folder, "onnx", tmp_path / "photos", tmp_path / "out")
    for to in ("keras", "openvino"):
        with pytest.raises(Refused, match=r"XGBoost's trees have no counterpart in Keras or OpenVINO: .* --to onnx"):
            export(str(folder), to)


@pytest.fixture
def stumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """XGBoost of two photos a class: none of its trees has a split, and all leaves are zero."""
    monkeypatch.setattr("classify.classical.trees.FEW", 0)  # leaves that hold no few rows
    stack = extract(str(photos(tmp_path / "photos", 2, 2)), "scattering", size=16, out=str(tmp_path / "s.h5"))
    return fit(str(stack), "xgboost", out=str(tmp_path / "m"))


@pytest.mark.slow
@tf2onnx
def test_trees_without_a_split(stumps: Path, tmp_path: Path) -> None:
    """Guards numbers that JSON writes without a point: ONNX Runtime refuses a file with integers for them."""
    assert_same(stumps, "onnx", tmp_path / "photos", tmp_path / "out")


@pytest.mark.slow
@tf2onnx
@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ({"target_weights": [0] * 200}, r"its runtime cannot use it: .*Mismatched attribute type in ' : target_weig"),
        ({"base_values": [float("nan")]}, r"does not answer with probabilities of 2 classes: it gives \[nan, "),
    ],
)
def test_a_file_that_does_not_work(
    stumps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: dict[str, Any], named: str
) -> None:
    """Guards what is called done: each file is loaded and asked once, and one that fails is not kept."""
    from classify.portable import onnx_target

    made = onnx_target.ensemble
    monkeypatch.setattr(onnx_target, "ensemble", lambda model: (made(model)[0] | damage, made(model)[1]))
    (tmp_path / "out").mkdir()
    with pytest.raises(Failed, match=rf"m\.onnx was made, but {named}"):
        export(str(stumps), "onnx", str(tmp_path / "out" / "m.onnx"))
    assert list((tmp_path / "out").iterdir()) == []


def machine(classes: int, coupled: bool, temperature: float | None = 0.3) -> Kernel:
    """A kernel machine with random support rows, one of them all zeros."""
    random = np.random.default_rng(classes)
    rows = random.normal(size=(4 * classes, 48)).astype("f4")
    rows[1] = 0
    pairs = classes * (classes - 1) // 2
    dual, intercept = random.normal(size=(classes - 1, len(rows))), random.normal(size=pairs)
    return Kernel(rows, np.full(classes, 4), dual, intercept, np.arange(classes), 0.5, temperature, coupled)


RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(20, 48)).astype("f4")
FITTED = {
    "linear": Linear(RANDOM.normal(size=(4, 48)), RANDOM.normal(size=4), np.arange(4), 0.1),
    "linear of two": Linear(RANDOM.normal(size=(1, 48)), RANDOM.normal(size=1), np.arange(2), 0.1),
    "coupled": machine(3, True),
    "coupled of many": machine(11, True, 0.01),
    "not coupled": machine(4, False),
    "kernel of two": machine(2, False),
    "landmarks": Landmarks(ROWS, RANDOM.normal(size=(4, 20)), RANDOM.normal(size=4), np.arange(4), 0.5, 0.3),
    "landmarks of two": Landmarks(ROWS, RANDOM.normal(size=(1, 20)), RANDOM.normal(size=1), np.arange(2), 0.5, 0.3),
    "neighbours": Neighbours(ROWS, Ballots.of(np.arange(20) % 3, False), 5, np.arange(3), 0.2),
    "neighbours of two": Neighbours(
        ROWS, Ballots(np.arange(20) % 2, 1 / np.array([10, 9])[np.arange(20) % 2]), 30, np.arange(2), 0.2
    ),
}


@pytest.mark.parametrize("to", [pytest.param("keras", marks=pytest.mark.slow), *WITHOUT_KERAS])
@pytest.mark.parametrize("name", FITTED)
def test_heads(tmp_path: Path, name: str, to: str) -> None:
    """Each kind of model on rows that are the pixels themselves, black images too, against its NumPy arithmetic."""
    recipe = type("Sized", (), {"size": 4, "is_onnx": False})
    target = TARGETS[to]([recipe])  # type: ignore[list-item]
    fitted = FITTED[name]
    rows = target.both("subtract", target.shaped(target.numbers(target.pixels), (48,)), 128.0)
    file = tmp_path / f"head{SUFFIXES[to]}"
    target.save(head.HEADS[type(fitted)](target, fitted, rows), file, {})
    pixels = np.random.default_rng(1).integers(0, 256, (50, 4, 4, 3), "u1")
    pixels[3] = 128  # a row of zeros, which has no direction
    labels, wanted = fitted.answer(pixels.reshape(50, 48).astype("f4") - 128)
    given = runtime(file)(pixels)
    np.testing.assert_allclose(given, wanted, rtol=0, atol=CLOSE)
    clear = np.sort(wanted)[:, -1] - np.sort(wanted)[:, -2] > CLOSE
    assert (given.argmax(axis=1) == labels)[clear].all()


def test_classes_without_train_rows(tmp_path: Path) -> None:
    """They have a probability of zero, as in `predict`."""
    recipe = type("Sized", (), {"size": 4, "is_onnx": False})
    target = TARGETS["openvino"]([recipe])  # type: ignore[list-item]
    fitted = FITTED["linear"]
    shape = {"feature_shape": [4, 4, 3]}
    about = {"model": "logreg", "classes": [0, 2, 3, 5], "label_names": list("abcdef"), "pool": "flatten"}
    saved = SavedModel(fitted, about | {"recipes": [shape]})
    graph = head.probabilities(target, saved, [(target.numbers(target.pixels), (4, 4, 3))])
    target.save(graph, tmp_path / "m.xml", {})
    pixels = np.random.default_rng(1).integers(0, 256, (5, 4, 4, 3), "u1")
    wanted = saved([pixels.reshape(5, 48).astype("f4")])[1]
    np.testing.assert_allclose(runtime(tmp_path / "m.xml")(pixels), wanted, rtol=0, atol=CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("to", FORMATS)
def test_the_page_beside_it(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    """Its Python code runs as it is, and finds the label and the probability that `predict` finds."""
    file = export(str(here / "logreg"), to, str(tmp_path / f"net{SUFFIXES[to]}"))
    page = file.with_name(f"{file.name}.md").read_text()
    monkeypatch.chdir(tmp_path)
    shutil.copy(here / "photos" / "class1" / "1.jpg", "photo.jpg")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})
    classifier = Classifier.load(here / "logreg")
    label, probability = printed.getvalue().split()
    assert label == classifier.predict("photo.jpg")[0]
    assert float(probability) == pytest.approx(classifier.predict_proba("photo.jpg").max(), abs=CLOSE)
    assert file.name in page
    assert "(n, 16, 16, 3)" in page


@pytest.mark.parametrize("resize", ["squash", "crop", "crop0.7", "crop1.3", "pad", "edge20", "edge10", "squash20"])
def test_how_an_image_becomes_pixels(resize: str) -> None:
    """The page's code gives the very pixels of stage one, for each way to make a square."""
    from classify.portable.guide import guide
    from extract.backbones import backbone_named
    from extract.compute.rebuild import NOWHERE, StageOne
    from extract.recipe import Recipe

    recipe = Recipe(NOWHERE, backbone_named("scattering"), "", "", 16, 0, resize=resize, filter="bicubic")
    page = guide("onnx", "m.onnx", {"title": "logistic regression", "label_names": ["a", "b"]}, recipe)
    square = re.search(r'convert\("RGB"\)\n(.*?)\ngiven = ', page, re.S)[1]  # type: ignore[index]
    noise = np.random.default_rng(0).integers(0, 256, (37, 50, 3), "u1")
    names = {"Image": Image, "image": Image.fromarray(noise)}
    exec(square, names)
    stage = StageOne(recipe, lambda images: [images], 1)
    assert np.array_equal(np.asarray(names["image"]), stage.pixels([noise])[0][0])


@pytest.mark.slow
def test_keras_file_needs_nothing_of_ours(here: Path, tmp_path: Path) -> None:
    """Stock layers alone: safe mode takes it, in a process that never saw this project."""
    file = export(str(here / "svm"), "keras", str(tmp_path / "m.keras"))
    code = f"""
import sys, keras, numpy as np
sys.modules.update(dict.fromkeys(["extract", "features", "classify"]))  # importing one fails
model = keras.saving.load_model({str(file)!r}, safe_mode=True)
assert np.asarray(model(np.zeros((1, 16, 16, 3), "u1"))).shape == (1, 3)
"""
    env = environment()
    env.pop("PYTHONPATH")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=env)


@pytest.mark.slow
def test_command(here: Path, tmp_path: Path) -> None:
    """Into the model's folder unless told otherwise; then refused, with the way out."""
    shutil.copytree(here / "logreg", tmp_path / "m")
    done = run("classify", "export", "m", "--to", "openvino", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "m/export-openvino/model.xml\n"
    assert re.search(r"[\d.]+ MB; m/export-openvino/model.xml.md says how to use it", done.stderr)
    assert sorted(path.name for path in (tmp_path / "m" / "export-openvino").iterdir()) == [
        *("model.bin", "model.xml", "model.xml.md")
    ]
    again = run("classify", "export", "m", "--to", "openvino", cwd=tmp_path)
    assert again.returncode == 2
    assert "m/export-openvino/model.xml is there already: delete it, or name a file in another folder" in again.stderr
    assert run("classify", "export", "m", cwd=tmp_path).returncode == 2


@pytest.mark.slow
def test_refused(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with the thing and the way on; nothing is left behind."""
    model = str(here / "svm")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(Refused, match=r"--to tflite: there are keras, onnx, openvino"):
        export(model, "tflite")
    with pytest.raises(Refused, match=r"m\.h5: a file that ends in \.xml is expected"):
        export(model, "openvino", str(out / "m.h5"))
    with pytest.raises(Refused, match="no model in "):
        export(str(tmp_path), "openvino")
    (out / "m.bin").write_bytes(b"mine")
    with pytest.raises(Refused, match=r"m\.bin is there already: delete it, or name a file in another folder"):
        export(model, "openvino", str(out / "m.xml"))
    (out / "m.bin").rename(out / "m.xml.md")
    with pytest.raises(Refused, match=r"m\.xml\.md is there already"):
        export(model, "openvino", str(out / "m.xml"))
    (out / "m.xml.md").unlink()
    monkeypatch.setattr(head, "MOST", 1000)
    with pytest.raises(Refused, match=r"answers by \d+ rows of [\d,]+ numbers, .* MB go into a file. Fit it to pooled"):
        export(model, "openvino", str(out / "m.xml"))
    for package in ("onnx", "tf2onnx", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(Refused, match=rf"the package {package} is not installed; pip install -e '\.\[onnx\]'"):
                export(str(here / "logreg"), "onnx", str(out / "m.onnx"))
    assert list(out.iterdir()) == []


@pytest.mark.slow
def test_no_probabilities(tmp_path: Path) -> None:
    """A class with a single train image leaves a support vector machine without any."""
    photos(tmp_path / "photos", each=6)
    for file in sorted((tmp_path / "photos" / "class2").iterdir())[1:]:
        file.unlink()
    stack = extract(str(tmp_path / "photos"), "scattering", size=16, out=str(tmp_path / "s.h5"))
    folder = fit(str(stack), "linearsvm", out=str(tmp_path / "m"))
    assert load_answers(folder)[0].temperature is None
    with pytest.raises(Refused, match="this model has no probabilities, as a class had a single train image"):
        export(str(folder), "openvino")


@pytest.mark.slow
def test_base_that_is_not_there(here: Path, tmp_path: Path) -> None:
    """Weights that moved are named, and found where `--weights` says; a base of other weights is refused."""
    folder = shutil.copytree(here / "logreg", tmp_path / "m")
    about = json.loads((folder / "model.json").read_text())
    made = about["recipes"][0]
    (folder / "model.json").write_text(json.dumps(about | {"recipes": [made | {"weights_file": "gone.h5"}]}))
    with pytest.raises(Refused, match=r"no weights file at gone\.h5, .* say where it is with --weights FILE"):
        export(str(folder), "openvino")
    (folder / "model.json").write_text(json.dumps(about | {"recipes": [made | {"weights_sha256": "0" * 64}]}))
    with pytest.raises(Refused, match=r"have SHA-256 .*, and the model's rows were made with"):
        export(str(folder), "openvino")
    two = [made, made | {"resize": "crop"}]
    (folder / "model.json").write_text(json.dumps(about | {"recipes": two}))
    with pytest.raises(Refused, match=r"see other pixels of one image \(16 px, crop, bilinear; 16 px, squash, bil"):
        export(str(folder), "openvino")
    (folder / "model.skops").write_bytes(b"")
    with pytest.raises(Failed, match=r"model\.skops has SHA-256"):
        export(str(folder), "openvino")


def test_decoding_is_not_in_the_file() -> None:
    """Guards the page's promise that Pillow alone decodes a plain photo as stage one does."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), "u1"))
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG")
    assert np.array_equal(np.asarray(Image.open(buffer).convert("RGB")), np.asarray(decode(buffer.getvalue())))
