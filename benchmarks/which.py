"""Which backbone: whole comparisons of feature sets, and their cells through scikit-learn on the raw rows.

    python -m benchmarks.which PHOTOS WEIGHTS

Six stacks of the photos (MobileNetV2's last layer and block_14_add, each as it is and pooled; 160 pixels; scattering)
under four models on ten splits; learning curves on one stack; then a few cells on 250 photos, ours and scikit-learn's:
nested cross-validation, `RepeatedStratifiedKFold` around `GridSearchCV`, which in ours is the same splits and folds.
"""

import dataclasses
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.svm import SVC

from benchmarks.results import row
from classify import compare
from classify.across.cells import Job, answers
from classify.across.feature_set import feature_sets
from classify.across.splits import Split
from classify.fitting import Settings
from classify.folds import folds
from classify.models import MODELS
from classify.rows import unit_centre
from extract import extract, extract_layers
from features import open_stack
from features import pool as pooled_stack
from features.runtime.machine import cores

REPEATS, FEW, OUTER, INNER = 10, 250, 4, 5
GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "logreg": {"c": (1.0, 10.0, 100.0)},
    "svm": {"C": (1.0, 10.0), "gamma": (0.5, 1.5)},
}


def stacks(photos: str, weights: str, folder: Path) -> list[Path]:
    """The six stacks."""
    how = {"data": photos, "backbone": "mobilenetv2", "weights": weights}
    both = extract_layers(["block_14_add", "out_relu"], **how, out=str(folder))
    small = extract(**how, size=160, out=str(folder / "160.h5"))  # type: ignore[arg-type]
    formula = extract(photos, "scattering", out=str(folder / "scattering.h5"))
    return [*both, *(pooled_stack(str(each)) for each in both), small, formula]


def whole(six: list[Path], folder: Path) -> None:
    """Rows on the whole comparison, and on learning curves of the first stack alone."""
    began = time.perf_counter()
    report = compare([str(each) for each in six], repeats=REPEATS, out=str(folder / "six"))
    seconds = time.perf_counter() - began
    cells = sum(each["repeats"] for each in report.table() if each["model"] != "ensemble")
    widths = [int(np.prod(open_stack(each).feature_shape)) for each in six]
    what = f"`compare` of 6 stacks of {len(open_stack(six[0])):,} photos, widths {min(widths):,} to {max(widths):,}"
    row(f"{what}: 4 models × {REPEATS} splits, {cells} cells", f"{seconds / 60:.1f} min", "12 min")
    began = time.perf_counter()
    compare(str(max(six, key=lambda each: each.stat().st_size)), curves=True, out=str(folder / "one"))
    row("`compare --curves` of one stack, the widest", f"{time.perf_counter() - began:.0f} s", "60 s")


def beside(stack: Path) -> None:
    """Rows on nested cross-validation of a few photos: ours, then scikit-learn's on the raw rows in memory."""
    opened = open_stack(stack)
    some = opened.take(np.sort(np.random.default_rng(0).permutation(len(opened))[:FEW]))
    y = np.unique(some.y, return_inverse=True)[1]
    outer = RepeatedStratifiedKFold(n_splits=OUTER, n_repeats=1, random_state=0)
    divided = list(outer.split(y, y))
    inner = [[(train[a], train[b]) for a, b in folds(some.take(train), y[train])] for train, _ in divided]
    right: list[float] = []
    began = time.perf_counter()
    (features,) = feature_sets([some], y, None)
    for name, grid in GRIDS.items():
        model = dataclasses.replace(MODELS[name], grid=grid)
        for (train, test), within in zip(divided, inner, strict=True):
            split = Split(0, train, test, within, some.split)
            said = answers(model, features, split, Settings(search=True), Job(Path(), {}, {}))
            right.append(float(np.mean(said.predicted == y[test])))
    ours = time.perf_counter() - began
    raw = np.asarray(some.X)
    plain: list[float] = []
    began = time.perf_counter()
    for name in GRIDS:
        for (train, test), within in zip(divided, inner, strict=True):
            spread = unit_centre(raw[train])[1]
            place = {row: i for i, row in enumerate(train.tolist())}
            cv = [tuple(np.array([place[row] for row in part.tolist()]) for part in pair) for pair in within]
            search = GridSearchCV(*_plain(name, spread), cv=cv, n_jobs=cores()).fit(raw[train], y[train])
            plain.append(float(search.score(raw[test], y[test])))
    theirs = time.perf_counter() - began
    scores = f"mean accuracy {np.mean(right):.2%} and {np.mean(plain):.2%}"
    figure = f"{ours:.2f} against {theirs:.0f} s: {theirs / ours:.0f}×, {scores}"
    what = f"logreg and svm with a search, {OUTER} splits of {FEW} photos, against `GridSearchCV` on the raw rows"
    row(what, figure, "50×")


def _plain(name: str, spread: float) -> tuple[object, dict[str, list[float]]]:
    if name == "svm":
        grid = {"svc__C": list(GRIDS[name]["C"]), "svc__gamma": [gamma / spread for gamma in GRIDS[name]["gamma"]]}
        return make_pipeline(Normalizer(), SVC()), grid
    estimator = LogisticRegression(max_iter=1000, tol=1e-5)
    return make_pipeline(Normalizer(), estimator), {"logisticregression__C": [c / spread for c in GRIDS[name]["c"]]}


def main(photos: str, weights: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        six = stacks(photos, weights, Path(folder))
        beside(six[1])
        whole(six, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
