"""SIGKILL the whole command at twenty random moments, a rerun after each, and compare with an undisturbed run.

    python benchmarks/kill_twenty.py [DATA] [extract options …]

Default: 600 noise photos, VGG16 on seeded random weights at 64 px. Prints one line a kill, and exits 1 where a single
bit of a row, or the order of the rows, differs.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from features.hdf5 import open_hdf5

REPO = Path(__file__).resolve().parents[1]
KILLS = 20
OPTIONS = ["--backbone", "vgg16", "--weights", "random", "--size", "64", "--batch", "8"]


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, *options = sys.argv[1:] or [str(noise(folder / "photos")), *OPTIONS]
        command = [sys.executable, "-m", "extract", str(Path(data).resolve()), *options, "--out"]
        env = os.environ | {"PYTHONPATH": str(REPO)}
        straight, killed = folder / "straight.h5", folder / "killed.h5"
        began = time.perf_counter()
        subprocess.run([*command, straight], env=env, check=True, capture_output=True)
        whole = time.perf_counter() - began
        print(f"undisturbed: {whole:.1f} s")
        moments = random.Random(0)
        for kill in range(1, KILLS + 1):
            process = subprocess.Popen(
                [*command, killed], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            seconds = moments.uniform(0, whole)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            print(f"kill {kill:2}: after {seconds:4.1f} s, exit {process.returncode:3}, {state(killed)}", flush=True)
            if killed.exists():  # done: the remaining kills go to a stack begun anew
                if not same(straight, killed):
                    return 1
                killed.unlink()
        subprocess.run([*command, killed], env=env, check=True, capture_output=True)
        if not same(straight, killed):
            return 1
    print("every finished stack: rows bit-identical to the undisturbed run's, in the same order")
    return 0


def noise(root: Path) -> Path:
    source = np.random.default_rng(0)
    for i in range(600):
        path = root / f"class{i % 3}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source.integers(0, 256, (80, 100, 3), "u1")).save(path)
    return root


def state(stack: Path) -> str:
    """How far a stack is."""
    if stack.exists():
        return "finished"
    partial = stack.with_name(stack.name + ".partial")
    if not partial.exists():
        return "nothing laid out yet"
    with open_hdf5(partial) as file:
        done = file["row_state"][:] == 1
    return f"{done.sum()} of {len(done)} rows"


def same(one: Path, other: Path) -> bool:
    """Whether two stacks hold the same bytes in every row of every dataset."""
    with open_hdf5(one) as a, open_hdf5(other) as b:
        differing = [
            name
            for name in a
            if name != "extract_seconds" and (name not in b or a[name][()].tobytes() != b[name][()].tobytes())
        ]
    if differing:
        print(f"{other} differs in {', '.join(differing)}")
    return not differing


if __name__ == "__main__":
    sys.exit(main())
