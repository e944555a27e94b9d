"""Train and test parts that all cells of a comparison have in common, and the folds inside each train part."""

from typing import NamedTuple

import numpy as np

from classify.fit import seeded_again
from classify.folds import Splits, folds
from features import Refused, Stack
from features.runtime.errors import listed
from features.schema import SPLITS

LEAST = 3  # images of a class that drawn splits need: one to test on, and two to train on, one of them held out


class Split(NamedTuple):
    """One division of the labelled rows.

    Attributes:
        seed: it was drawn with; None for the dataset's own.
        train, test: row indices; train holds the views of its images, and test none.
        folds: (train, held-out) row indices inside train.
        code: (rows of the stack,) uint8 of `SPLITS`.
    """

    seed: int | None
    train: np.ndarray
    test: np.ndarray
    folds: Splits
    code: np.ndarray


def splits_of(stack: Stack, y: np.ndarray, seeds: list[int] | None) -> list[Split]:
    """The dataset's own split, or one for each seed: those of `fit --split-seed`, with a quarter of each class to test.

    Args:
        stack: labelled rows.
        y: (n,) int64 class indices 0…k−1.
        seeds: None for the dataset's own.

    Raises:
        Refused: a class has too few images, or the own split has none of it to train on or no test rows at all.
    """
    if seeds is not None:
        images = stack.view == 0
        counts = np.bincount(y[images], minlength=int(y.max()) + 1)
        if few := [f"{_name(stack, y, code)} ({counts[code]})" for code in np.flatnonzero(counts < LEAST)]:
            raise Refused(
                f"every class needs {LEAST} images, to test on one and train on two; these have fewer: {listed(few)}. "
                "Add images, or leave out --repeats and --split-seed"
            )
    found = []
    for seed in seeds if seeds is not None else [None]:
        code = stack.split if seed is None else seeded_again(stack, seed).split
        train = np.flatnonzero(code != SPLITS["test"])
        test = np.flatnonzero((code == SPLITS["test"]) & (stack.view == 0))
        if not len(test):
            raise Refused(f"{stack.path} has no labelled test rows to score on. Draw some: --split-seed 0")
        if len(missing := np.setdiff1d(y, y[train])):
            names = [_name(stack, y, code) for code in missing]
            raise Refused(f"classes without train images: {listed(names)}. Draw other splits: --split-seed 0")
        inside = [(train[a], train[b]) for a, b in folds(stack.take(train), y[train])]
        found.append(Split(seed, train, test, inside, code))
    return found


def _name(stack: Stack, y: np.ndarray, code: np.integer) -> str:
    return stack.label_names[int(stack.y[np.flatnonzero(y == code)[0]])]
