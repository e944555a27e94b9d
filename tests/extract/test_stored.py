"""What is stored of a row: pooled or all of it, as float32 or as float16."""

import csv
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tiny import contents, flip, photos, rows_of, stack
from warm import run

from extract import extract
from extract.backbones import backbone_named
from extract.compute.local import Compiled, Compute
from extract.compute.rebuild import NOWHERE
from extract.recipe import Recipe
from extract.stack import passes
from extract.stack.job import Job
from features import Refused, open_stack, pool, verify
from features.layout import offsets, partial_path

SETTINGS: dict[str, Any] = {"backbone": "scattering", "size": 16, "batch": 2, "layer": "scale1"}
WORDS = ("--backbone", "scattering", "--size", "16", "--batch", "2", "--layer", "scale1")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, their flattened stack `flat.h5`, and the same pooled as float16, `half.h5`."""
    folder = tmp_path_factory.mktemp("stored")
    data = str(photos(folder / "photos", each=8))
    extract(data, out=str(folder / "flat.h5"), **SETTINGS)
    extract(data, out=str(folder / "half.h5"), pool="avg", store="f16", **SETTINGS)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("store", ["f32", "f16"])
@pytest.mark.parametrize("how", ["avg", "max"])
def test_pooled_at_extraction_or_later(here: Path, tmp_path: Path, how: str, store: str) -> None:
    """Guards one meaning of pooling: `extract --pool`, `features pool` and NumPy give the same rows, under one key."""
    flat = open_stack(here / "flat.h5")
    first = open_stack(extract(str(here / "photos"), out=str(tmp_path / "a.h5"), pool=how, store=store, **SETTINGS))
    later = open_stack(pool(str(here / "flat.h5"), how, store, str(tmp_path / "b.h5")))
    maps = flat.X.reshape(len(flat), -1, flat.feature_shape[-1])
    expected = (maps.mean(axis=1) if how == "avg" else maps.max(axis=1)).astype("<f2" if store == "f16" else "<f4")
    for made in (first, later):
        assert (made.feature_shape, made.X.dtype) == (flat.feature_shape[-1:], expected.dtype)
        assert isinstance(made.X, np.memmap)
        np.testing.assert_array_equal(made.X, expected)
        np.testing.assert_array_equal(made.pooled(how), expected.astype("f4"))
        assert (made.paths, made.split.tolist()) == (flat.paths, flat.split.tolist())
        assert verify(str(made.path))["rows"] == len(flat)
        other = "max" if how == "avg" else "avg"
        with pytest.raises(Refused, match=rf"holds rows that are pooled \({how}\) already: use --pool flatten"):
            made.pooled(other)
    assert first.key == later.key != flat.key
    assert later.attrs["command"].startswith(f"{flat.attrs['command']} --pool {how}")


@pytest.mark.slow
def test_a_derived_stack_grows_as_an_extracted_one(here: Path, tmp_path: Path) -> None:
    """Guards the recorded command: it finds the pooled stack up to date, and adds to it."""
    data = photos(tmp_path / "photos", classes=2, each=4)
    extract(str(data), out=str(tmp_path / "flat.h5"), **SETTINGS)
    made = open_stack(pool(str(tmp_path / "flat.h5"), out=str(tmp_path / "p.h5")))
    command = made.attrs["command"].split()[2:]
    assert run(*command, cwd=tmp_path).stderr.endswith("is up to date, nothing to do\n")
    photos(data, classes=1, each=5)
    assert "1 images added" in run(*command, cwd=tmp_path).stderr
    assert open_stack(tmp_path / "p.h5").feature_shape == made.feature_shape
    with pytest.raises(Refused, match="pool: none in the stack|pool: .*avg in the stack"):
        extract(str(data), out=str(tmp_path / "p.h5"), **SETTINGS)


@pytest.mark.slow
def test_a_killed_run_of_half_rows_goes_on(here: Path) -> None:
    """Guards checksums and offsets of two-byte rows: the damaged ones are computed again, to the same bits."""
    path = here / "half.h5"
    before = rows_of(path)
    partial = path.rename(partial_path(path))
    with h5py.File(partial) as file:
        width = file["features"].shape[1]
    for row in (2, 9):
        flip(partial, offsets(partial)["features"] + 2 * width * row + 1)
    done = run("extract", here / "photos", *WORDS, "--pool", "avg", "--store", "f16", "--out", path, cwd=here)
    assert "22 of 24 rows are done" in done.stderr, done.stderr
    assert rows_of(path) == before


@pytest.mark.slow
@pytest.mark.parametrize("model", ["logreg", "linearsvm", "svm", "knn", "xgboost", "dense"])
def test_models_take_them_and_predict_the_same(here: Path, model: str) -> None:
    """Guards every model on pooled float16 rows: new images are pooled and rounded alike, to the last bit."""
    fitted = run("classify", "fit", here / "half.h5", "--model", model, "--epochs", "2", cwd=here)
    if model != "dense":
        fitted = run("classify", "fit", here / "half.h5", "--model", model, cwd=here)
    assert fitted.returncode == 0, fitted.stderr
    folder = here / "classify" / "runs" / "half" / model
    with open(folder / "predictions.csv") as file:
        scored = {row["path"]: row for row in csv.DictReader(file)}
    told = run("classify", "predict", folder, *(here / "photos" / path for path in scored), cwd=here)
    assert told.returncode == 0, told.stderr
    for row in csv.DictReader(told.stdout.splitlines()):
        expected = scored[str(Path(row["path"]).relative_to(here / "photos"))]
        names = open_stack(here / "half.h5").label_names
        assert [row[name] for name in names] == [expected[name] for name in names]


def recipe(**how: Any) -> Recipe:
    return Recipe(NOWHERE, backbone_named("vgg16"), "random", "block5_pool", 224, 0, **how)


def test_numbers_that_float16_cannot_hold() -> None:
    """Guards rows by name: too large, or so small that float16 makes zeros of them; others are rounded."""
    rows = np.array([[1, 1 / 3], [70_000, 1], [1e-9, 2e-9], [np.nan, 1], [0, 0]], "f4")
    stored, bad = recipe(store="f16").stored(rows)
    assert {i: why.split(":")[0] for i, why in bad.items()} == {
        1: "its features hold numbers above 65,504, which float16 cannot",
        2: "its features are so small that float16 would lose more than a thousandth of them",
        3: "its features are not finite (NaN or infinity)",
    }
    np.testing.assert_array_equal(stored[[0, 4]], rows[[0, 4]].astype("f2").astype("f4"))
    same, bad = recipe().stored(rows)
    assert same is rows and list(bad) == [3]


@pytest.mark.slow
def test_a_network_of_tiny_numbers(tmp_path: Path) -> None:
    """Guards against stacks of zeros: random MobileNetV2 is refused as float16, with the reason."""
    data = photos(tmp_path / "photos", classes=2, each=2)
    words = ("--backbone", "mobilenetv2", "--weights", "random", "--size", "64", "--store", "f16", "--out", "a.h5")
    done = run("extract", data, *words, cwd=tmp_path)
    assert done.returncode == 1
    assert "not one of the 4 images could be read; the first: class0/0.png: its features are so small" in done.stderr


def test_the_disk_that_is_needed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards whoever has a million photos: what it takes, and cheaper choices where the disk is nearly too small."""
    compiled = Compiled("cpu", "openvino", "", 4, "0" * 64, [(7, 7, 2048)])
    jobs = [Job(tmp_path / "a.h5", recipe(), Compute(), "")]
    assert passes.disk_needed(jobs, 10, compiled) == "10 rows of 100,352 numbers: 4.0 MB on the disk"
    monkeypatch.setattr(passes.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 500 * 10**9}))
    assert passes.disk_needed(jobs, 1_000_000, compiled) == (
        "1,000,000 rows of 100,352 numbers: 401.4 GB on the disk, where 500.0 GB are free. --pool avg takes 8.2 GB; "
        "--store f16 takes 200.7 GB; --pool avg --store f16 takes 4.1 GB"
    )
    pooled = compiled._replace(feature_shapes=[(2048,)])
    assert "free" not in passes.disk_needed(jobs, 1_000_000, pooled)


def test_bad_pooling(tmp_path: Path) -> None:
    """Guards the messages of `features pool`."""
    path = stack(tmp_path / "a.h5", contents(rows=6))
    flat = stack(tmp_path / "flat.h5", contents(rows=6, shape=(24,)))
    with pytest.raises(Refused, match="no pooling is called 'mean'; there are avg, max, cls"):
        pool(str(path), "mean")
    with pytest.raises(Refused, match="no type of stored rows is called 'f8'; there are f32, f16"):
        pool(str(path), store="f8")
    with pytest.raises(Refused, match="which is flat already: use --pool flatten"):
        pool(str(flat))
    with pytest.raises(Refused, match="pooled rows cannot be undone, which .*a.h5 would lose for good"):
        pool(str(path), out=str(path))
    made = pool(str(path), store="f16")
    assert made == tmp_path / "a-avg-f16rows.h5"
    with pytest.raises(Refused, match=r"holds rows that are pooled \(avg\) already"):
        pool(str(made))
