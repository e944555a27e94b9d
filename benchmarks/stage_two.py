"""The search of stage two: seconds, memory, and the same grid by GridSearchCV over the raw rows.

    python -m benchmarks.stage_two STACK [--full]

The whole SVM grid and logistic regression's, from opening the stack to test predictions, each with its peak of
anonymous memory against 3 · n² · 8 bytes + 1 GB, n = train + test rows; then a small grid on 250 rows, ours and
scikit-learn's side by side, and the ratio. `--full` adds that grid at all train rows, which takes scikit-learn hours.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.svm import SVC

from benchmarks.results import row
from classify.classical.kernel import KernelSVC
from classify.classical.search import search
from classify.folds import folds
from features import open_stack
from features.runtime.machine import cores

SIZES = (250,)
BARS = {"svm": 60, "logreg": 120}  # model → seconds
GRID = {"C": (1.0, 10.0), "gamma": (0.5, 1.5)}
WHOLE = """
import json, sys, threading, time
from pathlib import Path
peak = [0]
def watch():
    while True:
        lines = Path("/proc/self/status").read_text().splitlines()
        peak[0] = max(peak[0], next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")))
        time.sleep(0.02)
threading.Thread(target=watch, daemon=True).start()
from classify import fit
began = time.perf_counter()
result = json.loads((fit(sys.argv[1], model=sys.argv[2], search=True, out=sys.argv[3]) / "result.json").read_text())
print(json.dumps([time.perf_counter() - began, peak[0] * 1024, len(result["search"]), result["accuracy"],
                  result["n_train"] + result["n_test"]]))
"""


def whole(stack: str, model: str, folder: Path) -> None:
    """A row on one model's whole search, in a process of its own."""
    command = [sys.executable, "-c", WHOLE, stack, model, str(folder / model)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, peak, candidates, accuracy, rows = json.loads(done.stdout)
    bound = 3 * rows**2 * 8 + 1e9
    figure = f"{seconds:.1f} s, test accuracy {accuracy:.2%}, peak {peak / 1e6:,.0f} MB"
    bar = f"{BARS[model]} s, {bound / 1e6:,.0f} MB"
    row(f"{model}: {candidates} candidates × 5 folds, from opening the stack to test predictions", figure, bar)


def beside(stack: str, rows: int) -> None:
    """A row on a small grid: ours, then scikit-learn's on the raw rows in memory, on the same folds."""
    train = open_stack(stack).select(("train", "val"))
    chosen = np.sort(np.random.default_rng(0).permutation(len(train))[:rows])
    some = train.take(chosen)
    y = np.unique(some.y, return_inverse=True)[1]
    splits = folds(some, y)
    began = time.perf_counter()
    found = search(KernelSVC(), GRID, some, y, splits, jobs=cores())
    ours = time.perf_counter() - began
    raw = np.asarray(some.X)
    assert found.products is not None  # the kernel's path has them
    scale = KernelSVC().scale(some, found.products)
    grid = {"svc__C": GRID["C"], "svc__gamma": [gamma / scale for gamma in GRID["gamma"]]}
    began = time.perf_counter()
    plain = GridSearchCV(make_pipeline(Normalizer(), SVC()), grid, cv=splits, refit=False)
    plain.set_params(n_jobs=cores()).fit(raw, y)
    theirs = time.perf_counter() - began
    same = np.allclose(sorted(entry["mean"] for entry in found.table), sorted(plain.cv_results_["mean_test_score"]))
    figure = f"{ours:.2f} against {theirs:.1f} s: {theirs / ours:.0f}×, scores {'the same' if same else 'DIFFER'}"
    row(f"svm, 4 candidates × 5 folds on {rows:,} rows, against `GridSearchCV` on the raw rows", figure, "100×")


def main(stack: str, full: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for model in BARS:
            whole(stack, model, Path(folder))
    for rows in (*SIZES, len(open_stack(stack).select(("train", "val")))) if full else SIZES:
        beside(stack, rows)


if __name__ == "__main__":
    main(sys.argv[1], "--full" in sys.argv)
