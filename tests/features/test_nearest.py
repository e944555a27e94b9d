"""Nearest rows and near copies, against scikit-learn and against copies that are planted."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors
from tiny import contents, run, stack

from features import Refused, find, index
from features.nearest import SAME, copy_groups, copy_threshold, nearest, nearest_of_all, unit_rows

ROWS = unit_rows(np.random.default_rng(0).standard_normal((300, 20)).astype("f4"))


@pytest.mark.parametrize("size", [7, 100, 300])
def test_pieces_give_what_the_whole_gives(size: int) -> None:
    """Guards the merge of pieces: the same neighbours in the same order, whatever the pieces are."""
    queries = unit_rows(np.random.default_rng(1).standard_normal((9, 20)).astype("f4"))
    found = nearest((ROWS[at : at + size] for at in range(0, 300, size)), queries, 5)
    model = NearestNeighbors(n_neighbors=5, metric="cosine", algorithm="brute").fit(ROWS)
    distances, rows = model.kneighbors(queries)
    assert np.array_equal(found.rows, rows)
    assert np.allclose(found.cosines, 1 - distances, atol=1e-6)


def test_few_rows_and_a_row_itself() -> None:
    """Guards the ends: fewer rows than asked for, and no row among its own neighbours, copies aside."""
    found = nearest_of_all(np.concatenate([ROWS[:3], ROWS[:1]]), 6)
    assert found.rows[0, 0] == 3 and found.rows[3, 0] == 0 and (found.rows != np.arange(4)[:, None]).all()
    assert (found.rows[:, 3:] == -1).all() and (found.cosines[:, 3:] == -2).all()


def test_planted_copies_are_found() -> None:
    """Guards the threshold: all copies are above it and few others, and chains of copies are one group."""
    random = np.random.default_rng(2)
    rows = random.standard_normal((300, 4)) @ random.standard_normal((4, 100)) + 0.7 * random.standard_normal(
        (300, 100)
    )
    rows = unit_rows(np.maximum(rows, 0).astype("f4"))  # few dimensions and many zeros, as features have
    near = unit_rows(rows[:20] + 0.01 * random.standard_normal((20, 100)).astype("f4"))
    nearer = unit_rows(near[:5] + 0.01 * random.standard_normal((5, 100)).astype("f4"))
    found = nearest_of_all(np.concatenate([rows, near, nearer]), 10)
    groups = copy_groups(found, copy_threshold(found.cosines[:, 0]))
    wanted = [{i, 300 + i, *([320 + i] if i < 5 else [])} for i in range(20)]
    assert all(any(copies <= set(group.tolist()) for group in groups) for copies in wanted)
    assert len(groups) <= 22
    alone = nearest_of_all(rows, 10)
    assert len(copy_groups(alone, copy_threshold(alone.cosines[:, 0]))) <= 2
    few = nearest_of_all(np.concatenate([ROWS[:4], ROWS[:1]]), 3)
    assert [group.tolist() for group in copy_groups(few, copy_threshold(few.cosines[:, 0]))] == [[0, 4]]
    assert copy_threshold(few.cosines[:, 0]) == SAME


def test_find(tmp_path: Path) -> None:
    """Guards the command: a row by number or path, views left out, nearest by the pooled rows' cosine."""
    held = contents(40)
    held["view"][11] = 1
    path = stack(tmp_path / "a.h5", held)
    pooled = unit_rows(held["features"].reshape(40, -1, 4).mean(axis=1))
    cosines = pooled @ pooled[5]
    cosines[[5, 11]] = -2
    best = np.argsort(-cosines)[:3]
    [found] = find(str(path), ["5"], k=3)
    assert (found["path"], [each["row"] for each in found["nearest"]]) == (held["paths"][5], best.tolist())
    assert np.allclose([each["cosine"] for each in found["nearest"]], cosines[best], atol=1e-5)
    assert find(str(path), [held["paths"][5]], k=3)[0]["nearest"] == found["nearest"]
    done = run("features", "find", path, "5", held["paths"][6], "-k", 1, cwd=tmp_path)
    assert done.stdout.startswith(f"5 = {held['paths'][5]}\n") and done.stdout.count("\n") == 5
    for photo, told in (
        ("11", "row 11: .* has rows 0 to 39, views left out"),
        ("a/1.jpg", "paths are like class0/é0.png"),
    ):
        with pytest.raises(Refused, match=told):
            find(str(path), [photo])
    with pytest.raises(Refused, match="no pooling is called 'sum'"):
        find(str(path), ["5"], pool="sum")


@pytest.mark.slow
def test_find_a_new_photo(digits_stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards new photos: the bytes of an image in the stack are that image, others pass through stage one."""
    from PIL import Image

    monkeypatch.chdir(digits_stack.parents[2])
    [own] = find(str(digits_stack), ["data/digits/7/0007.png"], k=2)
    assert own["path"] == "7/0007.png" and "7/0007.png" not in [each["path"] for each in own["nearest"]]
    Image.open("data/digits/7/0007.png").save("again.bmp")
    [new] = find(str(digits_stack), ["again.bmp"], k=2)
    assert new["path"] is None and new["nearest"][0]["path"] == "7/0007.png" and new["nearest"][0]["cosine"] > 0.9999
    Path("text.jpg").write_text("no image")
    done = run("features", "find", digits_stack, "again.bmp", "text.jpg", cwd=Path.cwd())
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "error: text.jpg: not an image in any known format")


def clouds(rows: int, seed: int = 0) -> dict[str, Any]:
    """Rows of few dimensions, as features have."""
    random, held = np.random.default_rng(seed), contents(rows, (2, 2, 48))
    low = random.standard_normal((rows, 6)) @ np.random.default_rng(9).standard_normal((6, 192))
    held["features"] = np.maximum(low + 0.5 * random.standard_normal((rows, 192)), 0).astype("f4")
    return held


def test_the_index_finds_what_brute_force_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards the index: recall of at least 0.99 and exact cosines; it follows images that come and go."""
    pytest.importorskip("usearch")
    held = clouds(2000)
    path = stack(tmp_path / "a.h5", held)
    asked = [str(row) for row in range(0, 2000, 25)]
    exact = find(str(path), asked)
    quick = find(str(path), asked, index=True)
    assert "2,000 images added, 0 removed" in capsys.readouterr().err
    assert recall(exact, quick) >= 0.99
    cosine = {(i, each["row"]): each["cosine"] for i, one in enumerate(exact) for each in one["nearest"]}
    both = [
        (cosine[i, each["row"]], each["cosine"])
        for i, one in enumerate(quick)
        for each in one["nearest"]
        if (i, each["row"]) in cosine
    ]
    assert np.allclose(*zip(*both, strict=True), atol=1e-5)
    grown = clouds(2000)
    for name in ("features", "sha256"):
        grown[name][:20] = clouds(2020, seed=1)[name][-20:]  # twenty other images in place of the first
    stack(path, grown)
    exact = find(str(path), asked)
    assert "is of other images or another pooling: every row is read" in capsys.readouterr().err
    assert recall(exact, find(str(path), asked, index=True)) >= 0.99
    assert "20 images added, 20 removed" in capsys.readouterr().err
    assert recall(exact, find(str(path), asked)) >= 0.99


def recall(exact: list[dict[str, Any]], quick: list[dict[str, Any]]) -> float:
    """The mean share of the nearest that were found."""
    found = [
        ({each["row"] for each in a["nearest"]}, {each["row"] for each in b["nearest"]})
        for a, b in zip(exact, quick, strict=True)
    ]
    return float(np.mean([len(a & b) / len(a) for a, b in found]))


def test_an_index_without_usearch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the message: what to install."""
    path = stack(tmp_path / "a.h5", contents(20))
    monkeypatch.setitem(sys.modules, "usearch", None)
    with pytest.raises(Refused, match=r"an index needs usearch: pip install -e '\.\[near\]'"):
        find(str(path), ["0"], index=True)
    assert find(str(path), ["0"])


def test_find_over_shards(tmp_path: Path) -> None:
    """Guards shards: end to end they answer as one stack of all their images does, by the index too."""
    held = clouds(300)
    whole = find(str(stack(tmp_path / "whole.h5", held)), [held["paths"][7]], k=5)
    for part, rows in (("a", slice(0, 120)), ("b", slice(120, 300))):
        some = {name: values[rows] for name, values in held.items() if name not in ("label_names", "shape")}
        stack(tmp_path / f"{part}.h5", held | some)
    shards = index([str(tmp_path / "a.h5"), str(tmp_path / "b.h5")], str(tmp_path / "shards.json"))
    assert find(str(shards), [held["paths"][7]], k=5) == whole
    pytest.importorskip("usearch")
    assert find(str(shards), [held["paths"][7]], k=5, index=True) == whole
