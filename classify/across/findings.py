"""What a comparison finds beside its table: the quick ranking, a pair to fuse, and how many photos are enough."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from classify.across.curves import Curve, learning_curve, sizes_of
from classify.across.feature_set import FeatureSet
from classify.across.kept import Kept
from classify.across.splits import Split
from classify.across.transfer import PAIR_SAMPLE, SAMPLE, Pair, best_pair, leave_one_out, sampled
from classify.comparison.resampling import rank_correlation
from classify.fitting import Settings
from classify.models import Model
from features.runtime.progress import progress

CURVES = 3  # of the best feature sets, each with its best model
PAIRED = 5  # of the best sets, of which all pairs are tried
ENSEMBLE = "ensemble"  # the model that is several


class Quick:
    """Leave-one-out scores of feature sets, on train images of the first split: its test images stay unseen.

    Args:
        split: the first.
        y: (n,) int64 class indices.
        groups: (n,) equal for rows that are left out together, see `source_groups`.
        kept: where scores are kept.

    Attributes:
        scores: feature set → share of images that are right when left out.
    """

    def __init__(self, split: Split, y: np.ndarray, groups: np.ndarray, kept: Kept) -> None:
        self._split, self._y, self._groups, self._kept = split, y, groups, kept
        self._products: dict[str, np.ndarray] = {}
        self.scores: dict[str, float] = {}

    def add(self, features: FeatureSet) -> float | None:
        """Score a feature set; None where there are too many rows to hold the inner products of all pairs."""
        if not features.shares:
            return None
        rows, few = self._rows(SAMPLE), self._rows(PAIR_SAMPLE)

        def compute() -> dict[str, np.ndarray]:
            products = features.shared.products
            score = leave_one_out(products[np.ix_(rows, rows)], self._y[rows], self._groups[rows])
            return {"score": np.array(score), "products": products[np.ix_(few, few)]}

        found = self._kept.alone(features, self._split, compute)
        self._products[features.name] = found["products"]
        self.scores[features.name] = float(found["score"])
        return self.scores[features.name]

    def pair(self) -> Pair | None:
        """Two of the best sets that do better side by side than either alone; None where no two do."""
        if len(self.scores) < 2:
            return None
        few, best = self._rows(PAIR_SAMPLE), sorted(self.scores, key=lambda name: -self.scores[name])[:PAIRED]
        found = best_pair({name: self._products[name] for name in best}, self._y[few], self._groups[few])
        return found if found.score > found.alone else None

    def agreement(self, rows: Sequence[Mapping[str, Any]], lead: str) -> float | None:
        """Kendall's τ of these scores with those of the best model on each set, over the test images."""
        there = [row for row in best_of_each(rows) if row["features"] in self.scores]
        return rank_correlation([self.scores[row["features"]] for row in there], [row[lead] for row in there])

    def _rows(self, most: int) -> np.ndarray:
        return sampled(self._split.train, self._y, most)


def curves_of_best(
    rows: Sequence[Mapping[str, Any]],
    models: Mapping[str, Model],
    sets: Sequence[FeatureSet],
    splits: Sequence[Split],
    settings: Settings,
) -> dict[tuple[str, str], Curve]:
    """Learning curves of the best model on each of the best sets, or of a single set's best models.

    Args:
        rows: the table, best first.
        models, sets, splits, settings: what was compared, and how.
    """
    able = [row for row in rows if row["model"] in models and models[row["model"]].by_products]
    some = (best_of_each(able) if len(sets) > 1 else [row for row in able if "failed" not in row])[:CURVES]
    named = {each.name: each for each in sets}
    train = splits[0].train
    sizes = sizes_of(sets[0].y[train], sets[0].stack.view[train] == 0)
    with progress(total=len(some) * len(sizes), unit="sizes") as bar:
        found = {}
        for row in some:
            features, model = named[row["features"]], models[row["model"]]
            known = [] if settings.search else [each["accuracy"] for each in row["each"]]
            curve = learning_curve(model, features, splits, settings, known, lambda: bar.update(1))
            found[row["features"], row["model"]] = curve
        return found


def best_of_each(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The best row of each feature set, best first; not the ensemble's."""
    best: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if "failed" not in row and row["model"] != ENSEMBLE:
            best.setdefault(row["features"], row)
    return list(best.values())
