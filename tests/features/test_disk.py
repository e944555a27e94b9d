"""What is written reaches the disk, on systems that this one is not too."""

import ast
import errno
import fcntl
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnx_models import small
from tiny import REPO, environment, photos, rows_of, run

from features.runtime import disk
from features.runtime.disk import pread_all, pwrite_all, sync


@pytest.mark.parametrize("there", [True, False], ids=["there", "not on this file system"])
def test_macos_syncs_all_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """Guards against a power loss on macOS, where `fsync` ends in the drive's cache: its own call, else `fsync`."""
    asked: list[object] = []

    def control(fd: int, how: int) -> None:
        asked.append(how)
        if not there:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    monkeypatch.setattr(os, "fsync", lambda fd: asked.append("fsync"))
    with open(tmp_path / "a", "wb") as file:
        sync(file.fileno())
    assert asked == ([51] if there else [51, "fsync"])


def test_large_pieces_in_several_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards rows of more than 2 GiB, which macOS refuses to write or read at once; here the limit is 1,000 bytes."""
    monkeypatch.setattr(disk, "ONE_CALL", 1000)
    write, read = os.pwrite, os.preadv

    def limited_write(fd: int, data: memoryview, offset: int) -> int:
        if len(data) > 1000:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return write(fd, data, offset)

    def limited_read(fd: int, buffers: list[memoryview], offset: int) -> int:
        if sum(map(len, buffers)) > 1000:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return read(fd, buffers, offset)

    monkeypatch.setattr(os, "pwrite", limited_write)
    monkeypatch.setattr(os, "preadv", limited_read)
    values = np.arange(900, dtype="<f4")
    with open(tmp_path / "a", "w+b") as file:
        pwrite_all(file.fileno(), values, 10)
        assert pread_all(file.fileno(), 3600, 10) == values.tobytes()


def test_places_of_a_file_without_calls_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """93: where a file has one position for all, as on Windows, no thread moves it between another's two steps."""
    for name in ("pwrite", "preadv"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(disk, "ONE_CALL", 100)
    blocks = [np.full(500, i, "u1") for i in range(200)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with open(tmp_path / "a", "w+b") as file, ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda i: pwrite_all(file.fileno(), blocks[i], 500 * i), range(200)))
            read = list(threads.map(lambda i: pread_all(file.fileno(), 500, 500 * i), range(200)))
    finally:
        sys.setswitchinterval(interval)
    assert (tmp_path / "a").read_bytes() == np.concatenate(blocks).tobytes()
    assert read == [block.tobytes() for block in blocks]


def test_one_room_imports_what_only_some_systems_have() -> None:
    """93: such an import stops everything where it is missing."""
    lacking = {"fcntl", "resource", "pwd", "grp", "termios", "posix", "syslog", "msvcrt", "winreg"}
    found = []
    for path in (path for room in ("extract", "features", "classify") for path in (REPO / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [(path.relative_to(REPO).as_posix(), name) for name in lacking.intersection(names)]
    assert found == [("features/runtime/disk.py", "fcntl")]


# What Windows or macOS lacks is taken away once the libraries are imported, before the first import of ours.
BARE = """
import importlib, json, os, runpy, signal, sys
for name in ("h5py", "numpy", "scipy.stats", "sklearn.linear_model", "sklearn.model_selection", "joblib", "PIL.Image",
             "skops.io", "jinja2", "tqdm", "openvino", "filelock", "psutil", "tempfile", "shutil", "subprocess"):
    importlib.import_module(name)
for name in ("pwrite", "pread", "preadv", "pwritev", "posix_fallocate", "sync", "sched_getaffinity", "geteuid",
             "getuid", "fork", "sysconf", "killpg", "mkfifo", "uname"):
    delattr(os, name)
for name in ("SIGHUP", "SIGALRM", "SIGKILL", "SIGUSR1", "SIGXFSZ", "alarm"):
    delattr(signal, name)
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for words in json.loads(sys.argv[1]):
    sys.argv = words
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        assert ended.code in (None, 0, 3), (words, ended.code)
"""


@pytest.mark.slow
def test_both_stages_with_what_every_system_has(tmp_path: Path) -> None:
    """93: the same rows, and the commands that read them, without the calls that only some systems have."""
    data, network = photos(tmp_path / "photos", classes=2, each=6), small(tmp_path / "m.onnx")
    (data / "class0" / "torn.jpg").write_bytes(b"")  # so that a second file is written as well
    extract = [
        "extract",
        data,
        "--backbone",
        network,
        "--preprocess",
        "none size=8",
        "--layer",
        "map",
        "--max-bad",
        "50",
    ]
    commands = [
        [*extract, "--out", "a.h5"],
        [*extract, "--out", "a.h5"],
        ["features", "compress", "a.h5", "--out", "c.h5"],
        ["features", "pool", "c.h5", "--out", "p.h5"],
        ["classify", "compare", "p.h5", "--models", "logreg", "knn", "--out", "compared"],
        ["classify", "audit", "p.h5", "--out", "audited"],
        ["classify", "predict", "compared/logreg", data],
    ]
    env = environment(PYTHONPATH=str(REPO))
    words = [sys.executable, "-c", BARE, json.dumps(commands, default=str)]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "this file system has no locks (Function not implemented)" in done.stderr
    assert run(*extract, "--out", "b.h5", cwd=tmp_path).returncode == 3
    bare, plain = rows_of(tmp_path / "a.h5"), rows_of(tmp_path / "b.h5")
    del bare["rejects"], plain["rejects"]  # addresses of their texts
    assert bare == plain
    assert not list(tmp_path.glob("*.lock"))
