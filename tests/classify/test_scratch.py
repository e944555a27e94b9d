"""The from-scratch network: the sources' architecture to the last parameter, and pixels as they lie on disk."""

import hashlib
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tiny

from classify.networks import scratch
from classify.networks.scratch import Scratch, cnn, read_pixels
from classify.saved import load_model, save_model
from extract.images.views import rotate_and_darken
from features import Failed, Refused, Stack, open_stack
from features.source import File, Source


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """12 rows that name real photos: dark and bright ones, one class each."""
    random = np.random.default_rng(0)
    held = tiny.contents(rows=12)
    for path, label in zip(held["paths"], held["labels"], strict=True):
        file = tmp_path / "photos" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        tiny.Image.fromarray(random.integers(200 * label, 40 + 200 * label, (20, 30, 3), "u1")).save(file)
    photos = [(tmp_path / "photos" / path).read_bytes() for path in held["paths"]]
    held["sha256"] = np.array([np.frombuffer(hashlib.sha256(photo).digest(), "u1") for photo in photos])
    return open_stack(tiny.stack(tmp_path / "s.h5", held, dataset_root=str(tmp_path / "photos")))


def test_a_photo_that_changed_since_is_refused(stack: Stack, tmp_path: Path) -> None:
    """Pixels of another photo under a row's label would be learned in silence."""
    tiny.flip(tmp_path / "photos" / stack.paths[3], 60)
    with pytest.raises(Failed, match="cannot be read: it changed since the stack was made"):
        read_pixels(stack)


@pytest.mark.slow
def test_architecture_is_the_sources() -> None:
    """Layer shapes and parameter counts are the published ones, 10,588,458 in all at ten classes."""
    net = cnn(10)
    assert net.count_params() == 10_588_458
    found = [(layer.output.shape[1:], layer.count_params()) for layer in net.layers if layer.count_params()]
    assert found == [
        ((128, 128, 32), 896),
        ((126, 126, 32), 9_248),
        ((63, 63, 64), 18_496),
        ((61, 61, 64), 36_928),
        ((30, 30, 128), 73_856),
        ((28, 28, 128), 147_584),
        ((14, 14, 512), 1_638_912),
        ((10, 10, 512), 6_554_112),
        ((1024,), 2_098_176),
        ((10,), 10_250),
    ]
    pools = [layer.output.shape[1:3] for layer in net.layers if layer.name.startswith("max_pooling")]
    assert pools == [(63, 63), (30, 30), (14, 14), (2, 2)]


@pytest.mark.slow
def test_fits_photos_and_survives_saving(stack: Stack, tmp_path: Path) -> None:
    """One epoch on photos runs, and the saved network gives the same probabilities."""
    train = stack.select("train")
    fitted = Scratch(epochs=1).fit(train, train.y)
    assert len(fitted.history_["loss"]) == 1
    save_model(fitted, tmp_path / "model", {"model": "scratch", "seed": 0})
    loaded, _ = load_model(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(stack), fitted.predict_proba(stack))


def test_pixels_are_the_photos_of_the_rows(stack: Stack) -> None:
    """Row for row the right photo, whole, as uint8."""
    pixels = read_pixels(stack)
    assert pixels.shape == (12, 128, 128, 3) and pixels.dtype == np.uint8
    assert np.array_equal(pixels.mean((1, 2, 3)) > 128, stack.y == 1)


def test_photos_are_read_by_as_many_threads_as_there_are_cores(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a container's quota: `ThreadPoolExecutor` by itself counts the cores of the whole machine."""
    seen, read = set(), Source.read

    def noted(source: Source, path: str) -> File:
        seen.add(threading.get_ident())
        time.sleep(0.005)
        return read(source, path)

    monkeypatch.setattr(Source, "read", noted)
    monkeypatch.setattr(scratch, "cores", lambda: 1, raising=False)
    read_pixels(stack)
    assert len(seen) == 1


def test_missing_photo_and_bare_array_are_said(stack: Stack) -> None:
    """A photo that has gone is named; an array has no photos to go to."""
    gone = Path(stack.attrs["dataset_root"]) / stack.paths[3]
    gone.unlink()
    with pytest.raises(Failed, match=stack.paths[3]):
        read_pixels(stack)
    with pytest.raises(Refused, match="give it a stack"):
        Scratch(epochs=1).fit(np.zeros((4, 3)), np.arange(4) % 2)


def test_augmentation_darkens_and_repeats_with_its_seed() -> None:
    """Brightness falls to 0.1–0.7 everywhere, uncovered borders included, and a seed gives it again."""
    white = np.full((32, 32, 3), 255, "u1")
    for seed in range(20):
        changed = rotate_and_darken(white, np.random.default_rng(seed))
        assert changed.min() == changed.max() and 25 <= changed.min() <= 179
        np.testing.assert_array_equal(changed, rotate_and_darken(white, np.random.default_rng(seed)))
