from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny import begin, contents, flip, put, stack

from features import Failed, Refused, open_stack, verify
from features.layout import offsets, partial_path
from features.writer import StackWriter

HELD = contents()


def test_rows_in_any_order_make_the_same_bytes(tmp_path: Path) -> None:
    """Guards resumed runs: blocks written in another order, some of them twice, give the very same rows."""
    straight = stack(tmp_path / "a.h5", HELD)
    begin(tmp_path / "b.h5", HELD)
    with StackWriter(tmp_path / "b.h5") as writer:
        for start, stop in ((7, 10), (0, 4), (3, 7), (0, 4)):
            put(writer, HELD, start, stop)
        writer.finish(HELD["split"], {})
    with h5py.File(straight, "r") as one, h5py.File(tmp_path / "b.h5", "r") as other:
        for name in one:
            if name != "extract_seconds":
                assert one[name][()].tobytes() == other[name][()].tobytes(), name
        assert other["extract_seconds"][()] == 2.0


def test_the_name_is_taken_only_when_every_row_is_there(tmp_path: Path) -> None:
    """Guards `.partial`: an unfinished stack never stands under the finished name."""
    begin(tmp_path / "a.h5", HELD)
    with StackWriter(tmp_path / "a.h5") as writer:
        put(writer, HELD, 0, 9)
        with pytest.raises(Failed, match=r"a\.h5\.partial: 1 rows are still to be extracted"):
            writer.finish(HELD["split"], {})
        assert [path.name for path in tmp_path.iterdir()] == ["a.h5.partial"]
        put(writer, HELD, 9, 10)
        writer.finish(HELD["split"], {})
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_resume_trusts_only_rows_whose_crc_fits(tmp_path: Path) -> None:
    """Guards resume: a row torn by the kill is empty again, the good ones stay."""
    begin(tmp_path / "a.h5", HELD)
    with StackWriter(tmp_path / "a.h5") as writer:
        put(writer, HELD, 0, 6)
    partial = partial_path(tmp_path / "a.h5")
    flip(partial, offsets(partial)["features"] + 4 * 24 * 2 + 50)
    flip(partial, offsets(partial)["sha256"] + 32 * 4 + 31)
    with StackWriter(tmp_path / "a.h5") as writer:
        assert np.flatnonzero(writer.check()).tolist() == [0, 1, 3, 5]
        assert writer.extract_seconds == 0.5


def test_a_changed_image_empties_its_rows_for_good(tmp_path: Path) -> None:
    """Guards `forget`: the row stays empty even if the run is killed right afterwards."""
    begin(tmp_path / "a.h5", HELD)
    with StackWriter(tmp_path / "a.h5") as writer:
        put(writer, HELD, 0, 10)
        writer.forget([HELD["paths"][3], HELD["paths"][8]])
    with StackWriter(tmp_path / "a.h5") as writer:
        assert np.flatnonzero(~writer.check()).tolist() == [3, 8]


def test_rejected_rows_leave_the_stack(tmp_path: Path) -> None:
    """Guards against rows of zeros: rejects go to their table, every other row keeps its own path and numbers."""
    begin(tmp_path / "a.h5", HELD)
    with StackWriter(tmp_path / "a.h5") as writer:
        put(writer, HELD, 0, 10, rejected=(0, 5, 9))
        writer.finish(HELD["split"], {5: "torn", 0: "empty", 9: "text"})
    left = [1, 2, 3, 4, 6, 7, 8]
    with h5py.File(tmp_path / "a.h5", "r") as file:
        for name in ("features", "labels", "sha256", "size", "mtime_ns", "view", "split"):
            assert np.array_equal(file[name][:], HELD[name][left]), name
        assert file["paths"].asstr()[:].tolist() == [HELD["paths"][i] for i in left]
        assert [tuple(reject) for reject in file["rejects"][:]] == [
            (HELD["paths"][i].encode(), reason, 100 + i, 10**18 + i)
            for i, reason in ((0, b"empty"), (5, b"torn"), (9, b"text"))
        ]
    assert open_stack(tmp_path / "a.h5").rejects[1] == (HELD["paths"][5], "torn", 105, 10**18 + 5)
    assert verify(str(tmp_path / "a.h5"), rows_only=True)["rows"] == 7
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_rows_that_rot_while_rejects_are_left_out(tmp_path: Path) -> None:
    """Guards the copy: it is checked row by row, and a bad one stops it without a finished file."""
    begin(tmp_path / "a.h5", HELD)
    with StackWriter(tmp_path / "a.h5") as writer:
        put(writer, HELD, 0, 10, rejected=(5,))
        partial = partial_path(tmp_path / "a.h5")
        flip(partial, offsets(partial)["features"] + 4 * 24 * 7)
        with pytest.raises(Failed, match="rows changed on disk while they were copied; run the same command again"):
            writer.finish(HELD["split"], {5: "torn"})
    assert not (tmp_path / "a.h5").exists()
    with StackWriter(tmp_path / "a.h5") as writer:
        assert np.flatnonzero(~writer.check()).tolist() == [5, 7]


def test_nothing_but_rejects(tmp_path: Path) -> None:
    """Guards against an empty stack: the first reason is told."""
    begin(tmp_path / "a.h5", HELD)
    with StackWriter(tmp_path / "a.h5") as writer:
        put(writer, HELD, 0, 10, rejected=tuple(range(10)))
        with pytest.raises(Failed, match=r"not one of the 10 images could be read; the first: class0/é0\.png: torn"):
            writer.finish(HELD["split"], dict.fromkeys(range(10), "torn"))


@pytest.mark.usefixtures("impatient")
def test_a_partial_file_that_is_damaged_or_foreign(tmp_path: Path) -> None:
    """Guards the writer as the reader is guarded: no heap is walked for ever, no size believed, one line said."""
    partial = partial_path(begin(tmp_path / "a.h5", HELD))
    data = partial.read_bytes()
    heap = data.index(b"GCOL")  # its first text becomes a free piece of no length: HDF5 never comes past that
    partial.write_bytes(data[: heap + 16] + bytes(16) + data[heap + 32 :])
    with pytest.raises(Failed, match=r"a\.h5\.partial is damaged: its texts cannot be read"):
        StackWriter(tmp_path / "a.h5")
    partial.write_bytes(data)
    with h5py.File(partial, "r+") as file:
        del file["size"]
    with pytest.raises(Failed, match=r"a\.h5\.partial is damaged: dataset size is missing"):
        StackWriter(tmp_path / "a.h5")
    with h5py.File(partial, "w") as file:
        file["features"] = np.ones((3, 4))
    with pytest.raises(Refused, match=r"a\.h5\.partial is HDF5 but no feature stack"):
        StackWriter(tmp_path / "a.h5")


def test_an_unreadable_partial_file(tmp_path: Path) -> None:
    """Guards the message where a partial file is not ours or is torn."""
    partial_path(tmp_path / "a.h5").write_text("no HDF5")
    with pytest.raises(Failed, match=r"a\.h5\.partial is no HDF5 file that can be opened\. Remove it to start again"):
        StackWriter(tmp_path / "a.h5")
