import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import HOLD, environment

from features import Failed, Refused
from features.runtime.lock import writer_lock


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the lock of tmp_path/a.h5."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "a.h5"],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_second_writer_is_told_who_holds_the_stack(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    """Guards against two writers in one file."""
    expected = rf"a\.h5 is being written by process {holder.pid} on {socket.gethostname()}\. Wait for it, or stop it"
    with pytest.raises(Refused, match=expected), writer_lock(tmp_path / "a.h5"):
        pass
    assert (tmp_path / "a.h5.lock").exists()


def test_a_killed_writer_lets_go(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    """Guards against a lock that outlives its process: what a SIGKILL leaves behind stops nobody."""
    holder.kill()
    holder.wait()
    assert (tmp_path / "a.h5.lock").exists()
    with writer_lock(tmp_path / "a.h5"):
        assert str(os.getpid()) in (tmp_path / "a.h5.lock").read_text()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_goes_even_when_the_work_fails(tmp_path: Path) -> None:
    """Guards the clean-up."""
    with pytest.raises(ZeroDivisionError), writer_lock(tmp_path / "new" / "a.h5"):
        raise ZeroDivisionError
    assert list((tmp_path / "new").iterdir()) == []


def test_a_place_that_is_no_folder(tmp_path: Path) -> None:
    """Guards the message for an unwritable output."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(Failed, match=r"cannot write in .*/file: .* Choose another --out"),
        writer_lock(tmp_path / "file" / "a.h5"),
    ):
        pass


@pytest.mark.parametrize("thing", ["folder", "dangling link", "link to a folder"])
def test_something_else_has_the_name_of_the_lock_file(tmp_path: Path, thing: str) -> None:
    """Guards the message: it names the lock file, not the folder, and nothing is removed."""
    file = tmp_path / "a.h5.lock"
    if thing == "folder":
        file.mkdir()
    else:
        file.symlink_to(tmp_path / "gone" / "file" if thing == "dangling link" else tmp_path)
    with pytest.raises(Failed) as told, writer_lock(tmp_path / "a.h5"):
        pass
    why = "No such file or directory" if thing == "dangling link" else "Is a directory"
    assert str(told.value) == f"{file} is no lock file ({why}). Remove it."
    assert list(tmp_path.iterdir()) == [file]
