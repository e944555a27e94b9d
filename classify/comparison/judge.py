"""Score models that answered the same test rows, and test whether each differs from the baseline."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from classify.comparison.predictions import Predictions, read_predictions
from classify.comparison.scores import scores
from classify.comparison.statistics import difference_interval, holm, mcnemar, separation, share_interval
from classify.comparison.wording import ALPHA
from classify.models import BASELINE
from features import Failed

IMBALANCE = 3  # the largest class over the smallest beyond which balanced accuracy decides who is best


def judge(folders: Mapping[str, Path]) -> tuple[list[dict[str, Any]], dict[str, Predictions]]:
    """Score models that answered the same test rows, and test each against the baseline.

    Args:
        folders: model → its folder, with `result.json` and `predictions.csv`.

    Returns:
        the models' results, best first, each with what the comparison adds to it, and what each model predicted.

    Raises:
        Failed: a model answered other rows than the first.
    """
    results = {name: json.loads((folder / "result.json").read_text("utf-8")) for name, folder in folders.items()}
    said = {
        name: read_predictions(folders[name] / "predictions.csv", result["label_names"])
        for name, result in results.items()
    }
    first = next(iter(said))
    y = said[first].y
    if strangers := [n for n, p in said.items() if p.paths != said[first].paths or (p.y != y).any()]:
        raise Failed(f"{strangers[0]} answered other test rows than {first}; the two cannot be compared")
    base = list(said).index(BASELINE if BASELINE in said else first)
    right = np.column_stack([p.right for p in said.values()])
    sizes = np.bincount(y)
    present = np.flatnonzero(sizes)
    p_values = [mcnemar(right[:, i], right[:, base]) for i in range(len(said))]
    others = [i for i in range(len(said)) if i != base]
    adjusted = dict(zip(others, holm([p_values[i] for i in others]), strict=True))
    lead = results[first].get("leads_by") or leading_score(y)
    rows = []
    for i, (name, result) in enumerate(results.items()):
        against = {
            "difference": float(right[:, i].mean() - right[:, base].mean()),
            "difference_interval": difference_interval(right[:, i], right[:, base]),
            "mcnemar_p": p_values[i],
            "mcnemar_holm_p": adjusted.get(i),
        }
        rows.append(
            result
            | scores(y, said[name].predicted, len(result["label_names"]), said[name].proba)
            | {
                "accuracy_interval": share_interval([right[:, i].sum()], [len(y)]),
                "balanced_accuracy_interval": share_interval(np.bincount(y, right[:, i])[present], sizes[present]),
                **_separation(right[:, i], said[name].proba),
                "baseline": list(said)[base],
                "leads_by": lead,
                **(against if i != base else dict.fromkeys(against)),
            }
        )
    order = sorted(range(len(rows)), key=lambda i: (-rows[i][lead], -rows[i]["macro_f1"]))
    return _ties([rows[i] for i in order], right[:, order]), said


def _ties(rows: list[dict[str, Any]], right: np.ndarray) -> list[dict[str, Any]]:
    """Say of each, the best first, whether it is tied with that: by McNemar's test, Holm-corrected, no different.

    Args:
        rows: the models' results.
        right: (n, models) bool.
    """
    adjusted = holm([mcnemar(right[:, i], right[:, 0]) for i in range(1, len(rows))])
    return [row | {"tied": bool(p >= ALPHA)} for row, p in zip(rows, [1.0, *adjusted], strict=True)]


def _separation(right: np.ndarray, proba: np.ndarray | None) -> dict[str, Any]:
    """Whether a model's confidence separates right answers from wrong ones: surely more often than chance."""
    found = None if proba is None else separation(right, proba.max(axis=1))
    area, ends = found or (None, None)
    return {"separation": area, "separation_interval": ends, "separates": bool(ends and ends[0] > 0.5)}


def paired_difference(one: Path, other: Path) -> tuple[float, tuple[float, float]]:
    """How much more often one model is right than another on the same test rows, and the 95 % interval of that.

    Args:
        one, other: the models' folders.
    """
    names = json.loads((one / "result.json").read_text("utf-8"))["label_names"]
    said = [read_predictions(folder / "predictions.csv", names) for folder in (one, other)]
    a, b = (p.right for p in said)
    return float(a.mean() - b.mean()), difference_interval(a, b)


def leading_score(y: np.ndarray) -> str:
    """`accuracy`, or `balanced_accuracy` where one class of `y` has more than three times the rows of another."""
    sizes = np.unique(y, return_counts=True)[1]
    return "balanced_accuracy" if sizes.max() > IMBALANCE * sizes.min() else "accuracy"
