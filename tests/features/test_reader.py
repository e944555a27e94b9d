import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny import attributes, begin, contents, put, stack

from features import Failed, Refused, info, open_stack, validate, verify
from features.schema import RECIPE
from features.writer import StackWriter

HELD = contents(rows=23, shape=(3, 2, 5), classes=3)
TEST = np.flatnonzero(HELD["split"] == 2)


@pytest.fixture(params=["contiguous", "gzip"])
def opened(request: pytest.FixtureRequest, tmp_path: Path):
    """The same stack as stage one leaves it, and rewritten in compressed chunks with plain h5py."""
    path = stack(tmp_path / "a.h5", HELD)
    if request.param == "gzip":
        with h5py.File(path, "r+") as file:
            rows = file["features"][:]
            del file["features"]
            file.create_dataset("features", data=rows, chunks=(4, 30), compression="gzip", shuffle=True)
    return open_stack(path)


def test_rows_and_identity(opened) -> None:
    """Guards what a reader sees, whichever way the rows are stored."""
    assert len(opened) == 23
    assert np.array_equal(opened.X[:], HELD["features"])
    assert np.array_equal(opened.y, HELD["labels"])
    assert opened.paths == HELD["paths"]
    assert opened.label_names == ["class0", "class1", "class2"]
    assert opened.feature_shape == (3, 2, 5)
    assert opened.rejects == []


def test_select(opened) -> None:
    """Guards that labels, paths and features of a selection belong together."""
    test = opened.select(split="test")
    assert np.array_equal(test.X, HELD["features"][TEST])
    assert test.paths == [HELD["paths"][i] for i in TEST]
    assert np.array_equal(test.y, HELD["labels"][TEST])
    assert len(opened.select("val")) == 0
    assert len(opened.select(("train", "test"))) == 23
    assert np.array_equal(test.take(test.y == 1).X, HELD["features"][TEST][HELD["labels"][TEST] == 1])
    with pytest.raises(Refused, match="no split is called 'dev'; there are train, val, test"):
        opened.select("dev")


def test_take_in_any_order(opened) -> None:
    """Guards against rows that silently come in file order: support vectors are grouped by class, not increasing."""
    for order in ([5, 2, 9], [3, 1, 2, 4], [7, 7, 0]):
        some = opened.take(np.array(order))
        assert np.array_equal(some.X, HELD["features"][order])
        assert np.array_equal(some.columns(2, 9), HELD["features"][order, 2:9])
        assert np.array_equal(np.concatenate(list(some.chunks(250))), HELD["features"][order])
        assert some.paths == [HELD["paths"][i] for i in order]


def test_pooled(opened) -> None:
    """Guards pooling against numpy over the positions of (rows, h*w, c)."""
    positions = HELD["features"].astype("f8").reshape(23, 6, 5)
    np.testing.assert_allclose(opened.pooled("avg"), positions.mean(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(opened.pooled("max"), positions.max(1))
    np.testing.assert_array_equal(opened.select("test").pooled("max"), positions.max(1)[TEST])
    with pytest.raises(Refused, match="no pooling is called 'sum'; there are avg, max, cls"):
        opened.pooled("sum")


def test_chunks_and_columns(opened) -> None:
    """Guards the two ways to walk over a stack larger than memory."""
    pieces = list(opened.chunks(chunk_bytes=30 * 4 * 5))
    assert [len(piece) for piece in pieces] == [5, 5, 5, 5, 3]
    assert np.array_equal(np.concatenate(pieces), HELD["features"])
    assert np.array_equal(np.concatenate(list(opened.select("test").chunks(250))), HELD["features"][TEST])
    block = opened.columns(7, 19)
    assert np.array_equal(block, HELD["features"][:, 7:19])
    assert block.flags.c_contiguous
    assert np.array_equal(opened.select("test").columns(0, 4), HELD["features"][TEST, :4])
    assert opened.select("val").columns(0, 4).shape == (0, 4)


def test_x_is_read_only_and_not_copied(tmp_path: Path) -> None:
    """Guards the stack against its readers, and consecutive rows against a copy."""
    opened = open_stack(stack(tmp_path / "a.h5", HELD))
    head = opened.take(np.arange(5, 9)).X
    assert np.shares_memory(head, opened.X)
    with pytest.raises(ValueError, match="read-only"):
        head[0, 0] = 1


def test_a_flat_layer_has_nothing_to_pool(tmp_path: Path) -> None:
    """Guards the message for layers that are flat already."""
    opened = open_stack(stack(tmp_path / "a.h5", contents(shape=(8,)), layer="fc1"))
    with pytest.raises(Refused, match="holds layer 'fc1', which is flat already: use --pool flatten"):
        opened.pooled("avg")


def test_key_follows_recipe_and_rows_only(tmp_path: Path) -> None:
    """Guards the key: each part of the recipe and each part of a row's identity changes it, and nothing else does."""
    key = open_stack(stack(tmp_path / "a.h5", HELD)).key
    same = {"command": "another", "dataset_root": "/elsewhere", "device": "gpu"}
    other_rows = {**HELD, "features": HELD["features"] + 1, "size": HELD["size"] + 1}
    assert open_stack(stack(tmp_path / "same.h5", other_rows, **same)).key == key
    keys = {key}
    for name in RECIPE:
        value = 64 if name == "input_size" else "changed"
        keys.add(open_stack(stack(tmp_path / f"{name}.h5", HELD, **{name: value})).key)
    for name in ("paths", "labels", "sha256", "view", "split"):
        values = HELD[name] + 1 if name == "view" else HELD[name][::-1] if name != "split" else 0 * HELD[name]
        keys.add(open_stack(stack(tmp_path / f"{name}.h5", {**HELD, name: values})).key)
    keys.add(open_stack(stack(tmp_path / "names.h5", {**HELD, "label_names": ["a", "b", "c"]})).key)
    assert len(keys) == 1 + len(RECIPE) + 5 + 1


def test_info_counts(tmp_path: Path) -> None:
    """Guards `info` against a count by hand; it must survive JSON."""
    told = json.loads(json.dumps(info(str(stack(tmp_path / "a.h5", HELD)))))
    assert (told["rows"], told["train"], told["val"], told["test"]) == (23, 18, 0, 5)
    assert (told["classes"], told["width"], told["feature_shape"], told["rejects"]) == (3, 30, [3, 2, 5], 0)
    assert told["backbone"] == "vgg16"
    assert told["bytes"] == (tmp_path / "a.h5").stat().st_size


def test_unfinished(tmp_path: Path) -> None:
    """Guards stage two against a stack in the making, under any of its names; the way on is the recorded command."""
    path = begin(tmp_path / "a.h5", HELD)
    with StackWriter(path) as writer:
        put(writer, HELD, 0, 22)
    for name in (path, tmp_path / "a.h5.partial"):
        with pytest.raises(Refused, match="is unfinished. Finish it with: python -m extract photos --backbone vgg16"):
            open_stack(name)
    (tmp_path / "a.h5.partial").rename(path)
    with pytest.raises(Refused, match=r"a\.h5 is unfinished: 1 of its 23 rows"):
        open_stack(path)


def test_missing(tmp_path: Path) -> None:
    """Guards the message where there is no file, or a folder."""
    with pytest.raises(Refused, match=r"no stack at .*a\.h5\. Make one with: make features, or python -m extract DATA"):
        open_stack(tmp_path / "a.h5")
    with pytest.raises(Refused, match="is a folder, not a stack"):
        open_stack(tmp_path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99, 0.9999])
def test_truncated(tmp_path: Path, kept: float) -> None:
    """Guards against a half-copied stack, however little is lost."""
    path = stack(tmp_path / "a.h5", HELD)
    with open(path, "r+b") as file:
        file.truncate(int(kept * path.stat().st_size))
    with pytest.raises(Failed, match=r"a\.h5 is truncated\. Restore it from a copy, or delete it and extract again"):
        open_stack(path)


def test_features_in_another_file(tmp_path: Path) -> None:
    """Guards the check of our own, offset + bytes inside the file: HDF5 opens external storage that is not there."""
    path = stack(tmp_path / "a.h5", HELD)
    with h5py.File(path, "r+") as file:
        del file["features"]
        file.create_dataset("features", (23, 30), "<f4", external=[("gone.bin", 0, 23 * 30 * 4)])
    with pytest.raises(Failed, match="is truncated: features does not lie inside the file"):
        open_stack(path)


def test_not_hdf5(tmp_path: Path) -> None:
    """Guards the message for a text file and an empty one."""
    for text in ("path,label\n", ""):
        (tmp_path / "a.h5").write_text(text)
        with pytest.raises(Failed, match="is no HDF5 file that can be opened. Restore it from a copy, or delete it"):
            open_stack(tmp_path / "a.h5")


def test_foreign(tmp_path: Path) -> None:
    """Guards the message for HDF5 that is no stack, whatever its attributes look like."""
    for value in (None, "MATLAB", [1, 2]):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            if value:
                file.attrs["format"] = value
        with pytest.raises(Refused, match="is HDF5 but no feature stack .*its root has no attribute format = 'feature"):
            open_stack(tmp_path / "a.h5")


def test_a_large_foreign_file_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the time that it takes to say no: 100 GB of somebody's own HDF5 are not read for it."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = np.ones((100, 100))
    monkeypatch.setattr(validate, "heaps_are_sound", lambda *given: pytest.fail("it was searched for heaps"))
    with pytest.raises(Refused, match="is HDF5 but no feature stack"):
        open_stack(tmp_path / "a.h5")


def test_newer_version(tmp_path: Path) -> None:
    """Guards old programs against new files."""
    path = stack(tmp_path / "a.h5", HELD)
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 3
    with pytest.raises(Refused, match="has format version 3; this program reads up to 2. Update it"):
        open_stack(path)


@pytest.mark.parametrize("name", [*RECIPE, "format_version", "feature_shape", "dataset_root", "command"])
def test_missing_attribute(tmp_path: Path, name: str) -> None:
    """Guards against a KeyError for a file that was meddled with."""
    path = stack(tmp_path / "a.h5", HELD)
    with h5py.File(path, "r+") as file:
        del file.attrs[name]
    with pytest.raises(Failed, match=f"is damaged: attribute {name} is missing"):
        open_stack(path)


@pytest.mark.parametrize("name", ["features", "labels", "paths", "row_crc32", "label_names", "fingerprint"])
def test_missing_dataset(tmp_path: Path, name: str) -> None:
    """Guards against a KeyError likewise."""
    path = stack(tmp_path / "a.h5", HELD)
    with h5py.File(path, "r+") as file:
        del file[name]
    with pytest.raises(Failed, match=f"is damaged: dataset {name} is missing"):
        open_stack(path)


def test_fields_of_another_length(tmp_path: Path) -> None:
    """Guards against rows that no longer match file names."""
    path = stack(tmp_path / "a.h5", HELD)
    with h5py.File(path, "r+") as file:
        del file["labels"]
        file["labels"] = HELD["labels"][:-1]
    with pytest.raises(Failed, match=r"is damaged: labels has shape \(22,\), expected \(23,\)"):
        open_stack(path)


def test_stack_is_attributes_and_rows_of_the_spec() -> None:
    """Guards this file: its stand-in attributes hold the whole recipe."""
    assert set(RECIPE) <= set(attributes())


def test_verify_reads_compressed_stacks(opened) -> None:
    """Guards the checks on both ways of storing."""
    assert verify(str(opened.path), rows_only=True) == {
        "stack": str(opened.path),
        "rows": 23,
        "images": 0,
        "dataset_root": "/nowhere",
    }
