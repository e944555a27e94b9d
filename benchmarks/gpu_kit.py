"""Gather what `python -m benchmarks.gpu` needs on a machine that has a GPU and no network: build/gpu-kit.

    python -m benchmarks.gpu_kit [WEIGHTS]

The folder holds the code of stage one, the wheels of the packages that it needs (for Python 3.12 on x86-64 Linux), and
WEIGHTS, MobileNetV2's weights file, if it is given. The other networks get random weights.
"""

import shutil
import subprocess
import sys
from pathlib import Path

KIT = Path("build/gpu-kit")
# Stage one's packages and their own, but for PyTorch and JAX, and NumPy, which these bring
PACKAGES = """
    keras absl-py rich markdown-it-py mdurl pygments namex optree ml-dtypes packaging typing-extensions
    h5py pillow tqdm threadpoolctl
"""
LIMIT = 60 * 2**20  # bytes


def copy_code(kit: Path) -> None:
    """Copy what stage one and the benchmark consist of."""
    for room in ("extract", "features", "benchmarks"):
        for file in Path(room).rglob("*.*"):
            if file.suffix in (".py", ".md"):
                (kit / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, kit / file)


def gather(weights: str | None = None) -> Path:
    """Make the folder anew."""
    shutil.rmtree(KIT, ignore_errors=True)
    copy_code(KIT)
    wanted = ["--only-binary=:all:", "--no-deps", "--python-version", "3.12", "--implementation", "cp"]
    for tag in ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"):
        wanted += ["--platform", tag]
    into = ["--quiet", "--disable-pip-version-check", "--constraint", "constraints.txt", "--dest", str(KIT / "wheels")]
    subprocess.run([sys.executable, "-m", "pip", "download", *wanted, *into, *PACKAGES.split()], check=True)
    if weights:
        (KIT / "weights").mkdir()
        shutil.copy(weights, KIT / "weights/mobilenetv2.weights.h5")
    return KIT


def main(*weights: str) -> None:
    kit = gather(*weights)
    size = sum(file.stat().st_size for file in kit.rglob("*") if file.is_file())
    if size > LIMIT:
        sys.exit(f"{kit} is {size / 2**20:.0f} MiB, and may be {LIMIT / 2**20:.0f}")
    print(f"{kit}: {size / 2**20:.0f} MiB. On the machine with the GPU: cd gpu-kit && python3 -m benchmarks.gpu")


if __name__ == "__main__":
    main(*sys.argv[1:])
