"""Score models that answered the same test rows, and test whether each differs from the baseline."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from classify.comparison.lead import Difference, difference, leading_score, score_interval
from classify.comparison.predictions import Predictions, read_predictions
from classify.comparison.scores import scores
from classify.comparison.statistics import holm, separation
from classify.comparison.wording import ALPHA
from classify.models import BASELINE
from features import Failed


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
    lead = results[first].get("leads_by") or leading_score(y)
    right = np.column_stack([p.right for p in said.values()])
    from_base = [difference(lead, y, column, right[:, base]) for column in right.T]
    others = [i for i in range(len(said)) if i != base]
    adjusted = dict(zip(others, holm([from_base[i].p for i in others]), strict=True))
    rows = []
    for i, (name, result) in enumerate(results.items()):
        against = {
            "difference": from_base[i].difference,
            "difference_interval": from_base[i].interval,
            "mcnemar_p": from_base[i].p,
            "mcnemar_holm_p": adjusted.get(i),
        }
        rows.append(
            result
            | scores(y, said[name].predicted, len(result["label_names"]), said[name].proba)
            | {
                f"{score}_interval": score_interval(score, y, right[:, i])
                for score in ("accuracy", "balanced_accuracy")
            }
            | {
                **_separation(right[:, i], said[name].proba),
                "baseline": list(said)[base],
                "leads_by": lead,
                **(against if i != base else dict.fromkeys(against)),
            }
        )
    order = sorted(range(len(rows)), key=lambda i: (-rows[i][lead], -rows[i]["macro_f1"]))
    return _ties([rows[i] for i in order], y, right[:, order]), said


def _ties(rows: list[dict[str, Any]], y: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """Say of each, the best first, whether it is tied with that: by McNemar's test, Holm-corrected, no different.

    Args:
        rows: the models' results.
        y: (n,) int64 class of each test row.
        right: (n, models) bool.
    """
    lead = rows[0]["leads_by"]
    adjusted = holm([difference(lead, y, column, right[:, 0]).p for column in right.T[1:]])
    return [row | {"tied": bool(p >= ALPHA)} for row, p in zip(rows, [1.0, *adjusted], strict=True)]


def _separation(right: np.ndarray, proba: np.ndarray | None) -> dict[str, Any]:
    """Whether a model's confidence separates right answers from wrong ones: surely more often than chance."""
    found = None if proba is None else separation(right, proba.max(axis=1))
    area, ends = found or (None, None)
    return {"separation": area, "separation_interval": ends, "separates": bool(ends and ends[0] > 0.5)}


def paired_difference(one: Path, other: Path, score: str = "accuracy") -> Difference:
    """How much more a score is for one model than for another on the same test rows.

    Args:
        one, other: the models' folders.
        score: `accuracy` or `balanced_accuracy`.
    """
    names = json.loads((one / "result.json").read_text("utf-8"))["label_names"]
    said = [read_predictions(folder / "predictions.csv", names) for folder in (one, other)]
    return difference(score, said[0].y, *(p.right for p in said))
