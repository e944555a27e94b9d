"""Faults 36–45: what is wrong with memory, devices, weights, numbers, and files that somebody else made."""

import hashlib
import json
import pickle
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from test_fuzz import OPEN_ALL, said_of
from tiny import attributes, contents, photos, stack

from classify import MODELS, fit
from classify.classical import memory
from classify.classical.linear import SpanLinear
from classify.saved import load_model
from extract.backbones import BACKBONES
from extract.compute.pipeline import fill
from extract.images.dataset import scan
from extract.network.base import imagenet_file, load_base
from extract.network.forward import compile_forward
from extract.network.importing import import_keras
from extract.network.network import KerasNetwork
from extract.recipe import Recipe
from features import Failed, Refused, open_stack
from features.layout import lay_out, layout_path, partial_path
from features.runtime import machine
from features.runtime.disk import publish
from features.writer import StackWriter


@pytest.fixture
def two_classes(tmp_path: Path) -> Path:
    """A stack of 60 rows that anything can learn."""
    held = contents(rows=60)
    held["features"][:, 0] += 3 * held["labels"]
    return stack(tmp_path / "s.h5", held)


def greedy(power: int, times: int = 1, white: int = 0):
    """A base that needs batch^power numbers, so many times: too many for any machine, or hardly any.

    Where the first pixel of a batch is white, `white` more.
    """
    keras = import_keras()
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the allocation that fails is TensorFlow's")
    import tensorflow as tf

    class Greedy(keras.layers.Layer):
        def call(self, x):
            first = x[0, 0, 0, 0]  # a value that is not known before, so that nothing is folded into a constant
            count = tf.cast(tf.shape(x)[0], tf.int64) ** power * times + white * tf.cast(first == 255, tf.int64)
            waste = tf.fill([count], first)
            return x + (tf.reduce_max(waste) - first)

    images = keras.Input((8, 8, 3))
    return keras.Model(images, Greedy()(images))


@pytest.mark.slow
def test_out_of_memory_halves_the_batch_and_goes_on() -> None:
    """36: the allocator's own refusal (it tries for 10 s) at a batch of 8; 4 fits, and its rows are right."""
    forward = compile_forward(KerasNetwork.around(greedy(12), BACKBONES["efficientnetb0"]), 8, "cpu")
    assert forward.batch == 4
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), "u1")
    np.testing.assert_array_equal(forward(images)[0], images.reshape(3, -1))


@pytest.mark.slow
def test_not_even_one_image_fits() -> None:
    """36: where halving ends: a base that needs 4 TB for one image."""
    with pytest.raises(Failed, match="not even one 8 px image fits the memory of this cpu"):
        compile_forward(KerasNetwork.around(greedy(1, times=2**40), BACKBONES["efficientnetb0"]), 1, "cpu")


@pytest.mark.slow
def test_out_of_memory_in_the_middle_of_a_run(tmp_path: Path) -> None:
    """36: one line that says what to do, the rows before it kept, and the very same rows once there is memory again."""
    data = photos(tmp_path / "photos", classes=2, each=3, side=8)
    Image.new("RGB", (8, 8), "white").save(data / "class1" / "0.png")
    listing = scan(str(data))
    recipe = Recipe(listing, BACKBONES["efficientnetb0"], "random", "top", size=8, seed=0)
    lay_out(layout_path(tmp_path / "a.h5"), recipe.rows({}), listing.label_names, (8, 8, 3), attributes())
    publish(layout_path(tmp_path / "a.h5"), partial_path(tmp_path / "a.h5"))
    forward = compile_forward(KerasNetwork.around(greedy(1, white=2**44), recipe.backbone), 1, "cpu")
    enough = compile_forward(KerasNetwork.around(greedy(1), recipe.backbone), 1, "cpu")
    blocks = [np.array([row]) for row in range(6)]
    with (
        pytest.raises(Failed, match="^out of memory in a batch of 1 images that had fitted before. What was finished"),
        StackWriter(tmp_path / "a.h5") as writer,
    ):
        fill({0: writer}, recipe, blocks, forward, lambda rows: None)
    with StackWriter(tmp_path / "a.h5") as writer:
        good = np.flatnonzero(writer.check())
        assert good.tolist() == [0, 1, 2]
        fill({0: writer}, recipe, blocks[3:], enough, lambda rows: None)
        writer.finish(np.zeros(6, "u1"), {})
    straight = [enough(recipe.pixels(recipe.open((data / path).read_bytes()), None, 0)[None]) for path in writer.paths]
    np.testing.assert_array_equal(open_stack(tmp_path / "a.h5").X, np.concatenate([rows for (rows,) in straight]))


@pytest.mark.slow
def test_features_that_are_no_numbers_name_the_image(tmp_path: Path, command) -> None:
    """38: weights so large that one image's features overflow: that one is rejected, the others stay."""
    base, _ = load_base(BACKBONES["vgg16"], "random", 32, seed=0)
    kernel, bias = base.get_layer("block1_conv1").get_weights()
    base.get_layer("block1_conv1").set_weights([kernel * np.float32(2e37), bias])
    base.save_weights(tmp_path / "large.weights.h5")
    data = photos(tmp_path / "photos", classes=2, each=1)
    for i in range(8):  # flat, near the mean that is subtracted
        Image.new("RGB", (32, 32), (123 + i % 2, 116 + i // 2 % 2, 104)).save(data / f"class{i % 2}" / f"flat{i}.png")
    (data / "class1" / "0.png").unlink()
    words = ["--weights", tmp_path / "large.weights.h5", "--size", 32, "--layer", "block1_conv1", "--max-bad", 50]
    told = command("extract", data, "--backbone", "vgg16", *words, "--out", tmp_path / "a.h5")
    assert told.code == 3
    assert "rejected class0/0.png: its features are not finite (NaN or infinity)\n" in told.err
    assert len(open_stack(tmp_path / "a.h5")) == 8
    assert np.isfinite(open_stack(tmp_path / "a.h5").X).all()


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("row", [4, 3], ids=["train", "test"])
@pytest.mark.parametrize("model", ["logreg", "svm", "xgboost", "dense"])
def test_a_stack_with_features_that_are_no_numbers(tmp_path: Path, command, model: str, row: int, value: float) -> None:
    """38: made by somebody else: every model refuses it by the image's name; XGBoost would take NaN for `missing`."""
    held = contents(rows=60)
    held["features"][row, 7] = value
    stack(tmp_path / "s.h5", held)
    told = command("classify", "fit", tmp_path / "s.h5", "--model", model, "--out", tmp_path / "m")
    assert (told.code, told.out) == (1, "")
    assert f"s.h5: the features of {held['paths'][row]} hold NaN, infinity or numbers too large" in told.err
    assert not (tmp_path / "m" / "result.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["vgg16", "mobilenetv2"])
def test_half_of_the_imagenet_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str) -> None:
    """40, 39: what an interrupted download leaves, without a network; Keras has a hash for the first."""
    keras = import_keras()
    row = BACKBONES[backbone]
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(keras.src.utils.file_utils.config, "keras_home", lambda: str(tmp_path))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(urllib.request, "_opener", None)  # else this proxy stays with all later tests, or theirs here
    base = getattr(keras.applications, row.keras_name)(
        weights=None, include_top=False, input_shape=(row.size, row.size, 3)
    )
    file = imagenet_file(row)
    file.parent.mkdir(parents=True)
    base.save_weights(tmp_path / "whole.weights.h5")
    file.write_bytes((tmp_path / "whole.weights.h5").read_bytes()[:-1000])
    with pytest.raises(Failed) as caught:
        load_base(row, "imagenet", row.size, 0)
    assert f"{file} is damaged or was not downloaded to its end" in str(caught.value)
    assert "\n" not in str(caught.value)


def little_memory(folder: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A container with so many bytes, by the files that the kernel tells it in."""
    for name, text in (("memory.max", str(size)), ("memory.current", "0"), ("memory.stat", "inactive_file 0\n")):
        (folder / name).write_text(text)
    monkeypatch.setattr(machine, "CGROUP", folder)


def test_memory_is_estimated_before_it_is_taken(
    two_classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command
) -> None:
    """41: refused with what it needs and what there is, before anything is computed or written."""
    little_memory(tmp_path, monkeypatch, memory.ROOM)
    told = command("classify", "fit", two_classes, "--model", "xgboost", "--out", tmp_path / "m")
    assert (told.code, told.out) == (2, "")
    assert "error: XGBoost on 45 rows of 4 columns needs 1.1 GB of memory, and 1.1 GB are free. --pool avg" in told.err
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("model", "build"),
    [
        ("logreg", lambda seed: SpanLinear(LogisticRegression(solver="newton-cg", tol=1e-9, max_iter=1))),
        ("linearsvm", lambda seed: SpanLinear(LinearSVC(dual=True, tol=1e-12, max_iter=1, random_state=seed))),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_non_convergence_is_in_the_result(
    two_classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command, model: str, build
) -> None:
    """42: a solver that gives up is said on stderr and in result.json; one that does not, too."""
    import dataclasses

    assert json.loads((fit(str(two_classes), model, out=str(tmp_path / "a")) / "result.json").read_text())["converged"]
    monkeypatch.setitem(MODELS, model, dataclasses.replace(MODELS[model], build=build))
    told = command("classify", "fit", two_classes, "--model", model, "--out", tmp_path / "b")
    assert told.code == 0
    assert "warning: not converged after 1 iterations; `converged` in result.json is false\n" in told.err
    assert json.loads((tmp_path / "b" / "result.json").read_text())["converged"] is False


class Hostile:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "code ran"))


def hostile_network(folder: Path) -> None:
    keras = import_keras()
    mark = str(folder / "ran")
    code = keras.layers.Lambda(lambda x: open(mark, "w") and x)  # noqa: SIM115
    keras.Sequential([keras.Input((4,)), code]).save(folder / "model.keras")
    (folder / "ran").unlink()  # it ran here, while it was made


def hostile_configuration(folder: Path) -> None:
    """A plain network whose configuration names a function of Python's for an activation."""
    keras = import_keras()
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(folder / "plain.keras")
    with zipfile.ZipFile(folder / "plain.keras") as old, zipfile.ZipFile(folder / "model.keras", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                config = json.loads(data)
                config["config"]["layers"][1]["config"]["activation"] = {
                    "module": "builtins",
                    "class_name": "function",
                    "config": "exec",
                    "registered_name": "function",
                }
                data = json.dumps(config).encode()
            new.writestr(name, data)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "kind", "message"),
    [
        (
            lambda folder: (folder / "model.skops").write_bytes(pickle.dumps(Hostile(folder / "ran"))),
            "logreg",
            "model.skops is no skops file. Fit the model again: make classify MODEL=svm",
        ),
        (
            hostile_network,
            "dense",
            "holds what no network here is made of: __lambda__, keras.layers.Lambda",
        ),
        (hostile_configuration, "dense", "model.keras holds what no network here is made of: builtins.function"),
        (
            lambda folder: (folder / "model.ubj").write_bytes(pickle.dumps(Hostile(folder / "ran"))),
            "xgboost",
            "is damaged (",
        ),
    ],
    ids=["pickle", "lambda", "function", "trees"],
)
def test_a_model_file_that_would_run_code(tmp_path: Path, attack, kind: str, message: str) -> None:
    """43: refused, and nothing ran. (A hostile skops file: tests/classify/test_classifiers.py.)"""
    attack(tmp_path)
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in tmp_path.glob("model.*")}
    about = {"model": kind, "seed": 0, "command": "make classify MODEL=svm", "network": {}, "files": files}
    (tmp_path / "model.json").write_text(json.dumps(about))
    with pytest.raises(Failed) as caught:
        load_model(tmp_path)
    assert message in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_model_and_a_stack_that_do_not_belong_together(two_classes: Path, tmp_path: Path) -> None:
    """44: rows of another layer are as wide and would be classified, wrongly: refused with what differs."""
    folder = fit(str(two_classes), "logreg", out=str(tmp_path / "m"))
    load_model(folder, open_stack(two_classes))
    other = open_stack(stack(tmp_path / "other.h5", contents(rows=60), layer="block4_pool", weights_sha256="1" * 64))
    with pytest.raises(Refused) as caught:
        load_model(folder, other)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{other.path} does not fit the model in {folder}:"
    assert lines[1] == "  layer: block5_pool for the model, block4_pool in the stack"
    assert lines[2].startswith("  weights_sha256: 000")
    more = stack(tmp_path / "more.h5", contents(rows=200, seed=3))  # other images, seen through the same base
    assert len(load_model(folder, open_stack(more))[0].predict(open_stack(more))) == 200


HUGE = 1 << 40


def hostile_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Name → (file, what must be said of it)."""
    import h5py

    from features.layout import offsets

    made: dict[str, tuple[Path, str]] = {}
    secret = stack(folder / "secret.h5", contents())

    def file(name: str, message: str) -> Path:
        made[name] = (stack(folder / f"{name}.h5", contents()), message)
        return made[name][0]

    def replaced(name: str, dataset: str, message: str, **how: object) -> None:
        with h5py.File(file(name, message), "r+") as opened:
            del opened[dataset]
            opened.create_dataset(dataset, **how)

    with h5py.File(file("external-link", "dataset features is missing"), "r+") as opened:
        del opened["features"]
        opened["features"] = h5py.ExternalLink(str(secret), "/features")
    with h5py.File(file("external-names", "dataset label_names is missing"), "r+") as opened:
        del opened["label_names"]
        opened["label_names"] = h5py.ExternalLink(str(secret), "/label_names")
    with h5py.File(file("soft-link", "dataset paths is missing"), "r+") as opened:
        del opened["paths"]
        opened["paths"] = h5py.SoftLink("/gone")
    with h5py.File(file("link-to-rejects", "rejects does not lie in this file"), "r+") as opened:
        opened["rejects"] = h5py.ExternalLink(str(secret), "/paths")
    with h5py.File(file("virtual", "features does not lie inside the file"), "r+") as opened:
        del opened["features"]
        layout = h5py.VirtualLayout((10, 24), "<f4")
        layout[:] = h5py.VirtualSource(str(secret), "features", (10, 24))
        opened.create_virtual_dataset("features", layout)
    with h5py.File(file("external-bytes", "features does not lie inside the file"), "r+") as opened:
        del opened["features"]
        opened.create_dataset("features", (10, 24), "<f4", external=[(str(secret), 0, 960)])
    gzip = {"compression": "gzip", "chunks": (1 << 20,)}
    replaced("huge-names", "label_names", "and 0 are stored", shape=(HUGE,), dtype="S8", **gzip)
    replaced("huge-rejects-kin", "fingerprint", "and 0 are stored", shape=(HUGE,), dtype="S64", **gzip)
    with h5py.File(file("huge-rows", "and 0 are stored"), "r+") as opened:
        for name in list(opened):
            if opened[name].shape and opened[name].shape[0] == 10:
                shape, dtype = (HUGE, *opened[name].shape[1:]), opened[name].dtype
                del opened[name]
                opened.create_dataset(name, shape, dtype, chunks=(1 << 10, *shape[1:]), compression="gzip")
    wide = {"shape": (10, 24), "maxshape": (None, 24), "chunks": (1 << 20, 24), "dtype": "<f4", "compression": "gzip"}
    replaced("huge-chunk", "features", "in pieces of 100,663,296 bytes", data=np.ones((10, 24), "<f4"), **wide)
    replaced("never-stored", "features", "and 0 are stored", shape=(10, 24), dtype="<f4", chunks=(10, 24))
    replaced("objects", "labels", "labels has type object", data=["a"] * 10)
    replaced("no-such-label", "labels", "row 0 has label 77; expected −1 to 1", data=np.full(10, 77))
    for name, place in (("beyond", 1 << 33), ("bogus", (1 << 63) + 8), ("overflow", (1 << 64) - 4096)):
        path = file(f"offset-{name}", "is ")
        data, offset = path.read_bytes(), offsets(path)["features"]
        assert data.count(offset.to_bytes(8, "little")) >= 1
        path.write_bytes(data.replace(offset.to_bytes(8, "little"), place.to_bytes(8, "little")))
    path = file("looping-texts", "its texts cannot be read")
    data = path.read_bytes()
    heap = data.index(b"GCOL")  # its first text becomes a free piece of no length: HDF5 never comes past that
    path.write_bytes(data[: heap + 16] + bytes(16) + data[heap + 32 :])
    for name, value in (
        ("negative", [-2, -3, 4]),
        ("enormous", [1 << 40, 1 << 40, 4]),
        ("text", "wide"),
        ("scalar", 24),
    ):
        with h5py.File(file(f"shape-{name}", "is damaged"), "r+") as opened:
            opened.attrs["feature_shape"] = value
    for name, value in (("text", "one"), ("array", [1, 2])):
        with h5py.File(file(f"version-{name}", "format_version is"), "r+") as opened:
            opened.attrs["format_version"] = value
    return made


def test_hostile_hdf5(tmp_path: Path) -> None:
    """45: no link out of the file is followed, no size believed: each is refused, in one line, in little memory."""
    files = hostile_files(tmp_path)
    said = said_of(OPEN_ALL, [path for path, _ in files.values()])
    assert len(said) == len(files)
    for (name, (path, message)), line in zip(files.items(), said, strict=True):
        assert line.startswith(str(path)), name
        assert message in line, (name, line)
