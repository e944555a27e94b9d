"""Rows of the same images are matched; stacks of other images, labels, views or splits are refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import contents, stack

from classify import compare
from classify.across.alignment import aligned
from features import Refused, open_stack


def held(**changes: Any) -> dict[str, Any]:
    return contents(rows=40, shape=(2, 2, 4), classes=4) | {"labels": np.arange(40) // 10} | changes


def rejecting(path: Path, rows: tuple[int, ...], **attrs: Any) -> Path:
    """A stack that could not read some images, which stage one leaves out of the finished file."""
    all_rows = held()
    kept = np.setdiff1d(np.arange(40), rows)
    some = {
        name: [value[i] for i in kept] if isinstance(value, list) else value[kept]
        for name, value in all_rows.items()
        if name not in ("label_names", "shape")
    } | {"label_names": all_rows["label_names"], "shape": all_rows["shape"]}
    made = stack(path, some, **attrs)
    import h5py

    with h5py.File(made, "a") as file:
        table = np.array([(all_rows["paths"][i].encode(), b"broken", 1, 1) for i in rows], _reject_type())
        if "rejects" in file:
            del file["rejects"]
        file.create_dataset("rejects", data=table)
    return made


def _reject_type() -> np.dtype:
    return np.dtype([("path", "S60"), ("reason", "S60"), ("size", "i8"), ("mtime_ns", "i8")])


def test_rows_are_matched_whatever_their_order(tmp_path: Path) -> None:
    """And each keeps its own features."""
    one = held()
    order = np.random.default_rng(0).permutation(40)
    two = {
        name: [value[i] for i in order]
        if name == "paths"
        else value
        if name in ("label_names", "shape")
        else value[order]
        for name, value in one.items()
    }
    first = open_stack(stack(tmp_path / "a.h5", one))
    second = open_stack(stack(tmp_path / "b.h5", two, layer="block4_pool"))
    found = aligned([first, second])
    assert found.stacks[0].paths == found.stacks[1].paths == one["paths"]
    assert np.array_equal(found.stacks[1].X, one["features"]) and found.left_out == []


def test_an_image_that_one_rejects_is_left_out_of_all_and_counted(tmp_path: Path) -> None:
    first = open_stack(stack(tmp_path / "a.h5", held()))
    second = open_stack(rejecting(tmp_path / "b.h5", (3, 17), layer="block4_pool"))
    found = aligned([first, second])
    paths = held()["paths"]
    assert found.left_out == sorted([paths[3], paths[17]])
    assert [len(each) for each in found.stacks] == [38, 38]
    assert found.stacks[0].paths == found.stacks[1].paths == [p for i, p in enumerate(paths) if i not in (3, 17)]


def renamed(names: list[str]) -> list[str]:
    return [name.replace("class", "kind") for name in names]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.arange(40) // 20}, "has another label than .*a.h5 for 30 images"),
        ({"labels": np.r_[[-1] * 2, np.arange(2, 40) // 10]}, "another label than .*a.h5 for 2 images"),
        ({"split": np.zeros(40, "u1")}, "another split than .*a.h5 for 10 images.*--split-seed 0 or --repeats 10"),
        ({"label_names": ["a", "b", "c", "d"]}, "other classes than .*a.h5"),
        ({"sha256": np.roll(held()["sha256"], 1, axis=0)}, "is not the same file in all stacks"),
        ({"group": [f"g{i}" for i in range(40)]}, "other groups than"),
        ({"view": np.r_[np.zeros(38, "i4"), 1, 1]}, "view .* --views 0"),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    one = str(stack(tmp_path / "a.h5", held()))
    two = str(stack(tmp_path / "b.h5", held(**changes), layer="block4_pool"))
    with pytest.raises(Refused, match=message):
        compare([one, two], ["knn"], out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_image_that_is_missing_and_was_not_rejected(tmp_path: Path) -> None:
    """The message names the image, both stacks, and the command that made the one that lacks it."""
    one = str(stack(tmp_path / "a.h5", held()))
    fewer = {name: value if name in ("label_names", "shape") else value[:-1] for name, value in held().items()}
    two = str(stack(tmp_path / "b.h5", fewer, layer="block4_pool"))
    with pytest.raises(
        Refused, match=r"é39.png is in .*a.h5, but .*b.h5 neither holds it nor rejected it.*python -m extract"
    ):
        compare([one, two], ["knn"])


def test_stacks_of_other_images_shards_and_one_given_twice(tmp_path: Path) -> None:
    one = str(stack(tmp_path / "a.h5", held()))
    other = held(sha256=held()["sha256"][:, ::-1].copy(), paths=[f"x{p}" for p in held()["paths"]])
    two = str(stack(tmp_path / "b.h5", other, layer="block4_pool"))
    with pytest.raises(Refused, match="shards of one dataset must be of one recipe:\n.*layer is block4_pool"):
        compare([one, two], ["knn"])
    shard = str(stack(tmp_path / "c.h5", other))
    three = str(stack(tmp_path / "d.h5", held(), layer="block4_pool"))
    with pytest.raises(Refused, match=r"(?s)in a.h5|neither|some are not"):
        compare([one, three, shard], ["knn"])
    with pytest.raises(Refused, match="a.h5 is given twice"):
        compare([one, one], ["knn"])
    copy = tmp_path / "copy.h5"
    copy.write_bytes(Path(one).read_bytes())
    with pytest.raises(Refused, match="hold the same features of the same images: name one"):
        compare([one, str(copy)], ["knn"])


def test_what_a_comparison_of_stacks_does_not_take(tmp_path: Path) -> None:
    one = str(stack(tmp_path / "a.h5", held()))
    two = str(stack(tmp_path / "b.h5", held(), layer="block4_pool"))
    for how, message in [
        ({"models": ["scratch"]}, "scratch learns from pixels"),
        ({"pool": ["mean"]}, "no pooling is called 'mean'"),
        ({"pool": ["avg", "avg"]}, "a pooling is given twice"),
        ({"pool": ["cls"]}, "no class token"),
        ({"repeats": 0}, "repeats"),
        ({"views": 2}, "--views 2: .*a.h5 has no views"),
        ({"fuse": True, "repeats": 2}, "--fuse makes one stack of several"),
        ({"dask": "local:2"}, "--dask goes with one stack"),
        ({"search": "coarse"}, "no search is called 'coarse'"),
    ]:
        with pytest.raises(Refused, match=message):
            compare([one, two], **{"models": ["knn"], **how})
    with pytest.raises(Refused, match="--fuse puts several stacks"):
        compare([one], ["knn"], fuse=True)


def test_a_class_with_too_few_images_for_other_splits(tmp_path: Path) -> None:
    labels = np.array([0, 1, 2] * 13 + [3])
    one = str(stack(tmp_path / "a.h5", held(labels=labels)))
    with pytest.raises(Refused, match=r"every class needs 3 images.*class3 \(1\).*--repeats"):
        compare([one], ["knn"], repeats=5)
    split = np.where(labels == 3, 2, held()["split"]).astype("u1")
    two = str(stack(tmp_path / "b.h5", held(labels=labels, split=split)))
    with pytest.raises(Refused, match="classes without train images: class3"):
        compare([two], ["knn"], pool=["avg", "max"])
