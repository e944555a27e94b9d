"""What colour profiles change: photos that mean Display P3 or Adobe RGB, read as if they were sRGB, and converted.

    python -m benchmarks.colour PHOTOS WEIGHTS

PHOTOS and WEIGHTS as for `python -m benchmarks`. A logistic regression on MobileNetV2's rows is fitted to the train
photos as they are, and predicts the test photos in either colour space. Then the time that a profile takes.
"""

import io
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.profiles import ADOBE_RGB, DISPLAY_P3, SRGB, Space, rgb_profile
from benchmarks.results import row
from classify.comparison.intervals import difference_interval
from extract import extract
from extract.backbones import backbone_named
from extract.images.decode import decode, squash
from extract.network.forward import choose_device, compile_forward
from extract.network.network import KerasNetwork
from features import Stack, open_stack

SPACES = {"Display P3": DISPLAY_P3, "Adobe RGB": ADOBE_RGB}
BATCH = 50
LARGE = 4000, 3000  # pixels
TIMES = 20


def levels_in(space: Space, images: np.ndarray) -> np.ndarray:
    """(…, 3) uint8 sRGB → the levels with which a colour space says the same colours."""
    primaries, gamma = space
    values = images / 255
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    light = np.clip(light @ np.array(SRGB[0]) @ np.linalg.inv(np.array(primaries)), 0, 1)
    if gamma is None:
        return np.round(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)).astype(
            "u1"
        )
    return np.round(255 * light ** (1 / gamma)).astype("u1")


def rows_in(space: Space, test: Stack, weights: str, profile: bytes | None) -> np.ndarray:
    """(n, width) rows of a stack's images, had a camera saved them in another colour space, with a profile or none."""
    backbone, root = backbone_named("mobilenetv2"), Path(test.attrs["dataset_root"])
    network = KerasNetwork.named(backbone, weights, backbone.size, 0, [backbone.layer])
    forward = compile_forward(network, BATCH, choose_device("auto"))

    def read(path: str) -> np.ndarray:
        photo = np.asarray(decode((root / path).read_bytes(), backbone.size))
        return squash(decode(saved(Image.fromarray(levels_in(space, photo)), "PNG", profile)), backbone.size)

    images = np.stack([read(path) for path in test.paths])
    return np.concatenate([forward(images[start : start + BATCH])[0] for start in range(0, len(images), BATCH)])


def saved(image: Image.Image, kind: str, profile: bytes | None) -> bytes:
    """An image file."""
    file = io.BytesIO()
    image.save(file, kind, icc_profile=profile, **({"compress_level": 1} if kind == "PNG" else {"quality": 92}))
    return file.getvalue()


def durations(photo: Path) -> None:
    """A row on the milliseconds that decoding takes with a profile, without one, and with that of sRGB."""
    large = Image.open(photo).convert("RGB").resize(LARGE)
    for side in (224, None):
        files = {"none": saved(large, "JPEG", None)}
        files |= {name: saved(large, "JPEG", rgb_profile(space)) for name, space in (SPACES | {"sRGB": SRGB}).items()}
        spent: dict[str, list[float]] = {name: [] for name in files}
        for _ in range(TIMES):
            for name, data in files.items():
                start = time.perf_counter()
                decode(data, side)
                spent[name].append(1000 * (time.perf_counter() - start))
        figure = ", ".join(f"{name} {np.median(each):.1f} ms" for name, each in spent.items())
        row(f"a 12-megapixel JPEG {f'for {side} px' if side else 'in full'}, by profile", figure)


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
            for how, profile in (("read as sRGB", None), ("converted", rgb_profile(space))):
                rows = rows_in(space, test, weights, profile)
                drift = np.median(np.linalg.norm(rows - test.X, axis=1) / np.linalg.norm(test.X, axis=1))
                now = model.predict(pool(rows)) == test.y
                change, (low, high) = now.mean() - right.mean(), difference_interval(now, right)
                points = f"{100 * change:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
                row(f"{name} {how}, mobilenetv2", f"rows {drift:.1%} of their length away; logreg {points}")
        durations(Path(test.attrs["dataset_root"]) / test.paths[0])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
