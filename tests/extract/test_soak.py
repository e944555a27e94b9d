"""Fifty thousand images through stage one, as a user runs it: memory, files and threads stay what they were."""

import re
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny import environment, photos

from features import verify
from features.layout import partial_path

IMAGES = 50_000
SMALL = ("--backbone", "scattering", "--size", "32", "--layer", "scale3", "--device", "cpu")


def used(pid: int) -> tuple[float, int, int]:
    """MB of memory that are the process's own, open files, threads."""
    status = Path(f"/proc/{pid}/status").read_text()
    memory, threads = (int(re.findall(rf"{name}:\s+(\d+)", status)[0]) for name in ("RssAnon", "Threads"))
    return memory / 1024, len(list(Path(f"/proc/{pid}/fd").iterdir())), threads


@pytest.mark.soak
def test_fifty_thousand_images(tmp_path: Path) -> None:
    """From a tenth of the rows to the last: flat."""
    photos(tmp_path / "photos", classes=10, each=IMAGES // 10, side=32)
    words = [sys.executable, "-m", "extract", "photos", *SMALL, "--out", "a.h5"]
    seen: list[tuple[int, float, int, int]] = []
    with (
        open(tmp_path / "said", "w+") as said,
        subprocess.Popen(words, cwd=tmp_path, env=environment(), stdout=said, stderr=said) as process,
    ):
        while process.poll() is None:
            time.sleep(1)
            try:
                with h5py.File(partial_path(tmp_path / "a.h5"), "r", locking=False) as file:
                    seen.append((int((file["row_state"][:] == 1).sum()), *used(process.pid)))
            except (OSError, IndexError):  # not begun yet, or finished meanwhile
                continue
        said.seek(0)
        text = said.read()
    assert process.returncode == 0, text
    warm = np.array([numbers for rows, *numbers in seen if IMAGES / 10 <= rows < IMAGES])
    assert len(warm) >= 20
    first, last = warm[: len(warm) // 4].max(0), warm[-(len(warm) // 4) :].max(0)
    line = next(line for line in text.splitlines() if " images read, " in line)
    for name, before, after in zip(("MB of memory", "open files", "threads"), first, last, strict=True):
        print(f"{name}: at most {before:.0f} in the first quarter after the warm-up, {after:.0f} in the last; {line}")
    assert last[0] <= first[0] + 20
    assert (last[1:] <= first[1:]).all()
    assert verify(str(tmp_path / "a.h5"))["images"] == IMAGES
