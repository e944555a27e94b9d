"""The table of a comparison: each feature set and model, its scores over all splits, its distance from the best."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from classify.across.cells import Answers
from classify.across.splits import Split
from classify.comparison.lead import difference, score_interval, strata, stratum_means
from classify.comparison.resampling import Parts, corrected_t, difference_error, mean_interval, practically, share_error
from classify.comparison.scores import scores
from classify.comparison.statistics import holm
from classify.comparison.wording import ALPHA

MEANS = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "calibration_error")
CLOCKS = ("fit_seconds", "predict_seconds")


@dataclasses.dataclass
class Entry:
    """One row of the table.

    Attributes:
        features, model, title: what it is.
        facts: what is known beside the scores, JSON.
        scores: of each split, see `scores`.
        y, right: of each split (m,) class indices of the test rows, and whether they were right.
        failed: why it has no scores.
    """

    features: str
    model: str
    title: str
    facts: dict[str, Any]
    scores: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    y: list[np.ndarray] = dataclasses.field(default_factory=list)
    right: list[np.ndarray] = dataclasses.field(default_factory=list)
    failed: str = ""

    def add(self, answers: Answers, y: np.ndarray, classes: int) -> None:
        """Count the answers of one more split, whose test rows have classes `y` (m,) of 0…k−1."""
        found = scores(y, answers.predicted, classes, answers.probabilities)
        found.pop("confusion")
        self.scores.append(found | {name: answers.facts[name] for name in (*CLOCKS, "best") if name in answers.facts})
        self.y.append(y)
        self.right.append(np.asarray(answers.predicted == y))

    def of(self, score: str) -> np.ndarray:
        """(R,) a score over the splits."""
        return np.array([each[score] for each in self.scores])


def judged(entries: Sequence[Entry], splits: Sequence[Split], lead: str) -> list[dict[str, Any]]:
    """The table's rows, best first, then those that failed.

    One split: score intervals, and McNemar's exact test. Several: the corrected resampled t-test. All are of the score
    that leads; either test is corrected for testing all against the best (Holm).

    Args:
        entries: at least one with scores.
        splits: the splits that all of them have in common.
        lead: the score that ranks them, `accuracy` or `balanced_accuracy`.
    """
    sizes = np.mean([[len(split.train), len(split.test)] for split in splits], axis=0)
    parts = Parts(*(round(size) for size in sizes.tolist()))
    there = [entry for entry in entries if not entry.failed]
    images = _images(splits, there[0].y, lead)
    order = sorted(there, key=lambda entry: (-entry.of(lead).mean(), -entry.of("macro_f1").mean()))
    best = order[0]
    against = [_against(entry, best, lead, parts, images) for entry in order[1:]]
    adjusted = holm([p for p, _ in against])
    rows = [_described(best, parts, lead, images) | {"p": None, "tied": True}]
    for entry, p, (_, told) in zip(order[1:], adjusted, against, strict=True):
        rows.append(_described(entry, parts, lead, images) | {"p": p, "tied": p >= ALPHA} | told)
    failed = [{**_named(entry), "accuracy": None, "failed": entry.failed} for entry in entries if entry.failed]
    return rows + failed


def _named(entry: Entry) -> dict[str, Any]:
    return {"features": entry.features, "model": entry.model, "title": entry.title, **entry.facts}


def _images(splits: Sequence[Split], y: Sequence[np.ndarray], lead: str) -> np.ndarray:
    """(k,) how many different images all splits test, of each stratum of the score that leads."""
    first = np.unique(np.concatenate([split.test for split in splits]), return_index=True)[1]
    counts = np.bincount(strata(lead, np.concatenate(y)[first]))
    return counts[counts > 0]


def _described(entry: Entry, parts: Parts, lead: str, images: np.ndarray) -> dict[str, Any]:
    """A row without what the others add to it; images: see `_images`."""
    several = len(entry.scores) > 1
    means = {name: None if None in (v := [s[name] for s in entry.scores]) else float(np.mean(v)) for name in MEANS}
    clocks = {
        name: float(np.mean([each[name] for each in entry.scores]))
        for name in CLOCKS
        if all(name in each for each in entry.scores)
    }
    if several:
        shares, _ = stratum_means(strata(lead, np.concatenate(entry.y)), np.concatenate(entry.right))
        low, high = mean_interval(entry.of(lead), parts, share_error(shares, images))
    else:
        low, high = score_interval(lead, entry.y[0], entry.right[0])
    return {
        **_named(entry),
        "repeats": len(entry.scores),
        "n_train": parts.train,
        "n_test": parts.test,
        "leads_by": lead,
        **means,
        f"{lead}_interval": (max(0.0, low), min(1.0, high)),
        "each": [{name: each[name] for name in (*MEANS, "best") if name in each} for each in entry.scores],
        **clocks,
    }


def _against(entry: Entry, best: Entry, lead: str, parts: Parts, images: np.ndarray) -> tuple[float, dict[str, Any]]:
    """The p-value of no difference from the best, before any correction, and what the row says of the difference."""
    if len(entry.scores) == 1:
        found = difference(lead, entry.y[0], entry.right[0], best.right[0])
        return found.p, {"difference": found.difference, "difference_interval": found.interval}
    apart = entry.of(lead) - best.of(lead)
    of = strata(lead, np.concatenate(entry.y))
    signs = np.concatenate(entry.right).astype(int) - np.concatenate(best.right)
    least = difference_error(stratum_means(of, abs(signs))[0], stratum_means(of, signs)[0], images)
    told = {"difference": float(apart.mean()), "difference_interval": mean_interval(apart, parts, least)}
    return corrected_t(apart, parts, least)[1], told | {"practically": practically(apart, parts, least)._asdict()}
