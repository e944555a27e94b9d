"""Faults 25–35: what is wrong with the disk, the file on it, or the moment at which the power goes."""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny import HOLD, REPO, begin, contents, environment, flip, photos, put, rows_of, stack

from features import Failed, compress, open_stack, verify
from features.layout import offsets, partial_path
from features.writer import StackWriter

# The real lock, layout, pipeline and writer over a sum of pixels, killed in every step that changes the disk: run in
# children of one process, so that its imports are paid for once. Prints how many steps there are.
KILLS = """
import os, signal, sys
from pathlib import Path
import h5py
import numpy as np
from extract.backbones import BACKBONES
from extract.images.dataset import scan
from extract.compute.pipeline import fill
from extract.recipe import Recipe
from extract.images.split import seeded_split
from features import open_stack
from features.runtime.disk import publish
from features.layout import lay_out
from features.runtime.lock import writer_lock
from features.layout import layout_path, partial_path
from features.writer import StackWriter
from tiny import attributes, rows_of

listing, folder = scan(sys.argv[1]), Path(sys.argv[2])
recipe = Recipe(listing, BACKBONES["vgg16"], "random", "block5_pool", size=8, seed=0)
STEPS = ("pwrite", "replace", "fsync", "posix_fallocate", "ftruncate", "write", "unlink")

def forward(images):
    return [images.reshape(len(images), -1).astype("<f4") / 7]

def work(stack):
    with writer_lock(stack):
        if stack.exists():
            return
        if not partial_path(stack).exists():
            attrs = attributes(dataset_root=str(listing.root))
            lay_out(layout_path(stack), recipe.rows({}), listing.label_names, (8, 8, 3), attrs)
            publish(layout_path(stack), partial_path(stack))
        with StackWriter(stack) as writer:
            good = writer.check()
            missing = np.flatnonzero(~good)
            blocks = [missing[i : i + 4] for i in range(0, len(missing), 4)]
            reasons = fill({0: writer}, recipe, blocks, forward, lambda rows: None)
            writer.finish(seeded_split(writer.labels, writer.sha256, 0), reasons[0])

def killed_at(step):
    left = step
    def hooked(name):
        whole = getattr(os, name)
        def call(*given, **options):
            nonlocal left
            left -= 1
            if left == 0:
                if name == "pwrite":
                    whole(given[0], given[1][: len(given[1]) // 2], given[2])
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(*given, **options)
        return call
    for name in STEPS:
        setattr(os, name, hooked(name))

def plain(stack):
    return rows_of(stack) | {"rejects": open_stack(stack).rejects}

def child(stack, step):
    pid = os.fork()
    if pid == 0:
        killed_at(step)
        try:
            work(stack)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

assert child(folder / "straight.h5", -1) == 0
straight, step = plain(folder / "straight.h5"), 0
while True:
    step, stack = step + 1, folder / f"{step + 1}.h5"
    code = child(stack, step)
    if stack.exists():
        assert len(open_stack(stack)) == 11, step
    if code == 0:
        break
    assert code == -signal.SIGKILL, (step, code)
    assert child(stack, -1) == 0, step
    assert plain(stack) == straight, step
    assert not list(folder.glob(f"{step + 1}.h5.lock")), step
print(step - 1)
"""


def test_a_kill_at_every_write_step(tmp_path: Path) -> None:
    """25: SIGKILL in the middle of each write and before each rename, sync and removal; the same rows each time."""
    data = photos(tmp_path / "photos", classes=2, each=6, side=10)
    (data / "class1" / "3.jpg").write_bytes(b"")  # so that the second file of a finish is written, too
    (tmp_path / "stacks").mkdir()
    env = environment(PYTHONPATH=f"{REPO}:{REPO / 'tests'}", OPENBLAS_NUM_THREADS="1")
    words = [sys.executable, "-c", KILLS, str(data), str(tmp_path / "stacks")]
    done = subprocess.run(words, env=env, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30


SIGNALLED = """
import os, runpy, sys
import features

def info(stack: str) -> None:
    '''Be asked to end, in the middle of it.

    Args:
        stack: the signal's number.
    '''
    os.kill(os.getpid(), int(stack))

features.info = info
sys.argv[1:1] = ["info"]
runpy.run_module("features", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_with_its_code_and_a_hint(tmp_path: Path, number: int, code: int) -> None:
    """26: SIGINT 130, SIGTERM 143, no traceback; what the same command does next is said."""
    words = [sys.executable, "-c", SIGNALLED, str(int(number))]
    told = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (code, "")
    assert told.stderr == "\ninterrupted; what was finished is kept, and the same command goes on from there\n"


def test_too_little_disk_leaves_nothing_behind(small_disk: Path) -> None:
    """Guards the full disk: met before any work, said with both sizes, no file left."""
    held = contents(rows=100, shape=(7, 7, 100))
    with pytest.raises(
        Failed, match=r"it needs 3\.0 MB and 1\.0 MB are free\. Free some space or choose another --out"
    ):
        begin(small_disk / "a.h5", held)
    assert list(small_disk.iterdir()) == []


def test_little_disk_for_few_rows(small_disk: Path) -> None:
    """Guards against the crash of HDF5 (segmentation fault) that closes a file on a disk with only some KB left."""
    (small_disk / "filler").write_bytes(bytes(1_040_384))
    with pytest.raises(Failed, match=r"it needs 1\.0 MB and 0\.0 MB are free"):
        begin(small_disk / "a.h5", contents(rows=1, shape=(1,), classes=1))
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_a_disk_without_a_free_byte(small_disk: Path) -> None:
    """Guards the writer on a disk that is full already: one line, exit 1, no file left, no traceback."""
    data = photos(small_disk.parent / "photos", classes=2, each=2)
    with open(small_disk / "filler", "wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    program = "from features.runtime import cli; from features.runtime.lock import writer_lock\n"
    program += "from features.layout import lay_out; from pathlib import Path; from tiny import *\n"
    program += "def main():\n with writer_lock(Path('a.h5')): begin(Path('a.h5'), contents())\ncli.run(main)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=small_disk,
        env=environment(PYTHONPATH=f"{REPO}:{REPO / 'tests'}"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: cannot ")
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
    assert data.is_dir()


@pytest.mark.slow
def test_a_disk_that_fills_up_while_rows_are_written(small_disk: Path, tmp_path: Path, extracted) -> None:
    """27: the blocks reserved for rows are taken away, and the disk is full: one line, exit 1; then it goes on."""
    data = photos(tmp_path / "photos", classes=2, each=6)
    assert extracted(data).code == 0
    straight = rows_of(tmp_path / "a.h5")
    out = small_disk / "a.h5"
    shutil.copy2(tmp_path / "a.h5", partial_path(out))
    base = offsets(partial_path(out))
    with open(partial_path(out), "r+b") as file:
        os.pwrite(file.fileno(), bytes(12), base["row_state"])
    punched = subprocess.run(
        ["fallocate", "--punch-hole", "--offset", str(base["features"]), "--length", "8192", partial_path(out)],
        capture_output=True,
    )
    if punched.returncode:
        pytest.skip("no holes can be punched into files here")
    (small_disk / "a.h5.lock").write_bytes(b"x")  # as a killed run left it; room for one page stays with it
    with open(small_disk / "filler", "wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    told = extracted(data, "--out", out)
    assert (told.code, told.out) == (1, "")
    assert "error: No space left on device; what was finished is kept, and the same command goes on" in told.err
    assert partial_path(out).exists() and not out.exists()
    (small_disk / "filler").unlink()
    assert extracted(data, "--out", out).code == 0
    assert rows_of(out) == straight


def test_no_room_to_leave_the_rejected_rows_out(small_disk: Path) -> None:
    """27: the second file does not fit: said with both sizes, every row kept, and finished once there is room."""
    held = contents(rows=50, shape=(7, 7, 20))
    subprocess.run(["mount", "-o", "remount,size=2m", small_disk], check=True)
    begin(small_disk / "a.h5", held)
    (small_disk / "filler").write_bytes(bytes(800_000))
    with StackWriter(small_disk / "a.h5") as writer:
        put(writer, held, 0, 50, rejected=(3,))
        with pytest.raises(Failed, match=r"cannot lay out .* it needs 1\.2 MB and [01]\.\d MB are free"):
            writer.finish(held["split"], {3: "torn"})
        assert int(writer.check().sum()) == 49
    assert sorted(path.name for path in small_disk.iterdir()) == ["a.h5.partial", "filler"]


@pytest.mark.slow
def test_a_read_only_output_is_met_before_any_work(small_disk: Path, tmp_path: Path, extracted, command) -> None:
    """28: by both stages, in one line, before a photo is read or a model fitted."""
    data = photos(tmp_path / "photos", classes=2, each=4)
    assert extracted(data).code == 0
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    line = f"error: cannot write in {small_disk}: Read-only file system. Choose another --out.\n"
    told = extracted(data, "--out", small_disk / "b.h5")
    assert (told.code, told.err) == (1, line)
    told = command("classify", "fit", tmp_path / "a.h5", "--model", "xgboost", "--out", small_disk)
    assert (told.code, told.err) == (1, line)


@pytest.mark.slow
def test_a_second_writer_is_refused(tmp_path: Path, extracted) -> None:
    """29: the command says who holds the stack, exit 2, and touches nothing."""
    data = photos(tmp_path / "photos", classes=2, each=3)
    words = [sys.executable, "-c", HOLD, tmp_path / "a.h5"]
    with subprocess.Popen(words, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        told = extracted(data)
        holder.communicate("")
    who = f"process {holder.pid} on {socket.gethostname()}"
    assert told == (2, "", f"error: {tmp_path / 'a.h5'} is being written by {who}. Wait for it, or stop it.\n")
    assert not partial_path(tmp_path / "a.h5").exists()
    assert extracted(data).code == 0


@pytest.mark.slow
def test_a_flipped_bit_is_found_by_a_rerun_and_mended(tmp_path: Path, extracted) -> None:
    """31: the rerun names the row, computes it again to the same bits, and keeps the rejects and every other row."""
    data = photos(tmp_path / "photos", classes=2, each=6)
    (data / "class0" / "zero.jpg").write_bytes(b"")
    stack = tmp_path / "a.h5"
    assert extracted(data, "--max-bad", 50).code == 3
    sound = _plain(stack)
    width = open_stack(stack).X.shape[1]
    for name, size in (("features", 4 * width), ("row_crc32", 4)):
        flip(stack, offsets(stack)[name] + 7 * size + 1)
        with pytest.raises(Failed, match=r"row 7 \(class1/1\.jpg\)\. The same command computes them again: python"):
            verify(str(stack))
        told = extracted(data, "--max-bad", 50)
        assert told.code == 3
        assert f"{stack} is damaged, so row 7 (class1/1.jpg) is computed again\n" in told.err
        assert _plain(stack) == sound
        assert verify(str(stack))["images"] == 12
        assert "rejected class0/zero.jpg: the file is empty" in told.err


def _plain(stack: Path) -> dict[str, object]:
    """Every dataset, the table of rejects as text."""
    return rows_of(stack) | {"rejects": open_stack(stack).rejects}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sha256", "fingerprint"])
def test_a_flipped_bit_in_who_a_row_is(tmp_path: Path, extracted, name: str) -> None:
    """31: which image a row is of cannot be computed again; the rerun says so, and does not say `up to date`."""
    data = photos(tmp_path / "photos", classes=2, each=4)
    assert extracted(data).code == 0
    flip(tmp_path / "a.h5", offsets(tmp_path / "a.h5")[name] + 1)
    told = extracted(data)
    assert told.code == 1
    assert "a.h5 is damaged: " in told.err
    assert "up to date" not in told.err


FIELDS = ("features", "sha256", "size", "mtime_ns", "row_crc32", "row_state")  # of a row, as they are written


def test_a_power_loss_keeps_no_half_row(tmp_path: Path) -> None:
    """33: of a row's six writes any may reach the disk and any may not: whole, or computed again; never half."""
    held = contents(rows=6)
    begin(tmp_path / "a.h5", held)
    partial = partial_path(tmp_path / "a.h5")
    before = partial.read_bytes()
    with StackWriter(tmp_path / "a.h5") as writer:
        put(writer, held, 0, 6)
        after, base = partial.read_bytes(), offsets(partial)
        writer.finish(held["split"], {})
    straight = rows_of(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r") as file:
        sizes = {name: file[name].dtype.itemsize * int(np.prod(file[name].shape[1:])) for name in FIELDS}
    for count in range(len(FIELDS) + 1):
        for arrived in itertools.combinations(FIELDS, count):
            disk = bytearray(after)
            for name in set(FIELDS) - set(arrived):
                here = slice(base[name] + 2 * sizes[name], base[name] + 3 * sizes[name])
                disk[here] = before[here]
            (tmp_path / "a.h5").unlink(missing_ok=True)
            partial.write_bytes(disk)
            with StackWriter(tmp_path / "a.h5") as writer:
                good = writer.check()
                whole = {"features", "sha256", "row_crc32", "row_state"} <= set(arrived)
                assert good[2] == whole, arrived
                assert good[[0, 1, 3, 4, 5]].all()
                if not whole:
                    put(writer, held, 2, 3)
                writer.finish(held["split"], {})
            assert rows_of(tmp_path / "a.h5") == straight, arrived


def test_a_layout_that_the_power_loss_cut_short(tmp_path: Path, extracted) -> None:
    """33: a partial file that does not open is named, with the way on; nothing is built on it."""
    data = photos(tmp_path / "photos", classes=2, each=3)
    partial_path(tmp_path / "a.h5").write_bytes(bytes(5000))
    told = extracted(data)
    assert told.code == 1
    assert "a.h5.partial is no HDF5 file that can be opened. Remove it to start again." in told.err


def test_compression_meets_a_full_disk_before_hdf5_does(tmp_path: Path, small_disk: Path) -> None:
    """Fault 27: guards the source, and the process: HDF5 can crash where it closes a file on a full disk."""
    path = stack(tmp_path / "a.h5", contents(rows=70, shape=(1, 5, 1000)))
    with pytest.raises(Failed, match=r"cannot write .*: it needs 2.\d MB and 1.\d MB are free; .*a.h5 is as it was"):
        compress(str(path), out=str(small_disk / "b.h5"))
    assert open_stack(path).X.shape == (70, 5000) and not list(small_disk.glob("*.h5*"))
