"""Near copies: grouped, never divided, and left out of train where their twin is in test."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from tiny import contents, stack

from classify.folds import folds, sides, source_groups
from extract import extract
from features import Refused, compress, info, open_stack, pool, verify
from features.schema import as_one
from features.shards import end_to_end

SETTINGS: dict[str, Any] = {"backbone": "scattering", "size": 32, "max_bad": 100}


@pytest.fixture(scope="module")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 smooth images in two classes; a recompressed copy of each of the first six."""
    root, random = tmp_path_factory.mktemp("near") / "photos", np.random.default_rng(0)
    for i in range(60):
        folder = root / f"class{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(random.integers(0, 256, (5, 5, 3), "u1")).resize((80, 80), Image.Resampling.BICUBIC)
        image.save(folder / f"{i:02}.png")
        if i < 6:
            image.save(folder / f"{i:02}-copy.jpg", quality=60)
    return root


def split_of(path: Path) -> dict[str, int]:
    made = open_stack(path)
    return dict(zip(made.paths, made.split.tolist(), strict=True))


@pytest.mark.slow
def test_no_split_divides_near_copies(textures: Path, tmp_path: Path) -> None:
    """Guards the seeded split, the folds and the rerun; a stack without groups is refused, and so is the reverse."""
    path = extract(str(textures), no_leakage="near", out=str(tmp_path / "a.h5"), **SETTINGS)
    made, splits = open_stack(path), split_of(path)
    assert made.copies is not None and (made.copies >= 0).sum() >= 12 and len(made) == 66
    twins = [(f"class{i % 2}/{i:02}.png", f"class{i % 2}/{i:02}-copy.jpg") for i in range(6)]
    assert all(splits[a] == splits[b] for a, b in twins)
    groups = dict(zip(made.paths, source_groups(made).tolist(), strict=True))
    assert all(groups[a] == groups[b] for a, b in twins)
    for train, held in [*folds(made, made.y), sides(made, made.y, 0)]:
        assert not set(source_groups(made)[train]) & set(source_groups(made)[held])
    before = path.stat().st_mtime_ns
    assert extract(str(textures), no_leakage="near", out=str(path), **SETTINGS).stat().st_mtime_ns == before
    with pytest.raises(Refused, match="near copies: grouped in the stack, not asked for"):
        extract(str(textures), out=str(path), **SETTINGS)
    plain = extract(str(textures), out=str(tmp_path / "plain.h5"), **SETTINGS)
    assert open_stack(plain).copies is None and "copies" not in info(str(plain))
    with pytest.raises(Refused, match="near copies: not grouped in the stack, asked for"):
        extract(str(textures), no_leakage="near", out=str(plain), **SETTINGS)
    for other in (compress(str(path), str(tmp_path / "c.h5")), pool(str(path), "avg")):
        assert np.array_equal(open_stack(other).copies, made.copies)
    verify(str(path))


@pytest.mark.slow
def test_near_copies_of_test_images_are_left_out(textures: Path, tmp_path: Path) -> None:
    """Guards a dataset's own split: train images that nearly are in test leave it, with the reason, copies first."""
    root = tmp_path / "photos"
    for i in range(60):
        source = textures / f"class{i % 2}" / f"{i:02}.png"
        place = root / ("test" if i < 20 else "train") / f"class{i % 2}" / source.name
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, place)
    for i in range(4):
        os.link(textures / f"class{i % 2}" / f"{i:02}-copy.jpg", root / "train" / f"class{i % 2}" / f"{i:02}.jpg")
    os.link(textures / "class0" / "04.png", root / "train" / "class0" / "same.png")
    path = extract(str(root), no_leakage="near", out=str(tmp_path / "a.h5"), **SETTINGS)
    reasons = {reject[0]: reject[1] for reject in open_stack(path).rejects}
    assert reasons["train/class0/same.png"] == "the same image is in test: test/class0/04.png"
    assert reasons["train/class1/01.jpg"] == "nearly the same image is in test: test/class1/01.png"
    assert {"train/class0/00.jpg", "train/class0/02.jpg", "train/class1/03.jpg"} < set(reasons)
    before = path.stat().st_mtime_ns
    assert extract(str(root), no_leakage="near", out=str(path), **SETTINGS).stat().st_mtime_ns == before


@pytest.mark.slow
def test_mirrored_photos_are_near(shared: Path, tmp_path: Path) -> None:
    """Guards the promise on real photos and real weights: mirrored ones are found among 60."""
    weights = shared / "weights" / "mobilenet_v2_imagenet_int8.weights.h5"
    for label in ("apple_pie", "bibimbap"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i, photo in enumerate(sorted((shared / "data" / "food101-10" / "images" / label).iterdir())[:30]):
            (tmp_path / "photos" / label / photo.name).symlink_to(photo)
            if i < 2:
                ImageOps.mirror(Image.open(photo)).save(tmp_path / "photos" / label / f"{photo.stem}-mirrored.jpg")
    made = open_stack(
        extract(str(tmp_path / "photos"), "mobilenetv2", str(weights), no_leakage="near", out=str(tmp_path / "a.h5"))
    )
    assert made.copies is not None
    grouped = [path for path, group in zip(made.paths, made.copies, strict=True) if group >= 0]
    assert len(grouped) == 8 and sum("mirrored" in path for path in grouped) == 4


def test_identity(tmp_path: Path) -> None:
    """Guards what may not be divided: the first copy's bytes stand for all, in any part of a stack, and over shards."""
    sha256 = np.arange(5 * 32, dtype="u1").reshape(5, 32)
    assert as_one(sha256, np.array([-1, 3, 0, 3, 0]))[:, 0].tolist() == [0, 32, 64, 32, 64]
    held = contents(20) | {"copies": np.array([7, 7, *[-1] * 18], "i4")}
    whole = open_stack(stack(tmp_path / "a.h5", held))
    one = whole.identity
    assert (one[0] == one[1]).all() and (one[1] != one[2]).any()
    assert np.array_equal(whole.take(np.array([1, 5])).identity, one[[1, 5]])
    other = contents(20, seed=1)
    other["paths"] = [f"other/{path}" for path in other["paths"]]
    other["sha256"] = other["sha256"][:, ::-1].copy()
    shards = end_to_end([whole, open_stack(stack(tmp_path / "b.h5", other))])
    assert np.array_equal(shards.identity[:20], one) and len(np.unique(shards.identity, axis=0)) == 39
