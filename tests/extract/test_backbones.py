import inspect
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import contents, run, stack

from extract.backbones import BACKBONES, backbone_named
from extract.network.base import cut, load_base
from extract.network.forward import compile_forward
from extract.network.importing import import_keras
from extract.network.network import KerasNetwork
from features import Refused

pytestmark = pytest.mark.slow

# One of each module of Keras Applications, and those with counted layer names; ALL_BACKBONES=1 takes all 40 (230 s).
BUILT = [
    *("vgg16", "vgg19", "xception", "resnet50", "resnet50v2", "inceptionv3", "mobilenet", "mobilenetv2"),
    *("mobilenetv3small", "mobilenetv3large", "densenet121", "nasnetlarge", "efficientnetb0"),
    *("efficientnetv2b0", "convnexttiny"),
]
APPLICATIONS = {name: row for name, row in BACKBONES.items() if row.weights == "imagenet"}
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), "u1")


def test_every_member_of_keras_applications_is_there() -> None:
    """Guards completeness: what Keras can build is in the table, and nothing else."""
    applications = import_keras().applications
    constructors = {
        name
        for name, item in vars(applications).items()
        if inspect.isfunction(item) and "include_top" in inspect.signature(item).parameters
    }
    assert {row.keras_name for row in APPLICATIONS.values()} == constructors
    assert len(constructors) >= 38


@pytest.mark.parametrize(
    "name", [name for name in APPLICATIONS if "mobilenetv3" not in name]
)  # Keras has none for those
def test_native_size_is_keras_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the native size: what Keras itself takes where it is given none."""

    class Seen(Exception):
        pass

    def seen(input_shape: Any, default_size: int, **_: Any) -> None:
        raise Seen(default_size)

    applications = import_keras().applications
    monkeypatch.setattr("keras.src.applications.imagenet_utils.obtain_input_shape", seen)
    with pytest.raises(Seen) as caught:
        getattr(applications, BACKBONES[name].keras_name)(weights=None)
    assert caught.value.args == (BACKBONES[name].size,)


def by_hand(mode: str, pixels: np.ndarray) -> np.ndarray:
    """The four kinds of preprocessing, from the papers' numbers."""
    if mode == "caffe":
        return pixels[..., ::-1] - np.array([103.939, 116.779, 123.68])
    if mode == "tf":
        return pixels / 127.5 - 1
    if mode == "torch":
        return (pixels / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert mode == "none"
    return pixels


@pytest.mark.parametrize("name", APPLICATIONS)
def test_preprocessing_mode(name: str) -> None:
    """Guards the recorded mode, and each row's module, against the formula."""
    preprocess = getattr(import_keras().applications, BACKBONES[name].module).preprocess_input
    expected = by_hand(BACKBONES[name].preprocessing, IMAGES.astype("f8"))
    np.testing.assert_allclose(preprocess(IMAGES.astype("f4")), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", list(APPLICATIONS) if os.environ.get("ALL_BACKBONES") else BUILT)
def test_weights_file_and_last_layer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the file name in the no-network message, and the default layer, against the network Keras builds."""
    keras, asked = import_keras(), []

    def get_file(fname: str, *_: Any, **__: Any) -> str:
        asked.append(fname)
        return "weights.h5"

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    monkeypatch.setattr(keras.Model, "load_weights", lambda *_, **__: None)
    keras.backend.clear_session()
    row = BACKBONES[name]
    base = getattr(keras.applications, row.keras_name)(
        weights="imagenet", include_top=False, input_shape=(row.size, row.size, 3)
    )
    assert asked == [row.weights_file]
    assert base.layers[-1].name == row.layer
    assert base.output_shape[1:] == (row.positions, row.positions, row.channels)
    assert base.count_params() <= row.parameters * 1e6 * 1.005


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("vgg16", "vgg16"),
        ("mobilenetv2", "mobilenet_v2"),
        ("densenet121", "densenet"),
        ("mobilenetv3small", "mobilenet_v3"),
    ],
)
def test_golden_rows(name: str, module: str) -> None:
    """Guards preprocessing, inference mode, padding and C order: one of each family, against plain Keras."""
    keras, row = import_keras(), BACKBONES[name]
    base, _ = load_base(row, "random", 64, seed=3)
    preprocess = getattr(keras.applications, module).preprocess_input
    calibrate(base, preprocess)
    forward = compile_forward(KerasNetwork.around(base, row), batch=4, device="cpu")
    plain = getattr(keras.applications, row.keras_name)(weights=None, include_top=False, input_shape=(64, 64, 3))
    plain.set_weights(base.get_weights())
    expected = np.asarray(plain(preprocess(np.array(IMAGES, "float32")), training=False))
    (got,) = forward(IMAGES)
    assert (forward.batch, got.dtype, got.shape) == (4, np.float32, (3, expected[0].size))
    close(got, expected.reshape(3, -1))
    assert np.array_equal(forward(IMAGES[1:2])[0][0], got[1]), "a row's bits depend on its neighbours"


def calibrate(base: Any, preprocess: Any) -> None:
    """Take batch normalisation's statistics from other images.

    Random weights alone let every row come out alike in the deep networks, and training mode would go unnoticed.
    """
    for layer in base.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.0
    images = np.random.default_rng(1).integers(0, 256, (8, *base.input_shape[1:])).astype("f4")
    base(preprocess(images), training=True)


def close(got: np.ndarray, expected: np.ndarray, bound: float = 1e-4) -> None:
    """max|a−b| ≤ bound · max|b| for each row, and rows that say something."""
    for a, b in zip(got, expected, strict=True):
        assert np.abs(b).max() > 0
        assert np.abs(a - b).max() <= bound * np.abs(b).max()
    assert np.abs(expected[0] - expected[1]).max() > 1e-3 * np.abs(expected).max()


def test_efficientnet_from_a_file_is_the_network_keras_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the trap: B0–B7 built for `imagenet` hold one layer more, without which the same file gives other rows."""
    keras, row = import_keras(), BACKBONES["efficientnetb0"]
    file = tmp_path / "b0.weights.h5"
    made = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(64, 64, 3))
    normalization = next(layer for layer in made.layers if type(layer).__name__ == "Normalization")
    mean, variance, *rest = normalization.get_weights()
    normalization.set_weights([mean + np.array([0.485, 0.456, 0.406]), variance * [0.05, 0.05, 0.06], *rest])
    calibrate(made, keras.applications.efficientnet.preprocess_input)
    made.save_weights(file)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: str(file))
    own = keras.applications.EfficientNetB0(weights="imagenet", include_top=False, input_shape=(64, 64, 3))
    layer = "block4a_activation"  # further up, random weights make 1e-7 of a pixel 0.4 of a row
    expected, without = (
        np.asarray(cut(net, layer)(np.array(IMAGES, "float32"), training=False)).reshape(3, -1) for net in (own, made)
    )
    base, _ = load_base(row, str(file), 64, seed=0)
    close(compile_forward(KerasNetwork.around(cut(base, layer), row), batch=3, device="cpu")(IMAGES)[0], expected)
    assert np.abs(without - expected).max() > 1e-2 * np.abs(expected).max()


def test_names() -> None:
    """Guards the names people type, and what a mistyped one is told."""
    for name in ("vgg16", "VGG16", "vgg-16", "VGG_16"):
        assert backbone_named(name).keras_name == "VGG16"
    assert backbone_named("EfficientNetV2-B0").name == "efficientnetv2b0"
    with pytest.raises(Refused, match=r"no backbone is called 'resnet5O'\. Did you mean resnet50.*extract --list"):
        backbone_named("resnet5O")
    with pytest.raises(Refused, match=r"no backbone is called 'zzz'\. All: python -m extract --list"):
        backbone_named("zzz")


def test_the_list_shows_speeds_measured_here(tmp_path: Path) -> None:
    """Guards `make backbones`: images/s of a finished stack at native size, a dash elsewhere, and shapes that fit."""
    folder = tmp_path / "features" / "stacks"
    folder.mkdir(parents=True)
    stack(folder / "a.h5", contents(rows=10), input_size=224)  # written in half a second
    stack(folder / "b.h5", contents(rows=10), backbone="vgg19", input_size=32)
    (folder / "c.h5").write_text("no stack")
    done = run("extract", "--list", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    assert lines["name"][-2:] == ["images/s", "layer"]
    assert lines["vgg16"][1:4] == ["224", "7×7×512", "25,088"]
    assert lines["vgg16"][-2:] == ["20.0", "block5_pool"]
    assert lines["vgg19"][-2] == "–"
    assert set(lines) == {"name", *BACKBONES}
    assert "c.h5" in done.stderr


@pytest.mark.parametrize(
    ("size", "layer"), [(64, "scale4"), (32, "scale3"), (24, "scale2"), (8, "scale1"), (128, "scale4")]
)
def test_the_layer_that_fits_the_size(size: int, layer: str) -> None:
    """Guards `--backbone scattering --size 32` without `--layer`; other networks keep their last layer at any size."""
    assert BACKBONES["scattering"].layer_at(size) == layer
    assert BACKBONES["vgg16"].layer_at(size) == "block5_pool"
