"""Fine-tuning: the cut, the tail above it, and that both together are the whole network."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import warm

from classify.networks.checkpoint import Checkpoint, Trained
from classify.networks.finetune import Finetune, cut_rows, join
from classify.networks.scratch import read_pixels
from classify.saved import load_model, save_model
from extract import extract
from extract.backbones import backbone_named
from extract.images.decode import decode, squash
from extract.layers import extract_layer
from extract.network.base import cut, load_base
from extract.network.importing import import_keras
from extract.network.tail import bottlenecks, cut_below, default_layers, tail_of
from features import Refused, Stack, open_stack
from features.source import read_file

pytestmark = pytest.mark.slow


def made(photos: Path, out: Path, backbone: str = "vgg16", size: int = 32) -> Stack:
    return open_stack(extract(str(photos), backbone, weights="random", size=size, batch=8, out=str(out)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """18 photos through a random VGG16 at 32 px: rows of 1·1·512."""
    folder = tmp_path_factory.mktemp("whole")
    return made(tiny.photos(folder / "photos"), folder / "vgg.h5").path


@pytest.fixture
def stack(whole: Path, tmp_path: Path) -> Stack:
    """The same in a folder of its own, where its cuts are made; the photos are those of `whole`."""
    return open_stack(Path(shutil.copy2(whole, tmp_path / "vgg.h5")))


def pixels(stack: Stack) -> np.ndarray:
    """(n, side, side, 3) float32, preprocessed as the stack's backbone wants it."""
    root, side = Path(stack.attrs["dataset_root"]), stack.attrs["input_size"]
    images = np.stack([squash(decode(read_file(root / path).data), side) for path in stack.paths]).astype("f4")
    module = getattr(import_keras().applications, backbone_named(stack.attrs["backbone"]).module)
    return np.asarray(module.preprocess_input(images))


def end_to_end(fitted: Finetune, stack: Stack) -> np.ndarray:
    """The whole network on pixels: the frozen base up to the cut as it was loaded, then what was trained."""
    keras = import_keras()
    weights = stack.attrs["weights_file"] or stack.attrs["weights"]
    base, _ = load_base(
        backbone_named(stack.attrs["backbone"]), weights, stack.attrs["input_size"], stack.attrs["seed"]
    )
    tail = next(layer for layer in fitted.model_.layers if layer.name == "tail")
    for layer in tail.layers[1:]:
        base.get_layer(layer.name).set_weights(layer.get_weights())
    pool = keras.layers.GlobalAveragePooling2D()(base.output)
    return np.asarray(keras.Model(base.input, fitted.model_.layers[-1](pool)).predict_on_batch(pixels(stack)))


@pytest.mark.parametrize(("backbone", "size", "layers"), [("vgg16", 32, 2), ("mobilenetv2", 64, 11)])
def test_equals_the_whole_network_on_pixels(
    photo_folder: Path, tmp_path: Path, backbone: str, size: int, layers: int
) -> None:
    """What was trained from the cut stack is the whole network, to 1e-4, and training did change the tail."""
    stack = made(photo_folder, tmp_path / "s.h5", backbone, size)
    few = stack.take(np.unique(stack.y, return_index=True)[1])  # none to spare for validation: every epoch is kept
    fitted = Finetune(layers=layers, widths=(8,), epochs=2).fit(few, few.y)
    assert fitted.best_epoch_
    np.testing.assert_allclose(fitted.predict_proba(stack), end_to_end(fitted, stack), atol=1e-4)


def test_equals_the_whole_network_with_real_weights(shared: Path, tmp_path: Path) -> None:
    """The same for real MobileNetV2 weights on real photos."""
    photos = tmp_path / "photos"
    for folder in sorted((shared / "data" / "food101-10" / "images").iterdir())[:2]:
        (photos / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:8]:
            (photos / folder.name / file.name).write_bytes(file.read_bytes())
    weights = next((shared / "weights").glob("mobilenet_v2*.h5"))
    path = extract(str(photos), "mobilenetv2", weights=str(weights), size=96, batch=8, out=str(tmp_path / "s.h5"))
    stack = open_stack(path)
    fitted = Finetune(widths=(8,), epochs=2).fit(stack, stack.y)
    np.testing.assert_allclose(fitted.predict_proba(stack), end_to_end(fitted, stack), atol=1e-4)


def test_only_the_last_layers_are_trained_and_saving_keeps_all(stack: Stack, tmp_path: Path) -> None:
    """block5_conv3 alone moves with `layers=2`; the saved network names its cut and predicts the same."""
    fitted = Finetune(layers=2, widths=(8,), epochs=1).fit(stack, stack.y)
    assert fitted.cut_["layer"] == "block5_conv2"
    assert [weight.path.split("/")[-2] for weight in tail(fitted).trainable_weights] == ["block5_conv3"] * 2
    save_model(fitted, tmp_path / "model", {"model": "finetune", "seed": 0})
    loaded, about = load_model(tmp_path / "model")
    assert about["network"]["cut_"]["layer"] == "block5_conv2"
    np.testing.assert_array_equal(loaded.predict_proba(stack), fitted.predict_proba(stack))


def tail(fitted: Finetune) -> Any:
    return next(layer for layer in fitted.model_.layers if layer.name == "tail")


def test_batch_norm_stays_in_inference_mode() -> None:
    """A training step on the tail moves its convolutions and leaves every moving mean and variance as it was."""
    keras = import_keras()
    base, _ = load_base(backbone_named("mobilenetv2"), "random", 32, 0)
    above = tail_of(base, cut_below(base, 11), 11)
    features = keras.Input((1280,))
    net = join(above, "avg", keras.Model(features, keras.layers.Dense(2, activation="softmax")(features)))
    norms = [layer for layer in above.layers if isinstance(layer, keras.layers.BatchNormalization)]
    before = [np.copy(values) for norm in norms for values in norm.get_weights()]
    conv = np.copy(above.get_layer("Conv_1").get_weights()[0])
    net.compile("adam", "sparse_categorical_crossentropy")
    net.train_on_batch(np.random.default_rng(0).standard_normal((8, net.input_shape[1])), np.arange(8) % 2)
    after = [values for norm in norms for values in norm.get_weights()]
    assert all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))
    assert not np.array_equal(conv, above.get_layer("Conv_1").get_weights()[0])


def test_residual_networks_are_cut_where_everything_flows_through() -> None:
    """No cut inside a residual block: the shortcut would be missing above it."""
    base, _ = load_base(backbone_named("mobilenetv2"), "random", 32, 0)
    names = [layer.name for layer in base.layers]
    assert default_layers(base) == 20 and cut_below(base, 20) == "block_14_add"
    assert cut_below(base, 11) == "block_15_add"
    inside = len(names) - names.index("block_15_depthwise")
    assert cut_below(base, inside) == "block_14_add"
    assert "block_15_depthwise" not in bottlenecks(base) and "block_16_depthwise" in bottlenecks(base)


def test_networks_that_add_without_a_layer_are_cut_too() -> None:
    """ConvNeXt's shortcuts are bare operations, and it has models inside: tail and cut together are the whole base."""
    base, _ = load_base(backbone_named("convnexttiny"), "random", 32, 0)
    below = cut_below(base, default_layers(base))
    assert below == "convnext_tiny_downsampling_block_2"
    assert not any("stage" in name for name in bottlenecks(base)[:-1])
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("f4")
    whole = tail_of(base, below, default_layers(base))(cut(base, below)(images))
    np.testing.assert_array_equal(np.asarray(whole), np.asarray(base(images)))


def test_deeper_than_the_base_is_refused(stack: Stack) -> None:
    """The message says how many layers there are."""
    with pytest.raises(Refused, match="--layers 19: vgg16 has 18 layers up to 'block5_pool'; give 1 to that"):
        Finetune(layers=19).fit(stack, stack.y)


def test_cut_stack_has_the_same_rows(stack: Stack) -> None:
    """Row for row the same images, labels and split, in a folder beside the parent; made once."""
    rows = cut_rows(stack.select("test"), "block5_conv2")
    assert rows.path == stack.path.parent / "cuts" / "vgg-block5_conv2.h5"
    assert rows.feature_shape == (2, 2, 512) and rows.attrs["weights_sha256"] == stack.attrs["weights_sha256"]
    assert rows.paths == stack.select("test").paths
    for name in ("sha256", "labels", "split"):
        np.testing.assert_array_equal(open_stack(rows.path).field(name), stack.field(name))
    written = rows.path.stat().st_mtime_ns
    cut_rows(stack, "block5_conv2")
    assert rows.path.stat().st_mtime_ns == written


def test_cut_stack_of_another_base_is_refused(stack: Stack, photo_folder: Path, tmp_path: Path) -> None:
    """What lies where the cut stack belongs is checked, and so are rows given to a fitted network."""
    made(photo_folder, tmp_path / "cuts" / "vgg-block5_conv2.h5", "vgg19")
    with pytest.raises(Refused, match="backbone: vgg19 in the stack, vgg16 asked for"):
        Finetune(layers=2, epochs=1).fit(stack, stack.y)
    (tmp_path / "cuts" / "vgg-block5_conv2.h5").unlink()
    fitted = Finetune(layers=2, widths=(4,), epochs=1).fit(stack, stack.y)
    other = open_stack(
        extract(str(photo_folder), "vgg16", "random", layer="block5_conv2", size=32, seed=1, out=str(tmp_path / "o.h5"))
    )
    with pytest.raises(Refused, match="weights_sha256"):
        fitted.predict(other)


def test_mistakes_on_the_command_line_are_one_message(stack: Stack, photo_folder: Path, tmp_path: Path) -> None:
    """Too many layers, and a cut of other weights where this stack's belongs: exit 2, and the way on."""
    words = ("classify", "fit", stack.path, "--model", "finetune", "--layers")
    deep = warm.run(*words, "19", cwd=tmp_path)
    expected = "error: --layers 19: vgg16 has 18 layers up to 'block5_pool'; give 1 to that\n"
    assert (deep.returncode, deep.stdout, deep.stderr) == (2, "", expected)
    cut = tmp_path / "cuts" / "vgg-block5_conv2.h5"
    extract(str(photo_folder), "vgg16", "random", layer="block5_conv2", size=32, batch=8, seed=1, out=str(cut))
    other = warm.run(*words, "2", cwd=tmp_path)
    assert (other.returncode, other.stdout) == (2, "") and "Traceback" not in other.stderr
    assert f"{cut} was made from something else:\n  seed: 1 in the stack, 0 asked for\n" in other.stderr
    assert f"Remove {cut}: it is made again from {stack.path}." in other.stderr


class Interrupting(Checkpoint):
    """Is interrupted as soon as the first epoch's weights are kept; test_checkpoint sends real signals."""

    def part(self, name: str) -> Checkpoint:
        return Interrupting(super().part(name).path, self.run)

    def keep(self, trained: Trained, weights: list[np.ndarray], at_once: bool = False) -> None:
        super().keep(trained, weights, at_once)
        if not at_once:
            raise KeyboardInterrupt


def test_interrupted_while_the_head_is_warmed_up(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is fine-tuned yet, so there is no result; the next fit goes on with the head as it was."""
    path, fresh = tmp_path / "best.h5", Finetune(layers=2, widths=(8,), epochs=30)
    with pytest.raises(KeyboardInterrupt):
        fresh.fit(stack, stack.y, checkpoint=Interrupting(path, {}))
    assert not path.exists() and (tmp_path / "best-head.h5").is_file() and not hasattr(fresh, "model_")
    best = int(capsys.readouterr().err.split("kept are the weights of epoch ")[1].split(";")[0])
    checkpoint = Checkpoint(path, {})
    fitted = Finetune(layers=2, widths=(8,), epochs=30).fit(stack, stack.y, checkpoint=checkpoint)
    assert f"going on after epoch {best}, the best of a run that was interrupted" in capsys.readouterr().err
    assert fitted.warmup_.best >= best and fitted.history_["loss"]
    checkpoint.remove()
    assert not list(tmp_path.glob("best*"))


def test_changed_photos_are_refused(photo_folder: Path, tmp_path: Path) -> None:
    """A cut stack is of the parent's very images, or there is none."""
    stack = made(photo_folder, tmp_path / "vgg.h5")
    photo = Path(stack.attrs["dataset_root"]) / stack.paths[0]
    tiny.Image.new("RGB", (40, 40)).save(photo)
    with pytest.raises(Refused, match=f"1 images changed: {stack.paths[0]}"):
        extract_layer(stack, "block5_conv2", stack.path.with_name("cut.h5"))


def test_a_dataset_that_moved(photo_folder: Path, tmp_path: Path) -> None:
    """The message asks where the photos are now, on every network; with `--data` it goes on."""
    stack = made(photo_folder, tmp_path / "vgg.h5")
    words = ("classify", "fit", stack.path, "--layers", 1, "--epochs", 1, "--model")
    now = photo_folder.rename(tmp_path / "moved")
    asked = f"error: the images of {stack.path} are not at {photo_folder}, where they were. "
    asked += "Say where they are now with --data FOLDER (make: DATA=FOLDER)\n"
    lost = warm.run(*words, "finetune", cwd=tmp_path)
    assert lost.returncode == 2 and lost.stderr.endswith(asked) and "Remove" not in lost.stderr
    with pytest.raises(Refused, match="Say where they are now with --data FOLDER"):
        read_pixels(stack)
    wrong = warm.run(*words, "finetune", "--data", "nowhere", cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr) == (2, "error: --data nowhere: there is no such place\n")
    ended = warm.run(*words, "finetune", "--data", now, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr


def test_bare_array_is_refused() -> None:
    """Rows without a stack do not say which backbone lies below them."""
    with pytest.raises(Refused, match="give it a stack"):
        Finetune().fit(np.zeros((4, 3)), np.arange(4) % 2)
