"""Commands as a user types them, run in this process: the same text and exit code, without a start of ten seconds."""

import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

# No weights, and 16 px: what a test of faults needs of a network.
SMALL = ("--backbone", "scattering", "--size", "16", "--layer", "scale1", "--batch", "4", "--device", "cpu")


class Told(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


Command = Callable[..., Told]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`python -m …`: exit code, stdout and stderr, on which no traceback stands."""

    def run(*words: object) -> Told:
        monkeypatch.setattr(sys, "argv", list(map(str, words)))
        before = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as ended:
                runpy.run_module(str(words[0]), run_name="__main__", alter_sys=True)
        finally:
            signal.signal(signal.SIGTERM, before)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Told(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture
def extracted(command: Command, tmp_path: Path) -> Command:
    """`python -m extract DATA … --out a.h5` in the test's folder, on the small network."""

    def run(data: Path, *more: object) -> Told:
        return command("extract", data, *SMALL, "--out", tmp_path / "a.h5", *more)

    return run
