"""One backbone on one of Keras's backends: its forward pass on a GPU, the whole stage around it, and its rows.

    KERAS_BACKEND=jax python -m benchmarks.gpu_case BACKBONE FOLDER [--device cpu --size 32 --images 64]

`python -m benchmarks.gpu` starts one process for each. FOLDER is where images and stacks go. With --device cpu and a
small size it runs anywhere, which shows that it works and measures nothing.

The arithmetic limit is what a product of two large square matrices reaches on the same device and backend, at the same
precision. On a GPU, f32 is computed in tf32, as the backends do by default.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.device import arithmetic_limit, operations, peak_memory, seconds, without_tf32
from benchmarks.results import row, speed
from extract import extract
from extract.backbones import Backbone, backbone_named
from extract.compute.pipeline import read_block
from extract.images.dataset import scan
from extract.network.base import load_base
from extract.network.forward import Forward, compile_forward, fastest_forward
from extract.network.importing import import_keras
from extract.network.network import KerasNetwork
from extract.recipe import Recipe
from features import Failed, open_stack
from features.layout import partial_path
from features.open import open_rows_so_far
from features.runtime.machine import cores

PRECISIONS = ("bf16", "f16", "f32")  # the first chooses the batch
PIXELS = 16_384  # images in memory
FILES = 4_096  # photos, at most
CHECKED = 32  # images whose rows are compared with the CPU's
ROWS_BYTES = 4e9  # of a stack, at most


def bare(forward: Forward, pixels: np.ndarray, device: str) -> float:
    """Images/s of the compiled network on pixels in memory, with as many batches at once as it takes."""
    blocks = [pixels[: forward.batch]] * (4 * forward.lanes)
    with ThreadPoolExecutor(forward.lanes) as lanes:
        list(lanes.map(forward, blocks))
        best, ends = 0.0, time.perf_counter() + seconds(device)
        while (began := time.perf_counter()) < ends:
            list(lanes.map(forward, blocks))
            best = max(best, len(blocks) * forward.batch / (time.perf_counter() - began))
    return best


def photos(folder: Path, count: int) -> Path:
    """So many different JPEGs of 500 × 375 pixels, as heavy as photos, in two class folders."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (64, 12, 16, 3), "u1")
    fine = rng.normal(0, 12, (375, 500, 3))

    def save(i: int) -> None:
        smooth = Image.fromarray(coarse[i % len(coarse)]).resize((500, 375), Image.Resampling.BICUBIC)
        image = np.clip(np.roll(fine, i, axis=1) + np.asarray(smooth), 0, 255).astype("u1")
        Image.fromarray(image).save(folder / "ab"[i % 2] / f"{i:05}.jpg", quality=85)

    for name in "ab":
        (folder / name).mkdir(parents=True)
    with ThreadPoolExecutor(cores()) as threads:
        list(threads.map(save, range(count)))
    return folder


def decoding(recipe: Recipe, batch: int) -> float:
    """Images/s of reading, hashing, decoding and resizing on all cores, and nothing else."""
    paths = recipe.listing.paths
    blocks = [np.arange(start, min(start + batch, len(paths))) for start in range(0, len(paths), batch)]

    def read(rows: np.ndarray) -> None:
        read_block(recipe, [paths[i] for i in rows], np.zeros(len(rows), int), rows)

    began = time.perf_counter()
    with ThreadPoolExecutor(cores()) as readers:
        list(readers.map(read, blocks))
    return len(paths) / (time.perf_counter() - began)


class Case:
    """One backbone on one backend and device, with its weights file in weights/, or else seeded random ones."""

    def __init__(self, name: str, folder: Path, device: str, size: int, images: int) -> None:
        self.backbone: Backbone = backbone_named(name)
        self.size = size or self.backbone.size
        self.device, self.folder, self.images = device, folder, images
        self.backend = import_keras().backend.backend()
        real = Path("weights", f"{name}.weights.h5")
        self.weights = str(real) if real.exists() else "random"
        self.base, _ = load_base(self.backbone, self.weights, self.size, seed=0)
        self.network = KerasNetwork.around(self.base, self.backbone)
        self.pixels = np.random.default_rng(0).integers(0, 256, (min(images, 4096), self.size, self.size, 3), "u1")
        self.batch = 0
        self.rows: dict[str, np.ndarray] = {}  # precision → of the first images

    def compiled(self, precision: str) -> Forward:
        """At the batch that the short measurement finds, in the first precision."""
        if self.batch:
            return compile_forward(self.network, self.batch, self.device, "keras", precision)
        forward = fastest_forward(self.network, self.device, "keras", precision)
        self.batch = min(forward.batch, len(self.pixels))
        return forward if forward.batch == self.batch else self.compiled(precision)

    def forwards(self) -> dict[str, float]:
        """Print the bare forward pass of every precision against the arithmetic limit; returns images/s."""
        speeds = {}
        for precision in PRECISIONS:
            limit = arithmetic_limit(self.device, precision)
            began = time.perf_counter()
            forward = self.compiled(precision)
            took = time.perf_counter() - began
            speeds[precision] = bare(forward, self.pixels, self.device)
            (self.rows[precision],) = forward(self.pixels[: min(CHECKED, self.batch)])
            possible = limit / operations(self.base)
            self.row(
                f"{precision}, bare forward over the arithmetic limit ({limit / 1e12:.0f} TFLOP/s), batch {self.batch}",
                f"{speeds[precision]:,.0f} of {possible:,.0f} images/s: {speeds[precision] / possible:.2f}; "
                f"ready in {took:.0f} s",
                "0.5" if (self.backbone.name, precision) == ("vgg16", "bf16") else "",
            )
        self.row("GPU memory at its peak", f"{peak_memory(self.device):.1f} GB")
        return speeds

    def rows_checked(self) -> None:
        """Print how far rows are from those of the same network on the CPU."""
        images = self.pixels[: min(CHECKED, self.batch)]
        right = compile_forward(self.network, len(images), "cpu")(images)[0]

        def distance(made: np.ndarray) -> str:
            return f"{np.abs(made - right).max() / np.abs(right).max():.1e}"

        with without_tf32():
            exact = distance(compile_forward(self.network, len(images), self.device)(images)[0])
        found = [distance(self.rows[precision]) for precision in ("f32", "bf16", "f16")]
        self.row(
            "rows against the CPU's, largest difference over largest value: tf32, bf16, f16; f32 with tf32 off",
            f"{', '.join(found)}; {exact}",
            "≤ 2e-3 at tf32",
        )

    def extracted(self, data: Path, out: str, precision: str) -> Path:
        return Path(
            extract(
                str(data),
                self.backbone.name,
                weights=self.weights,
                device=self.device,
                engine="keras",
                precision=precision,
                batch=self.batch,
                size=self.size,
                out=str(self.folder / out),
            )
        )

    def whole_stage(self, precision: str, bare: float) -> None:
        """Print the whole stage from pixels, which need no decoding."""
        width = int(np.prod(self.base.output_shape[1:]))
        count = int(min(self.images, ROWS_BYTES / (4 * width)))
        array = self.folder / "pixels.npy"
        if not array.exists():
            np.save(array, np.resize(self.pixels, (self.images, *self.pixels.shape[1:])))
            whole = np.load(array, mmap_mode="r+")
            whole[:, 0, 0] = np.arange(self.images)[:, None] // (1, 256, 65536) % 256  # no two alike
        if count < self.images:
            np.save(self.folder / "fewer.npy", np.load(array, mmap_mode="r")[:count])
            array = self.folder / "fewer.npy"
        stack = self.extracted(array, "array.h5", precision)
        rate = speed(stack)
        self.row(
            f"{precision}, whole stage over bare forward, {count:,} images as pixels",
            f"{rate:,.0f} of {bare:,.0f} images/s: {rate / bare:.2f} ({rate * width * 4 / 1e9:.2f} GB/s of rows)",
            "0.9",
        )
        stack.unlink()

    def from_files(self, precision: str, bare: float) -> None:
        """Print the whole stage from JPEGs, and whether a killed run gives the rows of one that was not."""
        files = self.folder / "photos"
        if not files.exists():
            photos(files, min(FILES, self.images))
        recipe = Recipe(scan(str(files)), self.backbone, self.weights, self.backbone.layer, self.size, seed=0)
        reading = decoding(recipe, self.batch)
        stack = self.extracted(files, "files.h5", precision)
        rate = speed(stack)
        self.row(
            f"{precision}, whole stage over the slower of forward and decoding, JPEGs of 500 × 375",
            f"{rate:,.0f} of {min(bare, reading):,.0f} images/s: {rate / min(bare, reading):.2f}; "
            f"decoding alone {reading:,.0f} images/s on {cores()} cores",
        )
        self._killed(files, stack, precision)
        stack.unlink()

    def _killed(self, files: Path, whole: Path, precision: str) -> None:
        """The same command, killed when a fifth of the rows is there, and given again."""
        out = self.folder / "killed.h5"
        words = f"-m extract {files} --backbone {self.backbone.name} --weights {self.weights}".split()
        words += f"--device {self.device} --engine keras --precision {precision} --batch {self.batch}".split()
        words += f"--size {self.size} --out {out}".split()
        child = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        done, count = 0, len(open_stack(whole))
        while child.poll() is None and done < count / 5:
            time.sleep(0.01)
            with contextlib.suppress(Failed, OSError):  # it is not there yet, or finished just now
                done = len(open_rows_so_far(partial_path(out)))
        child.kill()
        child.wait()
        subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
        one, other = open_stack(whole).X, open_stack(out).X
        same = int((one == other).all(1).sum())
        distance = np.abs(one - other).max() / np.abs(one).max()
        self.row(
            f"{precision}, killed after {done} of {count} rows and resumed: rows with the same bits",
            f"{same} of {count}; largest difference over largest value {distance:.1e}",
        )
        out.unlink()

    def row(self, what: str, figure: str, bar: str = "") -> None:
        row(f"{self.backbone.name} on {self.backend}: {what}", figure, bar)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="gpu")
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--images", type=int, default=PIXELS)
    given = parser.parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    case = Case(given.backbone, given.folder, given.device, given.size, given.images)
    speeds = case.forwards()
    case.rows_checked()
    case.whole_stage("bf16", speeds["bf16"])
    case.from_files("bf16", speeds["bf16"])


if __name__ == "__main__":
    main()
