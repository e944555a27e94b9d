"""Stage one on a GPU: every backbone on every backend, each in a process of its own, within some minutes.

    python -m benchmarks.gpu [--minutes 6] [--only jax/vgg16 …] [--device cpu --size 32 --images 64]

Runs from the folder that `make gpu-kit` gathers, on a machine with PyTorch and JAX, or where all is installed. Packages
that are missing are installed from wheels/ into a folder of its own. The rows go to benchmarks/RESULTS.md. A case that
fails or finds no time left is named there.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CASES = [
    f"{backend}/{name}"
    for backend in ("jax", "torch")
    for name in ("vgg16", "mobilenetv2", "resnet50", "efficientnetb0")
]
IMPORTED_AS = {"absl_py": "absl", "markdown_it_py": "markdown_it", "pillow": "PIL"}  # else as the wheel is called


def install_missing(wheels: Path, into: Path) -> None:
    """Install the wheels whose package cannot be imported, for this process and its children."""
    names = {wheel: wheel.name.split("-")[0] for wheel in wheels.glob("*.whl")}
    missing = [wheel for wheel, name in names.items() if not importlib.util.find_spec(IMPORTED_AS.get(name, name))]
    if missing:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-cache-dir"]
        subprocess.run([*pip, "--disable-pip-version-check", "--target", str(into), *map(str, missing)], check=True)
        sys.path.append(str(into))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(into)]))


def measured(case: str, folder: Path, options: list[str], seconds: float) -> list[str]:
    """The rows that one case printed; those before it failed or ran out of time are kept."""
    backend, name = case.split("/")
    env = {**os.environ, "KERAS_BACKEND": backend, "PYTHONUNBUFFERED": "1", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    words = [sys.executable, "-m", "benchmarks.gpu_case", name, str(folder / case), *options]
    (folder / case).mkdir(parents=True)
    child = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True)
    try:
        printed, _ = child.communicate(timeout=max(1.0, seconds))
        ended = "" if child.returncode == 0 else "failed"
    except subprocess.TimeoutExpired:
        child.kill()
        printed, _ = child.communicate()
        ended = "not finished in the time that was left"
    rows = [line for line in printed.splitlines() if line.startswith("| ")]
    return rows + ([f"| {name} on {backend} | {ended} | |"] if ended else [])


def gpu_name() -> str:
    """As the driver calls it."""
    try:
        asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        return subprocess.run(asked, stdout=subprocess.PIPE, text=True).stdout.strip()
    except FileNotFoundError:
        return "no GPU"


def main() -> None:
    began = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--only", nargs="+", default=CASES, metavar="BACKEND/BACKBONE")
    given, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        install_missing(Path("wheels"), folder / "site")
        from benchmarks.table import RESULTS, Table, busy_cores, machine

        table, rows = Table(f"{machine()}, {gpu_name()}"), []
        beside = busy_cores()
        for case in given.only:
            print(f"{time.strftime('%H:%M:%S')} {case}", file=sys.stderr, flush=True)
            left = began + 60 * given.minutes - time.perf_counter()
            rows += measured(case, folder, options, left)
        table.renew("gpu", rows, beside)
        table.write()
        print(*rows, RESULTS, sep="\n")


if __name__ == "__main__":
    main()
