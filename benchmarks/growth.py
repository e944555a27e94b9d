"""Time and memory of stage two as the rows grow, and as a search grows.

    python -m benchmarks.growth PHOTOS WEIGHTS [NAME …]

Rows are MobileNetV2's of PHOTOS at 64 px (5,120 numbers), their views too, resampled: a row of a photo, plus half the
difference of two others, is one more of that photo's class. Each class is divided into sub-classes by k-means. One row
in twenty is a test row, made of test photos. A `fit` is a process of its own, from opening the stack to the last file.
NAME: `sklearn`, `search`, `million` or a model; by default all. The curves of all models go to benchmarks/growth.svg.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.curves import Point, draw
from benchmarks.results import row
from extract import extract
from features import open_stack
from features.layout import lay_out, layout_path, partial_path
from features.reader import pool_rows
from features.runtime.disk import publish
from features.schema import SPLITS
from features.writer import StackWriter

SIZES = (10_000, 30_000, 99_000)
BARS = {"logreg": 240, "linearsvm": 400, "svm": 400, "xgboost": 600, "knn": 60}  # seconds at the largest
BOUND = 6e9  # bytes of memory at the largest
TEST = 20  # one row in so many
PIECE = 2000  # rows made at a time
MEASURED = """
import json, sys, threading, time
from pathlib import Path
peak = [0]
def watch():
    while True:
        lines = Path("/proc/self/status").read_text().splitlines()
        peak[0] = max(peak[0], next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")))
        time.sleep(0.05)
threading.Thread(target=watch, daemon=True).start()
began = time.perf_counter()
from classify import fit
found = json.loads((fit(sys.argv[1], model=sys.argv[2], search=sys.argv[4] == "search", out=sys.argv[3]) /
                    "result.json").read_text())
print(json.dumps([time.perf_counter() - began, peak[0] * 1024, found["accuracy"], found.get("path", "pooled")]))
"""


def measured(stack: Path, model: str, how: str = "") -> tuple[float, int, float, str]:
    """Seconds, peak bytes, test accuracy and path of one fit."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", MEASURED, str(stack), model, f"{folder}/m", how]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, peak, accuracy, path = json.loads(done.stdout)
    return seconds, peak, accuracy, path


class Source:
    """Real rows to resample, and sub-classes of their classes."""

    def __init__(self, stack: Path, classes: int) -> None:
        from sklearn.cluster import KMeans

        held = open_stack(stack)
        self.attrs, self.shape = held.attrs, held.feature_shape
        self.rows = np.asarray(held.X)
        self.test = held.split == SPLITS["test"]
        pooled = pool_rows(self.rows, held.feature_shape, "avg")
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
        self.codes = np.zeros(len(held), np.int64)
        shares = np.diff(np.linspace(0, classes, len(held.label_names) + 1).astype(int))
        for label, count in enumerate(shares):
            mine = held.y == label
            means = KMeans(count, n_init=1, random_state=0).fit(pooled[mine & ~self.test])
            self.codes[mine] = shares[:label].sum() + means.predict(pooled[mine])

    def grown(self, count: int, path: Path, pool: bool = False) -> Path:
        """A stack of so many resampled rows; pooled ones are stored as float16."""
        random = np.random.default_rng(count)
        test = np.arange(count) % TEST == 0
        chosen = np.where(
            test, random.choice(np.flatnonzero(self.test), count), random.choice(np.flatnonzero(~self.test), count)
        )
        chosen = chosen[np.argsort(self.codes[chosen], kind="stable")]  # as an extraction has them: class by class
        names = [f"sub{code:03}" for code in range(self.codes.max() + 1)]
        known = {"paths": [f"{i:07}.jpg" for i in range(count)], "labels": self.codes[chosen]}
        known["view"] = np.zeros(count, "i4")
        attrs = self.attrs | ({"pool": "avg", "store": "f16", "dtype": "float16"} if pool else {})
        shape = self.shape[-1:] if pool else self.shape
        for name in ("format", "format_version", "feature_shape"):
            attrs.pop(name, None)
        lay_out(layout_path(path), known, names, shape, attrs)
        publish(layout_path(path), partial_path(path))
        with StackWriter(path) as writer:
            for start, rows in self._pieces(chosen, random):
                digests = [hashlib.sha256(b"%d" % i).digest() for i in range(start, start + len(rows))]
                stats: dict[str, np.ndarray] = {"sha256": np.frombuffer(b"".join(digests), "u1").reshape(-1, 32)}
                stats |= {name: np.zeros(len(rows), "i8") for name in ("size", "mtime_ns")}
                made = pool_rows(rows, self.shape, "avg") if pool else rows
                writer.write(start, made, stats, np.zeros(len(rows), bool), 0.0)
            split = np.where(self.test[chosen], SPLITS["test"], SPLITS["train"])
            return writer.finish(split.astype("u1"), {})

    def _pieces(self, chosen: np.ndarray, random: np.random.Generator) -> Iterator[tuple[int, np.ndarray]]:
        others = {False: np.flatnonzero(~self.test), True: np.flatnonzero(self.test)}
        for start in range(0, len(chosen), PIECE):
            mine = chosen[start : start + PIECE]
            pairs = {test: random.choice(rows, (2, len(mine))) for test, rows in others.items()}
            one, other = np.where(self.test[mine], pairs[True], pairs[False])
            yield start, np.maximum(self.rows[mine] + 0.5 * (self.rows[one] - self.rows[other]), 0)


def beside_scikit_learn(stack: Path) -> None:
    """A row on logistic regression of our own and scikit-learn's, on the same rows in one process each."""
    from sklearn.linear_model import LogisticRegression

    from classify.classical.linear import SpanLinear
    from classify.models import MODELS
    from classify.rows import unit_rows

    train = open_stack(stack).select(("train", "val"))
    y = np.unique(train.y, return_inverse=True)[1]
    began = time.perf_counter()
    ours = MODELS["logreg"].build(0).set_params(path="passes").fit(train, y)
    seconds = time.perf_counter() - began
    X = unit_rows(np.asarray(train.X))
    began = time.perf_counter()
    theirs = LogisticRegression(C=ours.C_, tol=1e-5, max_iter=10_000).fit(X, y)
    took = time.perf_counter() - began
    losses = [_loss(model, X, y, ours.C_) for model in (ours.model_, theirs)]
    above = losses[0] / losses[1] - 1
    assert isinstance(ours, SpanLinear)
    what = f"logreg, {len(train):,} × {X.shape[1]:,}, {y.max() + 1} classes, against `LogisticRegression(tol=1e-5)`"
    row(what, f"{seconds:.1f} against {took:.1f} s: {took / seconds:.1f}×, loss {above:+.1e}", "5×, the same loss")


def _loss(model: object, X: np.ndarray, y: np.ndarray, C: float) -> float:
    coef, intercept = model.coef_, model.intercept_  # type: ignore[attr-defined]
    total = 0.0
    for start in range(0, len(X), PIECE):
        scores = X[start : start + PIECE].astype("f8") @ coef.T + intercept
        own = scores[np.arange(len(scores)), y[start : start + PIECE]]
        total += float((np.logaddexp.reduce(scores, axis=1) - own).sum())
    return C * total + 0.5 * float((coef**2).sum())


def models(source: Source, folder: Path, names: list[str]) -> None:
    """Rows and curves of models at every size."""
    points: dict[str, list[Point]] = {model: [] for model in names}
    for size in SIZES:
        flat = source.grown(size, folder / f"{size}.h5")
        for model in names:
            seconds, peak, accuracy, path = measured(flat, model)
            points[model].append(Point(size, seconds, peak))
            bars = f"{BARS[model]} s, {BOUND / 1e9:.0f} GB" if size == SIZES[-1] else ""
            width = 1280 if path == "pooled" else 5120
            what = f"{model} ({path}), {size:,} × {width:,}, {source.codes.max() + 1} classes"
            row(what, f"{seconds:.0f} s, {peak / 1e9:.1f} GB, {accuracy:.1%} right", bars)
        flat.unlink()
    if len(names) == len(BARS):
        draw(points, Path(__file__).with_name("growth.svg"))
    for model, found in points.items():
        (a, b) = found[1], found[-1]
        slope = np.log(b.seconds / a.seconds) / np.log(b.rows / a.rows)
        row(f"{model}: exponent of time from {a.rows:,} to {b.rows:,} rows", f"{slope:.2f}", "≤ 1.15")


def main(photos: str, weights: str, *names: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        out = extract(photos, "mobilenetv2", weights=weights, size=64, views=5, out=f"{place}/real.h5")
        wanted = names or ("sklearn", "search", *BARS, "million")
        if {"sklearn", "search"} & set(wanted):
            stack = Source(Path(str(out)), 25).grown(24_000, folder / "25.h5")
            if "sklearn" in wanted:
                beside_scikit_learn(stack)
            if "search" in wanted:
                one, all_of_them = (measured(stack, "logreg", how)[0] for how in ("", "search"))
                figure = f"{all_of_them:.0f} against {one:.0f} s: {all_of_them / one:.1f}×"
                row("logreg, 9 candidates × 5 folds and the fit against the fit alone, 24,000 × 5,120", figure, "≤ 6×")
        chosen = [model for model in BARS if model in wanted]
        if chosen or "million" in wanted:
            source = Source(Path(str(out)), 101)
            if chosen:
                models(source, folder, chosen)
            if "million" in wanted:
                stack = source.grown(1_000_000, folder / "million.h5", pool=True)
                seconds, peak, accuracy, _ = measured(stack, "logreg")
                figure = f"{seconds / 60:.1f} min, {peak / 1e9:.1f} GB, {accuracy:.1%} right"
                row("logreg, 1,000,000 × 1,280, float16, 101 classes", figure, "15 min, 4 GB")


if __name__ == "__main__":
    main(*sys.argv[1:])
