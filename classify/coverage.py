"""Prediction sets: all labels that cannot be ruled out, so that the true one is among them as often as was asked for.

A label's score is 1 − p, where p is its probability. Train rows that were held out show how large the true label's
score gets; a set takes every label whose score is no larger than that of the asked share of them. These are the sets
of Sadinle, Lei and Wasserman (Least ambiguous set-valued classifiers, JASA 2019). On average they are the smallest that
reach a coverage, and where no label is plausible they are empty.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from features import Refused

COVERAGE_FILE = "coverage.npz"
MOST = 20_000  # scores kept: more would move the coverage by less than 0.2 points
SHOWN = 0.9  # coverage of the sets in the report


class Coverage(NamedTuple):
    """The scores of train rows that were held out of a model, or of models like it.

    Of a network and of XGBoost these are the rows that decided when to stop: a split. The other models were fitted to
    the rest of the rows for each fold in turn, and all folds' scores are put together, as cross-conformal predictors do
    (Vovk, 2015). The model that answers saw all rows, where Vovk's are the models of the folds: it saves keeping five
    models, and coverage is then no theorem: in simulation it was a point short with 40 rows (`docs/predict.md`). So one
    more row counts, as if no set held its label.

    Attributes:
        scores: (n,) float64 in 0 to 1, rising; empty where there are none.
        missing: why there are none.
        folds: whether they are of folds, put together.
    """

    scores: np.ndarray
    missing: str = ""
    folds: bool = False

    @classmethod
    def of(cls, scores: np.ndarray | None, folds: bool = False) -> "Coverage | None":
        """Of (n,) scores in any order; None without any. Of very many an even choice is kept, which is as valid."""
        if scores is None or not len(scores):
            return None
        return cls(np.sort(scores[:: -(-len(scores) // MOST)]), folds=folds)

    def level(self, coverage: float) -> float:
        """The largest score in sets: the ⌈(n + 1) · coverage⌉-th of the n that are known; of folds, n + 2.

        Raises:
            Refused: the coverage is not between 0 and 1, or there are too few scores for it.
        """
        checked_coverage(coverage)
        if self.missing:
            raise Refused(self.missing)
        count = len(self.scores)
        ranks = count + 1 + self.folds
        place = math.ceil(round(ranks * coverage, 9))
        if place > count:
            most = math.floor(1000 * count / ranks) / 1000
            raise Refused(
                f"coverage {coverage:g} takes more than the {count} images that this model was checked on: "
                f"ask for {most:g} at most, or fit it to more images"
            )
        return float(self.scores[place - 1])

    def figures(self, probabilities: np.ndarray, y: np.ndarray, coverage: float = SHOWN) -> dict[str, float] | None:
        """How sets do on rows of known labels; None where there are too few scores.

        Args:
            probabilities: (m, classes) float64.
            y: (m,) int64 class indices.
            coverage: asked for.

        Returns:
            `asked`, `covered` (share of sets with the true label), `size` (mean number of labels), and `empty` and
            `single` (share of sets with no label, and with one).
        """
        try:
            inside = sets(probabilities, self.level(coverage))
        except Refused:
            return None
        sizes = inside.sum(axis=1)
        found = {
            "covered": inside[np.arange(len(y)), y],
            "size": sizes,
            "empty": sizes == 0,
            "single": sizes == 1,
        }
        return {"asked": coverage, **{name: float(each.mean()) for name, each in found.items()}}

    def save(self, folder: Path) -> None:
        """Write it beside a model."""
        np.savez(folder / COVERAGE_FILE, scores=self.scores, folds=self.folds)

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any]) -> "Coverage":
        """Read what `save` wrote; where there is nothing, say why.

        Args:
            folder: of the model.
            about: its `model.json`.
        """
        if COVERAGE_FILE in about["files"]:
            with np.load(folder / COVERAGE_FILE, allow_pickle=False) as file:
                return cls(file["scores"], folds=bool(file["folds"]) if "folds" in file else False)
        again = f"Fit it again: {about.get('command') or 'make classify'}"
        why = f"it was saved by an older version. {again}"
        if "held_out" in about:
            why = f"a class has too few train images to hold any out. Add images of it and extract them. {again}"
        return cls(np.empty(0), f"the model in {folder} cannot say how many labels a coverage takes: {why}")


def scores_of(probabilities: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n,) float64 scores of the true labels.

    Args:
        probabilities: (n, classes) float64, of models that had not seen the rows.
        y: (n,) int64 class indices.
    """
    return np.asarray(1 - np.asarray(probabilities, np.float64)[np.arange(len(y)), y])


def sets(probabilities: np.ndarray, level: float) -> np.ndarray:
    """(m, classes) bool: the labels of each set.

    Args:
        probabilities: (m, classes) float64.
        level: see `Coverage.level`.
    """
    return np.asarray(1 - probabilities <= level)


def checked_coverage(coverage: float) -> float:
    """The coverage, if it is one.

    Raises:
        Refused: it is not between 0 and 1.
    """
    if 0 < coverage < 1:
        return coverage
    meant = f". Did you mean {coverage / 100:g}?" if 1 < coverage < 100 else ""
    raise Refused(f"coverage {coverage:g}: expected a number between 0 and 1, both excluded, such as 0.9{meant}")
