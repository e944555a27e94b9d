"""Models that answered the same test rows: what each is worth, and whether it differs from the baseline."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from classify.scores import Predictions, read_predictions, scores
from classify.statistics import holm, interval, mcnemar, resampled_means, resampled_recalls
from features import Failed

BASELINE = "dense"  # what the others are tested against; where it is not compared, the first model asked for
IMBALANCE = 3  # the largest class over the smallest beyond which balanced accuracy decides who is best


def judge(folders: Mapping[str, Path], seed: int) -> tuple[list[dict[str, Any]], dict[str, Predictions]]:
    """Score models that answered the same test rows, and test each against the baseline.

    Args:
        folders: model → its folder, with `result.json` and `predictions.csv`.
        seed: of the bootstrap.

    Returns:
        the models' results, best first, each with what the comparison adds to it, and what each model predicted.

    Raises:
        Failed: a model answered other rows than the first.
    """
    results = {name: json.loads((folder / "result.json").read_text()) for name, folder in folders.items()}
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
    means, recalls = resampled_means(right, seed), resampled_recalls(right, y, seed)
    p_values = [mcnemar(right[:, i], right[:, base]) for i in range(len(said))]
    others = [i for i in range(len(said)) if i != base]
    adjusted = dict(zip(others, holm([p_values[i] for i in others]), strict=True))
    lead = results[first].get("leads_by") or leading_score(y)
    rows = []
    for i, (name, result) in enumerate(results.items()):
        against = {
            "difference": float(right[:, i].mean() - right[:, base].mean()),
            "difference_interval": interval(means[:, i] - means[:, base]),
            "mcnemar_p": p_values[i],
            "mcnemar_holm_p": adjusted.get(i),
        }
        rows.append(
            result
            | scores(y, said[name].predicted, len(result["label_names"]), said[name].proba)
            | {
                "accuracy_interval": interval(means[:, i]),
                "balanced_accuracy_interval": interval(recalls[:, i]),
                "baseline": list(said)[base],
                "leads_by": lead,
                **(against if i != base else dict.fromkeys(against)),
            }
        )
    rows.sort(key=lambda row: (-row[lead], -row["macro_f1"]))
    return rows, said


def views_gain(with_views: Path, without: Path, seed: int) -> dict[str, Any]:
    """What a model gained by training on views too, on the same test rows.

    Args:
        with_views, without: the folders of the same model, trained on views and on the images alone.
        seed: of the bootstrap.

    Returns:
        `accuracy_without_views`, `views_difference` and its 95 % interval, `views_interval`.
    """
    names = json.loads((without / "result.json").read_text())["label_names"]
    said = [read_predictions(folder / "predictions.csv", names) for folder in (with_views, without)]
    right = np.column_stack([p.right for p in said])
    means = resampled_means(right, seed)
    return {
        "accuracy_without_views": float(right[:, 1].mean()),
        "views_difference": float(right[:, 0].mean() - right[:, 1].mean()),
        "views_interval": interval(means[:, 0] - means[:, 1]),
    }


def leading_score(y: np.ndarray) -> str:
    """`accuracy`, or `balanced_accuracy` where one class of `y` has more than three times the rows of another."""
    sizes = np.unique(y, return_counts=True)[1]
    return "balanced_accuracy" if sizes.max() > IMBALANCE * sizes.min() else "accuracy"
