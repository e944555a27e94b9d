"""How familiar images seem to a model that are nothing like its train photos, and its own test photos.

    python -m benchmarks.familiar PHOTOS WEIGHTS

Logistic regression on MobileNetV2. Black images, noise and scikit-learn's handwritten digits, 100 of each.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.results import row
from classify import Classifier, fit
from classify.familiarity import LEAST
from extract import extract
from features import open_stack

COUNT = 100  # images of a kind


def kinds() -> dict[str, list[np.ndarray]]:
    """Kind → (side, side, 3) uint8 images."""
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(0)
    wide = load_digits().images[:COUNT, :, :, None]
    return {
        "black images": [np.zeros((256, 256, 3), "u1")] * COUNT,
        "noise": list(rng.integers(0, 256, (COUNT, 256, 256, 3), "u1")),
        "handwritten digits": [np.kron(digit * 15.9, np.ones((32, 32, 1))).repeat(3, 2).astype("u1") for digit in wide],
    }


def main(photos: str, weights: str) -> None:
    with TemporaryDirectory() as name:
        stack = extract(photos, "mobilenetv2", weights=weights, out=f"{name}/a.h5")
        model = Classifier.load(fit(str(stack), "logreg", out=f"{name}/logreg"), weights)
        test = open_stack(stack).select(("test",))
        own = [Path(test.attrs["dataset_root"]) / path for path in test.paths]
        shown: dict[str, list[Any]] = {**kinds(), "its own test photos": own}
        for kind, images in shown.items():
            found = np.array([each.familiar for each in model.stream(images)], float)
            low = float((found < LEAST).mean())
            row(
                f"`familiar` of {kind}: share below {LEAST}",
                f"{low:.1%} of {len(found):,}, median {np.median(found):.2f}",
            )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
