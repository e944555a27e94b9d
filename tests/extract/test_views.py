import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from tiny import flip, photos

from extract import BACKBONES, extract
from extract.images.views import AUGMENTS, view_of
from extract.layers import extract_layer
from extract.network.base import load_base
from extract.network.importing import import_keras
from features import Refused, info, open_stack, verify
from features.layout import offsets, partial_path

pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {"backbone": "vgg16", "size": 32, "batch": 5, "weights": "random", "layer": "block3_pool"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(photos, stack with two views of each train image)."""
    folder = tmp_path_factory.mktemp("views")
    data = photos(folder / "photos")
    return data, extract(str(data), views=2, out=str(folder / "a.h5"), **SETTINGS)


def test_train_images_have_views_and_test_images_none(made: tuple[Path, Path], tmp_path: Path) -> None:
    """Guards the test rows: the images themselves, in the very split that they have without views."""
    plain = open_stack(extract(str(made[0]), out=str(tmp_path / "plain.h5"), **SETTINGS))
    with h5py.File(made[1], "r") as file:
        paths, view, split = file["paths"].asstr()[:].tolist(), file["view"][:], file["split"][:]
        X, labels = file["features"][:], file["labels"][:]
    expected = [
        (path, v, s)
        for path, s in zip(plain.paths, plain.split.tolist(), strict=True)
        for v in ([0] if s == 2 else [0, 1, 2])
    ]
    assert list(zip(paths, view.tolist(), split.tolist(), strict=True)) == expected
    assert labels.tolist() == [int(path[len("class")]) for path in paths]
    np.testing.assert_allclose(X[view == 0], plain.X, rtol=1e-5, atol=1e-5)
    assert verify(str(made[1]))["images"] == info(str(made[1]))["images"] == 18
    assert open_stack(made[1]).key != plain.key


@pytest.mark.parametrize("augment", list(AUGMENTS))
def test_a_view_can_be_computed_again(made: tuple[Path, Path], tmp_path: Path, augment: str) -> None:
    """Guards views against depending on anything but seed, image and number: each row from plain Pillow and Keras."""
    stack = made[1]
    if augment != "photo":
        stack = extract(str(made[0]), views=1, augment=augment, out=str(tmp_path / "b.h5"), **SETTINGS)
    opened = open_stack(stack)
    keras = import_keras()
    base, _ = load_base(BACKBONES["vgg16"], "random", 32, seed=0)
    at = keras.Model(base.input, base.get_layer("block3_pool").output)
    rows = np.flatnonzero(opened.view)[::5]
    pixels = []
    for row in rows:
        image = Image.open(made[0] / opened.paths[row]).convert("RGB")
        sha256, view = opened.field("sha256")[row], int(opened.view[row])
        pixels.append(view_of(image, 32, augment, 0, sha256, view))
        assert not np.array_equal(pixels[-1], view_of(image, 32, augment, 1, sha256, view))
        assert not np.array_equal(pixels[-1], view_of(image, 32, augment, 0, sha256, view + 1))
    batch = keras.applications.vgg16.preprocess_input(np.array(pixels, "f4"))
    expected = np.asarray(at(batch, training=False)).reshape(len(rows), -1)
    np.testing.assert_allclose(opened.X[rows], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_photo_views_are_gentle(shared: Path) -> None:
    """Guards the default against the sources' darkness: a view has about its photo's brightness and its own content."""
    path = sorted((shared / "data" / "food101-10" / "images" / "baklava").iterdir())[0]
    image = Image.open(path).convert("RGB")
    zero = np.zeros(32, "u1")
    itself = view_of(image, 224, "photo", 0, zero, 0).astype("f8")
    for view in range(1, 20):
        changed = view_of(image, 224, "photo", 0, zero, view)
        assert (changed.shape, changed.dtype) == ((224, 224, 3), np.uint8)
        assert 0.6 < changed.mean() / itself.mean() < 1.5
        assert np.abs(changed - itself).mean() > 2


def test_an_unreadable_image_leaves_with_all_its_views(tmp_path: Path) -> None:
    """Guards rejects: listed once, no view of it in the stack, every other row still beside its image."""
    data = photos(tmp_path / "photos")
    (data / "class1" / "3.jpg").write_bytes(b"<html>")
    stack = open_stack(extract(str(data), views=2, max_bad=10, out=str(tmp_path / "a.h5"), **SETTINGS))
    assert [(path, reason) for path, reason, *_ in stack.rejects] == [
        ("class1/3.jpg", "not an image in any known format")
    ]
    plain = open_stack(extract(str(data), max_bad=10, out=str(tmp_path / "plain.h5"), **SETTINGS))
    assert stack.take(stack.view == 0).paths == plain.paths
    assert stack.take(stack.view == 0).split.tolist() == plain.split.tolist()
    assert verify(str(stack.path))["images"] == 17


def test_a_rerun_does_nothing_and_other_views_are_refused(
    made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards staleness: the number of views, how they are made and their seed belong to the stack."""
    data, stack = made
    extract(str(data), views=2, out=str(stack), **SETTINGS)
    assert "up to date" in capsys.readouterr().err
    for changes, line in (
        ({}, "views: 2 in the stack, none asked for"),
        ({"views": 3}, "views: 2 in the stack, 3 asked for"),
        ({"views": 2, "augment": "sources"}, "augment: photo in the stack, sources asked for"),
        ({"views": 2, "seed": 1}, "seed: 0 in the stack, 1 asked for"),
    ):
        with pytest.raises(Refused, match=line):
            extract(str(data), out=str(stack), **SETTINGS, **changes)
    with pytest.raises(Refused, match="no augmentation is called 'mirror'; there are photo, sources"):
        extract(str(data), views=2, augment="mirror", out=str(stack), **SETTINGS)
    with pytest.raises(Refused, match=r"--views -1: give a number from 0 up"):
        extract(str(data), views=-1, out=str(stack), **SETTINGS)


def test_resume_gives_the_same_views(made: tuple[Path, Path], tmp_path: Path) -> None:
    """Guards resume: a torn row in the middle of an image's views becomes the same bytes again."""
    data = Path(shutil.copytree(made[0], tmp_path / "photos"))
    stack = Path(shutil.copy2(made[1], tmp_path / "a.h5"))
    stack.rename(partial_path(stack))
    width = open_stack(made[1]).X.shape[1]
    flip(partial_path(stack), offsets(partial_path(stack))["features"] + 4 * width * 7)
    extract(str(data), views=2, out=str(stack), **SETTINGS)
    assert np.array_equal(open_stack(stack).X, open_stack(made[1]).X)
    assert open_stack(stack).key == open_stack(made[1]).key


def test_a_second_layer_has_the_same_views(made: tuple[Path, Path], tmp_path: Path) -> None:
    """Guards fine-tuning on views: the cut stack's rows are the same views, in the same order."""
    parent = open_stack(made[1])
    lower = open_stack(extract_layer(parent, "block2_pool", tmp_path / "cut.h5"))
    assert lower.view.tolist() == parent.view.tolist()
    assert lower.paths == parent.paths
    keras = import_keras()
    base, _ = load_base(BACKBONES["vgg16"], "random", 32, seed=0)
    between = keras.Model(base.get_layer("block2_pool").output, base.get_layer("block3_pool").output)
    expected = np.asarray(between(lower.X.reshape(-1, 8, 8, 128), training=False)).reshape(len(parent), -1)
    np.testing.assert_allclose(parent.X, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
