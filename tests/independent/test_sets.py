"""How often the true label is in a prediction set, where models are fitted to few rows: by simulation."""

import numpy as np
import pytest
from evidence import record
from threadpoolctl import threadpool_limits

from classify.classical.search import search
from classify.coverage import Coverage, sets
from classify.folds import folds
from classify.models import MODELS

CLASSES, WIDTH, ASKED, NEW = 4, 20, 0.9, 400


def drawn(random: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of classes that overlap, and their labels."""
    y = np.arange(rows) % CLASSES
    return random.standard_normal((rows, WIDTH)) + 1.6 * np.eye(WIDTH)[y] + 0.5, y


def covered(name: str, searched: bool, rows: int, seed: int) -> float:
    """The share of new rows whose set has their label, of a model of so many train rows."""
    random = np.random.default_rng(seed)
    (X, y), (new, truth) = drawn(random, rows), drawn(random, NEW)
    model, parts = MODELS[name], folds(X, y)
    estimator = model.build(0)
    if grid := model.searched(searched, rows // CLASSES):
        best = search(estimator, grid, X, y, parts)
        estimator.set_params(**best.params).fit(X, y, best.products, parts, best.held_out, best.nested)
    else:
        estimator.fit(X, y, None, parts)
    coverage = Coverage.of(estimator.scores_, folds=True)
    assert coverage is not None
    inside = sets(estimator.predict_proba(new), coverage.level(ASKED))
    return float(inside[np.arange(NEW), truth].mean())


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "searched"),
    [("svm", False), ("logreg", False), ("linearsvm", False), ("knn", True), ("linearsvm", True), ("logreg", True)],
)
def test_sets_of_models_of_few_rows_cover(name: str, searched: bool, draws: int = 80) -> None:
    """No less than was asked for, but for chance: one standard error of a cell is half a point."""
    with threadpool_limits(1):
        found = {rows: np.mean([covered(name, searched, rows, i) for i in range(draws)]) for rows in (40, 60, 100)}
    print(found)
    told = ", ".join(f"{100 * share:.1f}" for share in found.values())
    how = f"`{name}`{' with a search' if searched else ''}, 40, 60 and 100 rows"
    record(f"sets at 90 % coverage, {how}", f"{draws} simulated train sets each, {NEW} new rows", f"{told} %")
    assert min(found.values()) > 0.885
