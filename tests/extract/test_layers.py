"""Several layers in one pass: a stack each, complete and gone on with by itself."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny import copies, flip, photos, rows_of
from warm import run

from extract import extract, extract_layers
from features import Refused, open_stack
from features.layout import offsets, partial_path

pytestmark = pytest.mark.slow

SETTINGS = {"backbone": "mobilenetv2", "weights": "random", "size": 32, "batch": 4}
WORDS = ("--backbone", "mobilenetv2", "--weights", "random", "--size", "32", "--batch", "4")
LAYERS = ["block_3_depthwise_relu", "Conv_1", "out_relu"]  # alone, OpenVINO fuses the last two, and rounds otherwise


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos and, in `stacks`, the stacks of three layers, made by the command."""
    folder = tmp_path_factory.mktemp("layers")
    done = run("extract", photos(folder / "photos"), *WORDS, "--layer", *LAYERS, "--out", "stacks", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert [Path(line).name for line in done.stdout.split()] == [
        "photos-mobilenetv2-random-block_3_depthwise_relu-32px.h5",
        "photos-mobilenetv2-random-Conv_1-32px.h5",
        "photos-mobilenetv2-random-32px.h5",
    ]
    assert "18 images read, 18 rows written to each of 3 stacks, 0 images rejected" in done.stderr
    return folder


def stacks(folder: Path) -> dict[str, Path]:
    """Layer → stack."""
    return {open_stack(path).attrs["layer"]: path for path in (folder / "stacks").glob("*.h5")}


def test_each_is_what_it_would_be_alone(made: Path, tmp_path: Path) -> None:
    """Guards which output goes where: rows, shapes and identity are those of a run for one layer, but for last bits."""
    assert sorted(stacks(made)) == sorted(LAYERS)
    for layer, path in stacks(made).items():
        together = open_stack(path)
        alone = open_stack(extract(str(made / "photos"), layer=layer, out=str(tmp_path / f"{layer}.h5"), **SETTINGS))
        assert together.feature_shape == alone.feature_shape
        assert (together.paths, together.key) == (alone.paths, alone.key)
        np.testing.assert_allclose(together.X, alone.X, atol=1e-5 * np.abs(alone.X).max())
        assert json.loads(together.attrs["layers"]) == LAYERS and "layers" not in alone.attrs


def test_one_is_gone_on_with_alone(made: Path, tmp_path: Path) -> None:
    """Guards the last bits: a stack stays with the pass that it was begun in, when it is resumed and when it grows."""
    path = stacks(made)["out_relu"]
    before = rows_of(path)
    partial = path.rename(partial_path(path))
    for row in (3, 11):
        flip(partial, offsets(partial)["features"] + 4 * 1280 * row + 2)
    done = run("extract", made / "photos", *WORDS, "--out", path, cwd=made)
    assert "16 of 18 rows are done" in done.stderr, done.stderr
    assert rows_of(path) == before
    with h5py.File(path) as file:
        assert json.loads(file.attrs["layers"]) == LAYERS


def test_a_killed_pass_is_gone_on_with_together(made: Path, tmp_path: Path) -> None:
    """Guards the time: rows that any of them misses are computed once for all, and written to those that miss them."""
    before = {layer: rows_of(path) for layer, path in stacks(made).items()}
    for i, path in enumerate(stacks(made).values()):
        partial = path.rename(partial_path(path))
        with h5py.File(partial) as file:
            width = file["features"].shape[1]
        for row in range(4 + i, 9):
            flip(partial, offsets(partial)["features"] + 4 * width * row + 2)
    done = run("extract", made / "photos", *WORDS, "--layer", *LAYERS, "--out", "stacks", cwd=made)
    assert "13 of 18 rows are done" in done.stderr and done.stderr.count("images read") == 1, done.stderr
    assert {layer: rows_of(path) for layer, path in stacks(made).items()} == before


def test_a_layer_more_costs_its_own_pass(made: Path) -> None:
    """Guards what is finished: it is left alone, and the new layer is computed by itself."""
    before = {layer: rows_of(path) for layer, path in stacks(made).items()}
    more = [*LAYERS, "block_1_expand_relu"]
    done = run("extract", made / "photos", *WORDS, "--layer", *more, "--out", "stacks", cwd=made)
    assert done.stderr.count("is up to date, nothing to do") == 3, done.stderr
    new = stacks(made).pop("block_1_expand_relu")
    assert "layers" not in open_stack(new).attrs
    assert {layer: rows_of(path) for layer, path in stacks(made).items() if layer in before} == before
    new.unlink()


def test_a_model_predicts_from_its_own_pass(made: Path) -> None:
    """Guards predictions from one layer of several: the bits that the test rows were scored with."""
    path = stacks(made)["Conv_1"]
    fitted = run("classify", "fit", path, "--model", "logreg", cwd=made)
    assert fitted.returncode == 0, fitted.stderr
    folder = made / "classify" / "runs" / path.stem / "logreg"
    scored = {row.split(",")[0]: row.split(",")[-3:] for row in (folder / "predictions.csv").read_text().split()[1:]}
    told = run("classify", "predict", folder, *(f"photos/{name}" for name in scored), cwd=made)
    assert told.returncode == 0, told.stderr
    given = {row.split(",")[0].removeprefix("photos/"): row.split(",")[-3:] for row in told.stdout.split()[1:]}
    assert given == scored


def test_rejects_and_workers(tmp_path: Path) -> None:
    """Guards the rest of the way: an unreadable image leaves each of them; Dask's workers give the same bits."""
    data = photos(tmp_path / "photos", classes=2, each=4)
    (copies(data, "class0/bad.png") / "class0" / "bad.png").write_bytes(b"no image")
    layers = ["scale1", "scale2"]
    settings = {"backbone": "scattering", "size": 16, "batch": 2, "max_bad": 50, "layers": layers}
    here = extract_layers(data=str(data), out=str(tmp_path / "here"), **settings)
    there = extract_layers(data=str(data), out=str(tmp_path / "there"), dask="local:1", **settings)
    for one, other, layer in zip(here, there, layers, strict=True):
        assert open_stack(one).attrs["layer"] == layer
        assert [path for path, *_ in open_stack(one).rejects] == ["class0/bad.png"]
        expected, got = rows_of(one), rows_of(other)
        assert expected.pop("rejects") and got.pop("rejects")  # their texts are elsewhere
        assert got == expected


def test_the_dataset_after_the_layers(made: Path) -> None:
    """Guards an old habit: `--layer NAME DATA` would read the dataset as a layer."""
    done = run("extract", "--layer", "out_relu", "photos", cwd=made)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: photos stands after --layer and is taken for a layer: give the dataset first\n"


def test_bad_layers(made: Path, tmp_path: Path) -> None:
    """Guards the messages: a layer that is not there is named, before anything is begun; twice the same is once."""
    with pytest.raises(Refused, match="mobilenetv2.* has no layer 'out_rel'. Did you mean out_relu"):
        extract_layers(["out_relu", "out_rel"], data=str(made / "photos"), out=str(tmp_path), **SETTINGS)
    assert not list(tmp_path.glob("*.h5*"))
    (only,) = extract_layers(["out_relu", "out_relu"], data=str(made / "photos"), out=str(tmp_path), **SETTINGS)
    assert only == tmp_path / "photos-mobilenetv2-random-32px.h5"
