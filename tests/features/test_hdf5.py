"""Files that other programs hold locked, and disks that fail under HDF5."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny import REPO, begin, contents, environment, put, stack
from withheld import locked_by_a_child, nothing_opens

from classify.networks.checkpoint import Checkpoint, Trained
from features import Failed, compress, index, open_stack, pool
from features.archive import open_source
from features.layout import layout_path, partial_path
from features.open import open_rows_so_far, recorded_command
from features.writer import StackWriter

HELD = contents()


def test_a_lock_that_a_child_still_holds(tmp_path: Path) -> None:
    """91: whatever we open or make, its lock is not asked for; nobody is told to remove a sound file."""
    path, partial = stack(tmp_path / "a.h5", HELD), partial_path(begin(tmp_path / "b.h5", HELD))
    packed = compress(str(path), out=str(tmp_path / "packed.h5"))
    with h5py.File(tmp_path / "pixels.h5", "w") as file:
        file["x"] = np.zeros((2, 4, 4, 3), "u1")
    weights, kept = [np.ones(3, "f4")], Checkpoint(tmp_path / "best.h5", {})
    kept.keep(Trained({"loss": [1.0]}, 1, 1.0, "interrupted"), weights)
    stale = [layout_path(tmp_path / name) for name in ("c.h5", "d.h5", "a-avg.h5")]
    others = [tmp_path / "pixels.h5", kept.path, kept.path.with_name("best.h5.partial")]
    with locked_by_a_child(path, partial, packed, *stale, *others):
        assert np.array_equal(open_stack(path).X, HELD["features"])
        assert np.array_equal(open_stack(packed).X[:], HELD["features"])
        assert recorded_command(path).startswith("python -m extract")
        assert len(open_rows_so_far(partial)) == 0
        with StackWriter(tmp_path / "b.h5") as writer:
            put(writer, HELD, 0, 10)
            writer.finish(HELD["split"], {})
        assert len(open_stack(stack(tmp_path / "c.h5", HELD))) == 10
        assert len(open_stack(compress(str(path), out=str(tmp_path / "d.h5")))) == 10
        assert len(open_stack(pool(str(path)))) == 10
        assert open_source(f"{tmp_path}/pixels.h5::x").sha256("0")
        kept.keep(Trained({"loss": [1.0]}, 1, 1.0, "interrupted"), weights)
        assert kept.load(weights)


def test_a_stack_that_a_notebook_has_open_with_h5py(tmp_path: Path) -> None:
    """91: HDF5 opens no file both with and without its locks; we and the notebook open it in either order."""
    path = stack(tmp_path / "a.h5", HELD)
    packed = compress(str(path), out=str(tmp_path / "packed.h5"))
    for each in (path, packed):
        with h5py.File(each, "r") as theirs:
            ours = open_stack(each)
            assert np.array_equal(ours.X[:], theirs["features"][:])
        with h5py.File(each, "r") as theirs:
            assert np.array_equal(ours.X[:], theirs["features"][:])


def test_only_one_room_opens_hdf5() -> None:
    """91: a file that is opened elsewhere would be opened with HDF5's locks. (The engines' benchmark shows others'.)"""
    rooms = ("extract", "features", "classify", "benchmarks")
    sources = [path.relative_to(REPO).as_posix() for room in rooms for path in (REPO / room).rglob("*.py")]
    direct = {path for path in sources if "h5py.File(" in (REPO / path).read_text("utf-8")}
    assert direct == {"features/hdf5.py", "benchmarks/engines.py"}


def test_a_file_that_the_system_does_not_open_is_not_called_damaged(tmp_path: Path) -> None:
    """91: without a free descriptor, here; the reason is told, and no way on that would cost the file."""
    path = stack(tmp_path / "a.h5", HELD)
    partial, kept = partial_path(begin(tmp_path / "b.h5", HELD)), Checkpoint(tmp_path / "best.h5", {})
    kept.keep(Trained({"loss": [1.0]}, 1, 1.0, "interrupted"), [np.ones(3, "f4")])
    shards = index([str(path)], out=str(tmp_path / "i.json"))
    for file, opened in (
        (path, lambda: open_stack(path)),
        (shards, lambda: open_stack(shards)),
        (partial, lambda: StackWriter(tmp_path / "b.h5")),
        (partial, lambda: open_rows_so_far(partial)),
        (kept.path, lambda: kept.load([np.ones(3, "f4")])),
    ):
        with pytest.raises(Failed) as told, nothing_opens():
            opened()
        assert str(told.value) == f"{file} cannot be opened: Too many open files"


# Makes a file again and again, in children of one process, under a limit of size that grows until it is enough.
LIMITED = """
import os, resource, sys
from pathlib import Path
import numpy as np
from features.hdf5 import NewHDF5
from features.runtime import cli

def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with NewHDF5(Path("a.h5")) as file:
        for i in range(20):
            file[f"{i}/x"] = np.ones((20, 20))
            file[f"{i}/x"].attrs["text"] = "x" * 100
        packed = file.create_dataset("packed", (640, 64), "f4", chunks=(64, 64), compression="gzip")
        packed[:] = 1
        file.flush()

code, limit = 1, 0
while code:
    if (pid := os.fork()) == 0:
        cli.run(main)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(code)
    limit += 2000
"""


def test_a_limit_of_size_at_any_place_of_a_new_file(tmp_path: Path) -> None:
    """94: HDF5 crashes where it cannot write; it never hears of that, and the command ends in one line."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    codes = done.stdout.split()
    assert len(codes) > 50 and set(codes[:-1]) == {"1"} and codes[-1] == "0"
    line = "error: File too large; what was finished is kept, and the same command goes on from there"
    assert done.stderr.splitlines() == [line] * (len(codes) - 1)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert (file["packed"][:] == 1).all() and len(file) == 21
