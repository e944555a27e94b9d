"""Fault 30: a file system on which locks fail, as on some network mounts. A library that is loaded first does it."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import forked
import numpy as np
import pytest
from onnx_models import small
from tiny import REPO, environment, photos, rows_of

from extract.backbones import BACKBONES
from extract.network.base import load_base
from features import open_stack

# Both kinds of locks: `flock`, and those of `fcntl`.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
static int refuse(void) { errno = atoi(getenv("LOCKS_FAIL")); return -1; }
int flock(int fd, int how) { return refuse(); }
static int control(const char *name, int fd, int command, void *given) {
  if (command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW) return refuse();
  return ((int (*)(int, int, ...))dlsym(RTLD_NEXT, name))(fd, command, given);
}
#define CONTROL(name) int name(int fd, int command, ...) { va_list rest; va_start(rest, command); \
  void *given = va_arg(rest, void *); va_end(rest); return control(#name, fd, command, given); }
CONTROL(fcntl)
CONTROL(fcntl64)
"""


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes locks fail with the number in LOCKS_FAIL."""
    if not (compiler := shutil.which("cc")):
        pytest.skip("no C compiler is here to make locks fail with")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    made = subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", folder / "shim.so", folder / "shim.c", "-ldl"],
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"the library that makes locks fail does not compile here: {made.stderr[:200]}")
    return folder / "shim.so"


def without_locks(shim: Path, cwd: Path, program: str, *words: str, number: int = errno.ENOLCK) -> str:
    """What a Python program prints where locks fail."""
    env = environment(LD_PRELOAD=str(shim), LOCKS_FAIL=str(number), PYTHONPATH=f"{REPO}:{REPO / 'tests'}")
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_every_command(tmp_path: Path, shim: Path) -> None:
    """30: killed, resumed, two at once, and whatever reads or writes a stack: all work, and one line warns."""
    data, network = photos(tmp_path / "photos", classes=2, each=8), small(tmp_path / "m.onnx")
    extract = ["extract", data, "--backbone", network, "--preprocess", "none size=8", "--batch", "4"]
    stage_one = [*extract, "--layer", "map", "--out", "a.h5"]
    models = ["logreg", "knn"]
    fitted = "runs/logreg"
    told = forked.commands(
        tmp_path,
        ["kill", "8", *stage_one],
        [stage_one, stage_one],
        [*extract, "--layer", "map", "--out", "straight.h5"],
        ["features", "info", "a.h5"],
        ["features", "verify", "a.h5"],
        ["features", "compress", "a.h5", "--out", "c.h5"],
        ["features", "pool", "c.h5", "--out", "p.h5"],
        ["features", "find", "a.h5", data / "class0" / "0.png", "-k", "2"],
        ["features", "index", "a.h5", "--out", "i.json"],
        ["classify", "fit", "p.h5", "--model", "logreg", "--out", fitted],
        ["classify", "compare", "c.h5", "--models", *models, "--out", "compared"],
        ["classify", "audit", "a.h5", "--out", "audited"],
        ["classify", "predict", fitted, data],
        ["classify", "export", fitted, "--to", "onnx", "--out", "e.onnx"],
        LD_PRELOAD=str(shim),
        LOCKS_FAIL=str(errno.ENOLCK),
    )
    killed, *both = told[:3]
    assert killed[0] == -signal.SIGKILL
    assert sorted(code for code, *_ in both) in ([0, 0], [0, 2]), both  # the later one waits for a moment
    assert any("resuming" in err for _, _, err in both)
    assert not [each for each in told[3:] if each[0]]
    why = os.strerror(errno.ENOLCK)
    warning = (
        f"warning: this file system has no locks ({why}): a lock file that names this process keeps other writers out"
    )
    assert told[3][2].splitlines().count(warning) == 1
    assert rows_of(tmp_path / "a.h5") == rows_of(tmp_path / "straight.h5")
    assert not list(tmp_path.rglob("*.lock*"))


# Children of one process that want the lock of a.h5 at the same instant. Each says whether it has it or was refused.
# Whoever has it keeps it until all have said so.
AT_ONCE = """
import os, signal, sys
from pathlib import Path
import filelock  # else each child would
from features.runtime import lock
from features.runtime.errors import Refused

stack, lock.SOFT_WAIT = Path("a.h5"), 0.0

def child(start, leave, told=-1):
    if os.fork():
        return
    try:
        start()
        with lock.writer_lock(stack):
            os.write(told, b"w") if told >= 0 else None
            leave()
    except Refused as refused:
        assert "being written by" in str(refused), refused
        os.write(told, b"r")
    except BaseException as error:
        os.write(told, repr(error).encode())
    finally:
        os._exit(0)

for round in range(int(sys.argv[1])):
    if round % 2:  # the lock of a killed process is there
        child(lambda: None, lambda: os.kill(os.getpid(), signal.SIGKILL))
        os.wait()
        assert Path("a.h5.lock").exists()
    (hear, go), (wait, end), (answers, told) = os.pipe(), os.pipe(), os.pipe()
    for _ in range(8):
        child(lambda: (os.close(go), os.read(hear, 1)), lambda: (os.close(end), os.read(wait, 1)), told)
    os.close(go)
    heard = b""
    while len(heard) < 8:
        heard += os.read(answers, 8)
    os.close(end)
    for _ in range(8):
        os.wait()
    assert sorted(heard) == sorted(b"wrrrrrrr"), heard
    assert not Path("a.h5.lock").exists()
    for fd in (hear, wait, answers, told):
        os.close(fd)
print("kept apart")
"""


@pytest.mark.parametrize(("number", "rounds"), [(errno.ENOLCK, 10), (errno.ENOSYS, 2), (errno.EOPNOTSUPP, 2)])
def test_writers_of_the_same_instant(tmp_path: Path, shim: Path, number: int, rounds: int) -> None:
    """30: eight start together, with and without the lock file of a killed one: one writes, seven are refused."""
    assert without_locks(shim, tmp_path, AT_ONCE, str(rounds), number=number) == "kept apart\n"


LEFT = """
import os, sys
from pathlib import Path
from features.runtime import lock
from features.runtime.errors import Refused

file = Path("a.h5.lock")
with lock.writer_lock(Path("a.h5")):
    ours = file.read_text()
pid, host, started = ours.split()
for text in (f"{pid}\\n{host}\\n{int(started) + 1}\\n", f"4194304\\n{host}\\n{started}\\n", "torn"):
    file.write_text(text)
    with lock.writer_lock(Path("a.h5")):
        assert file.read_text() == ours
lock.SOFT_WAIT = 0.0
for text in (ours, f"{pid}\\nelsewhere\\n{started}\\n", f"{os.getppid()}\\n{host}\\n"):
    file.write_text(text)
    try:
        with lock.writer_lock(Path("a.h5")):
            print("taken")
    except Refused as refused:
        print(refused)
    assert file.read_text() == text
"""


def test_what_a_killed_writer_left(tmp_path: Path, shim: Path) -> None:
    """30: taken if its process is gone, or another has its number now; not if it lives, or was on another host."""
    told = without_locks(shim, tmp_path, LEFT).splitlines()
    here = socket.gethostname()
    for line, who in zip(told, (here, "elsewhere", here), strict=True):
        assert line.startswith("a.h5 is being written by process ")
        assert f" on {who}, as a.h5.lock says, and this file system has no locks to be sure by. " in line
        assert line.endswith("Wait for it, or, if it has ended, remove a.h5.lock.")


# Both stages with Keras, in one process: weights from files, and a training whose network is saved.
KERAS = """
from classify import fit, predict
from extract import extract
how = {"backbone": "mobilenetv2", "size": 32, "layer": "block_1_expand_relu"}
for kind in ("weights.h5", "h5", "keras"):
    extract("photos", weights=f"mobile.{kind}", out=f"{kind}.h5", **how)
fit("keras.h5", model="dense", epochs=1, out="runs/dense")
predict("runs/dense", ["photos"], out="told.csv")
"""


@pytest.mark.slow
def test_weights_that_keras_reads_and_writes(tmp_path: Path, shim: Path) -> None:
    """30: each of its formats, which it opens with HDF5 itself."""
    photos(tmp_path / "photos", classes=2, each=4)
    base, _ = load_base(BACKBONES["mobilenetv2"], "random", 32, seed=5)
    for kind in ("weights.h5", "h5", "keras"):
        (base.save_weights if kind == "weights.h5" else base.save)(tmp_path / f"mobile.{kind}")
    without_locks(shim, tmp_path, KERAS)
    first, *others = (open_stack(tmp_path / f"{kind}.h5") for kind in ("weights.h5", "h5", "keras"))
    assert all(np.array_equal(first.X, other.X) for other in others)
    assert len((tmp_path / "told.csv").read_text().splitlines()) == 9
