"""The mean of several models' probabilities, members chosen inside train by what they say of rows held out."""

from collections.abc import Mapping
from functools import reduce
from typing import NamedTuple

import numpy as np

from classify.across.cells import Answers
from classify.comparison.statistics import log_loss

MOST = 5  # members
Name = tuple[str, str]  # of a feature set, and of the model on it


class Ensemble(NamedTuple):
    """Several models of one split as one.

    Attributes:
        members: the chosen models, the best single one first.
        answers: the mean of what they say of the test rows.
    """

    members: list[Name]
    answers: Answers


def ensemble(cells: Mapping[Name, Answers], y: np.ndarray) -> Ensemble | None:
    """The mean of the models that do best together on train rows held out; no test row decides.

    Args:
        cells: the models of one split. Those without probabilities of held-out rows are no candidates.
        y: (n,) int64 class indices of all rows.

    Returns:
        None with fewer than two candidates.
    """
    # A network holds out fewer rows than folds do: all are judged by those that everyone held out.
    known = {
        name: (each.held_probabilities, each.probabilities, each.held)
        for name, each in cells.items()
        if each.held_probabilities is not None and each.probabilities is not None
    }
    if len(known) < 2:
        return None
    held = reduce(np.intersect1d, (rows for _, _, rows in known.values()))
    names = chosen({name: inside[_places(held, rows)] for name, (inside, _, rows) in known.items()}, y[held])
    mean = np.mean([known[name][1] for name in names], axis=0)
    return Ensemble(names, Answers(mean.argmax(axis=1), mean, held, None, {}))


def _places(wanted: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Where wanted rows stand among rows, all of which are different."""
    order = np.argsort(rows)
    return np.asarray(order[np.searchsorted(rows, wanted, sorter=order)])


def chosen(candidates: Mapping[Name, np.ndarray], y: np.ndarray) -> list[Name]:
    """Add the model that helps most, as long as one does (Caruana et al., ICML 2004, without repeated members).

    It helps if the log loss of the mean falls.

    Args:
        candidates: model → (h, k) probabilities of rows that it had not seen, the same rows for all.
        y: (h,) int64 class indices of those.
    """
    names: list[Name] = []
    total = np.zeros(next(iter(candidates.values())).shape)
    least = np.inf
    while len(names) < min(MOST, len(candidates)):
        losses = {
            name: log_loss(y, (total + each) / (len(names) + 1))
            for name, each in candidates.items()
            if name not in names
        }
        best = min(losses, key=lambda name: losses[name])
        if losses[best] >= least:
            break
        least = losses[best]
        names.append(best)
        total += candidates[best]
    return names
