"""What it costs to ignore colour profiles: photos whose levels mean Display P3 or Adobe RGB, read as if they were sRGB.

    python -m benchmarks.colour PHOTOS WEIGHTS

PHOTOS and WEIGHTS as for `python -m benchmarks`. A logistic regression on MobileNetV2's rows is fitted to the train
photos as they are, and predicts the test photos in either colour space.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.results import row
from classify.comparison.statistics import difference_interval
from extract import extract
from extract.backbones import backbone_named
from extract.images.decode import decode, squash
from extract.network.base import load_base
from extract.network.forward import choose_device, compile_forward
from features import Stack, open_stack

# Colorants adapted to D50 (columns red, green, blue), and the power of the curve.
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
SPACES = {
    "Display P3": np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]),
    "Adobe RGB": np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]),
}
GAMMA = 2.2
BATCH = 50


def levels_in(space: np.ndarray, images: np.ndarray) -> np.ndarray:
    """(…, 3) uint8 sRGB → the levels with which a colour space says the same colours; sRGB's curve as a power."""
    linear = (images / 255) ** GAMMA @ (np.linalg.inv(space) @ SRGB).T
    return np.round(255 * linear.clip(0, 1) ** (1 / GAMMA)).astype("u1")


def rows_in(space: np.ndarray, test: Stack, weights: str) -> np.ndarray:
    """(n, width) rows of a stack's images, had a camera saved them in another colour space and nobody looked."""
    backbone, root = backbone_named("mobilenetv2"), Path(test.attrs["dataset_root"])
    base, _ = load_base(backbone, weights, backbone.size, seed=0)
    forward = compile_forward(base, backbone, BATCH, choose_device("auto"))
    images = np.stack([squash(decode((root / path).read_bytes(), backbone.size), backbone.size) for path in test.paths])
    pieces = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    return np.concatenate([forward(levels_in(space, piece)) for piece in pieces])


def main(data: str, weights: str) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import normalize

    with TemporaryDirectory() as folder:
        stack = open_stack(extract(data, "mobilenetv2", weights=weights, out=f"{folder}/photos.h5"))
        train, test = stack.select(("train", "val")), stack.select("test")
        pool: Any = lambda rows: normalize(rows.reshape(len(rows), -1, stack.feature_shape[-1]).mean(1))  # noqa: E731
        model = LogisticRegression(C=30, max_iter=2000).fit(pool(train.X), train.y)
        right = model.predict(pool(test.X)) == test.y
        for name, space in SPACES.items():
            rows = rows_in(space, test, weights)
            drift = np.median(np.linalg.norm(rows - test.X, axis=1) / np.linalg.norm(test.X, axis=1))
            now = model.predict(pool(rows)) == test.y
            change, (low, high) = now.mean() - right.mean(), difference_interval(now, right)
            points = f"{100 * change:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
            figure = f"rows {drift:.1%} of their length away; logreg {points}"
            row(f"{name} read as sRGB, mobilenetv2", figure)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
