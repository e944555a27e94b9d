"""What `scattering` is worth: beside random weights and raw pixels on photos, and on handwritten digits.

    python -m benchmarks.without_weights DATA

Each base at 64 pixels, the same SVM searched inside train, the same test rows, differences with paired 95 % intervals.
Then the digits under five splits, with default settings. And how fast scattering is.
"""

import json
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.results import row, speed
from classify import fit
from classify.comparison.judge import paired_difference
from extract import extract

BASES: dict[str, dict[str, Any]] = {
    "scattering": {"backbone": "scattering"},
    "random VGG16": {"backbone": "vgg16", "weights": "random", "size": 64},
    "raw pixels": {"backbone": "scattering", "layer": "pixels"},
}
DIGIT_MODELS = ("svm", "linearsvm", "logreg")
SEEDS = range(5)


def photos(data: str, folder: Path) -> None:
    """The searched SVM on each base's rows, and how far scattering is ahead."""
    fits = {}
    for name, options in BASES.items():
        stack = extract(data, **options, out=str(folder / f"{name}.h5"))
        if name == "scattering":
            row("scattering, 64 px, whole stage one", f"{speed(stack):.1f} images/s", "150")
        fits[name] = fit(str(stack), "svm", search=True, out=str(folder / name))
    for name, made in fits.items():
        result = json.loads((made / "result.json").read_text())
        figure, bar = f"{result['accuracy']:.2%}", ""
        if name != "scattering":
            ahead, (low, high), _ = paired_difference(fits["scattering"], made)
            figure += f", scattering is {100 * ahead:.1f} points ahead ({100 * low:.1f} to {100 * high:.1f})"
            bar = "above 0"
        row(f"searched svm on {name}, 64 px", figure, bar)


def digits(folder: Path) -> None:
    """Accuracy on a quarter of the digits, for five ways to choose it."""
    found: dict[str, list[float]] = {model: [] for model in DIGIT_MODELS}
    seconds = []
    for seed in SEEDS:
        began = time.perf_counter()
        stack = extract(
            "digits", "scattering", size=32, layer="scale3", seed=seed, out=str(folder / f"digits{seed}.h5")
        )
        seconds.append(time.perf_counter() - began)
        for model, scores in found.items():
            made = fit(str(stack), model, out=str(folder / f"{model}{seed}"))
            scores.append(json.loads((made / "result.json").read_text())["accuracy"])
    row("scattering of the 1,797 digits, 32 px, with building the network", f"{median(seconds):.1f} s", "15 s")
    for model, scores in found.items():
        each = ", ".join(f"{score:.2%}" for score in scores)
        row(f"{model} on scattering of the digits, five splits", f"{np.mean(scores):.2%} ({each})", "99% for the best")


if __name__ == "__main__":
    with TemporaryDirectory() as made_here:
        digits(Path(made_here))
        photos(sys.argv[1], Path(made_here))
