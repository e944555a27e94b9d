"""Shards end to end: one dataset, whatever files its rows are in."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tiny import contents, run, stack

from classify import fit
from classify.fit import open_stacks
from features import Failed, Refused, index, open_stack, pool
from features.shards import EndToEnd, end_to_end


def part(held: dict[str, Any], rows: Any) -> dict[str, Any]:
    """Some rows of the contents of a stack."""
    few = {name: held[name][rows] for name in ("features", "labels", "split", "sha256", "size", "mtime_ns", "view")}
    return held | few | {"paths": list(np.array(held["paths"])[rows])}


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """`whole.h5` of 90 rows and 3 classes, and its rows dealt to three shards; the second lacks a class."""
    held = contents(rows=90, shape=(3, 5, 8), classes=3)
    held["features"] += 2 * np.eye(3)[held["labels"]].repeat(40, axis=1).astype("f4")
    stack(tmp_path / "whole.h5", held)
    row, label = np.arange(90), held["labels"]
    second = (row % 3 == 1) & (label != 1) | (row >= 60) & (label == 0)
    first = ~second & (row < 50)
    made = []
    for i, rows in enumerate((first, second, ~(first | second))):
        mine = part(held, np.flatnonzero(rows))
        there = np.unique(mine["labels"])
        mine["label_names"] = [held["label_names"][label] for label in there]
        mine["labels"] = np.searchsorted(there, mine["labels"])
        made.append(stack(tmp_path / f"{i}.h5", mine))
    return made


def test_they_are_the_whole(shards: list[Path], tmp_path: Path) -> None:
    """Guards rows, labels by their names, splits and paths: the same as those of one stack, in the shards' order."""
    whole, joined = open_stack(tmp_path / "whole.h5"), end_to_end([open_stack(path) for path in shards])
    order = [joined.paths.index(path) for path in whole.paths]
    assert sorted(order) == list(range(90)) and order != list(range(90))
    again = joined.take(np.array(order))
    assert again.paths == whole.paths and again.label_names == whole.label_names
    for name in ("labels", "split", "sha256", "view", "size"):
        np.testing.assert_array_equal(again.field(name), whole.field(name))
    np.testing.assert_array_equal(again.X, whole.X)
    np.testing.assert_array_equal(np.asarray(joined.X)[order], whole.X)
    np.testing.assert_array_equal(np.concatenate(list(again.chunks(2000))), whole.X)
    np.testing.assert_array_equal(again.columns(7, 33), whole.X[:, 7:33])
    np.testing.assert_array_equal(joined.columns(7, 33)[order], whole.X[:, 7:33])
    np.testing.assert_allclose(again.pooled("avg"), whole.pooled("avg"))
    assert len(joined.select("test")) == len(whole.select("test"))
    assert joined.take(np.array([], int)).X.shape == (0, 120)


@pytest.mark.parametrize("model", ["logreg", "linearsvm", "svm", "knn", "xgboost"])
def test_models_are_fitted_to_all_of_them(shards: list[Path], tmp_path: Path, model: str) -> None:
    """Guards one result: as accurate as on the one stack of the same rows, and named by its shards."""
    alone = fit(str(tmp_path / "whole.h5"), model=model, out=str(tmp_path / "alone"))
    joined = fit([str(path) for path in shards], model=model, out=str(tmp_path / "joined"))
    one, other = (json.loads((folder / "result.json").read_text()) for folder in (alone, joined))
    assert abs(one["accuracy"] - other["accuracy"]) < 0.2  # folds are dealt in another order
    assert other["stack"] == " ".join(map(str, shards))


def test_an_index_names_them_for_good(shards: list[Path], tmp_path: Path) -> None:
    """Guards the file that stands for shards: relative paths, the same key, also when all of it is moved."""
    done = run("features", "index", *shards, "--out", tmp_path / "all.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    held = json.loads((tmp_path / "all.json").read_text())
    assert [shard["path"] for shard in held["shards"]] == ["0.h5", "1.h5", "2.h5"]
    named = open_stack(tmp_path / "all.json")
    assert named.key == end_to_end([open_stack(path) for path in shards]).key
    assert named.files == (tmp_path / "all.json",)
    shutil.copytree(tmp_path, tmp_path.with_name(tmp_path.name + "-moved"))
    moved = open_stack(tmp_path.with_name(tmp_path.name + "-moved") / "all.json")
    assert (moved.key, moved.paths) == (named.key, named.paths)
    done = run("features", "verify", "all.json", "--rows-only", cwd=tmp_path)
    assert json.loads(done.stdout)["rows"] == 90, done.stderr
    done = run("features", "compress", "all.json", cwd=tmp_path)
    assert done.stderr == "error: all.json names several stacks: compress each of them\n"
    merged = open_stack(pool(str(tmp_path / "all.json")))
    assert merged.feature_shape == (8,) and merged.paths == named.paths
    folder = fit(str(tmp_path / "all.json"), model="logreg", out=str(tmp_path / "run"))
    assert json.loads((folder / "result.json").read_text())["stack"] == str(tmp_path / "all.json")


def test_bad_indices(shards: list[Path], tmp_path: Path) -> None:
    """Guards what an index may do: name shards beside it that are what they were, and nothing else."""
    made = index([str(path) for path in shards], str(tmp_path / "all.json"))
    held = json.loads(made.read_text())

    def changed(**how: Any) -> Path:
        made.write_text(json.dumps(held | how))
        return made

    for name in ("/etc/passwd", "../0.h5", "x/../../0.h5"):
        with pytest.raises(Refused, match="which is outside its folder; an index names shards in it or below"):
            open_stack(changed(shards=[{"path": name, "key": ""}]))
    with pytest.raises(Failed, match=r"names the shard .*gone\.h5, which is not there. Nothing was fitted"):
        open_stack(changed(shards=[*held["shards"], {"path": "gone.h5", "key": ""}]))
    with pytest.raises(Refused, match=r"0\.h5 is not the shard that .*all\.json names"):
        open_stack(changed(shards=[{"path": "0.h5", "key": "0" * 64}]))
    with pytest.raises(Refused, match="is no index of feature stacks that this program reads"):
        open_stack(changed(format_version=2))
    made.write_text("[]")
    with pytest.raises(Refused, match="is no index of feature stacks"):
        open_stack(made)
    with pytest.raises(Refused, match="lie outside .*: write the index above the shards"):
        (tmp_path / "below").mkdir()
        index([str(shards[0])], str(tmp_path / "below" / "all.json"))
    with open(shards[1], "r+b") as file:
        file.truncate(5000)
    with pytest.raises(Failed, match=r"1\.h5"):
        open_stack(changed())


def test_what_does_not_fit_together(shards: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against mixtures: other recipes and half-overlapping images are refused by name, copies are warned of."""
    held = contents(rows=20, shape=(3, 5, 8), classes=3, seed=5)
    held["paths"] = [f"other/{path}" for path in held["paths"]]
    held["sha256"] = held["sha256"] ^ 1
    other = stack(tmp_path / "other.h5", held, layer="block4_pool")
    with pytest.raises(Refused, match="other.h5: layer is block4_pool, and block5_pool in .*0.h5"):
        open_stacks([str(shards[0]), str(other)])
    with pytest.raises(Refused, match="some of these stacks are of the images of .*whole.h5, and some are not: .*0%"):
        same = stack(tmp_path / "same.h5", held)
        open_stacks([str(tmp_path / "whole.h5"), str(shards[0]), str(same)])
    held["sha256"][:2] = open_stack(shards[0]).field("sha256")[:2]
    held["split"][:2] = 2 - open_stack(shards[0]).split[:2]
    copies = stack(tmp_path / "copies.h5", held)
    assert isinstance(open_stacks([str(shards[0]), str(copies)]), EndToEnd)
    assert "images are in train in one shard and in test in another: class0/é0.png = other/class0/é0.png" in (
        capsys.readouterr().err
    )
    with h5py.File(copies) as file:
        assert file["features"].shape == (20, 120)
