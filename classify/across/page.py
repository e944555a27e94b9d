"""A comparison of feature sets as one HTML page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from classify.across.feature_set import FeatureSet
from classify.across.figures import learning_curves, pareto
from classify.across.findings import ENSEMBLE, best_of_each
from classify.comparison.rendering import rendered
from classify.comparison.report import axis, spans
from classify.comparison.wording import joined, percent
from features.schema import recipe_attrs


def write_page(
    path: Path, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any], sets: Sequence[FeatureSet]
) -> Path:
    """Write the page.

    Args:
        path: the file to write.
        rows: of `compare.json`, best first.
        about: of `comparison.json`.
        sets: the feature sets.

    Returns:
        path.
    """
    there = [row for row in rows if "failed" not in row]
    lead, best = there[0]["leads_by"], best_of_each(rows)
    timed = [row for row in best if row.get("seconds_per_1000")]
    curved = [row for row in there if row.get("curve")]
    told = [f"{row['features']}, {row['model']}" if len(sets) > 1 else row["model"] for row in curved]
    context = {
        "rows": there,
        "failed": [row for row in rows if "failed" in row],
        "lead": lead,
        "best": best,
        "verdict": verdict(there, lead),
        "about": about,
        "sets": sets,
        "several": there[0]["repeats"] > 1,
        "score_axis": axis(spans(there, lead)),
        "difference_axis": axis([(0.0, 0.0, 0.0), *spans(there, "difference")]),
        "pareto": pareto(timed, lead) if len(timed) > 1 else None,
        "curves": learning_curves([row["curve"] for row in curved], told) if curved else None,
        "curved": list(zip(told, [row["curve"] for row in curved], strict=True)),
        "recipe_attrs": recipe_attrs,
    }
    path.write_text(rendered("sets.html.jinja", context), encoding="utf-8")
    return path


def verdict(rows: Sequence[Mapping[str, Any]], lead: str) -> tuple[str, str, str]:
    """The result in one sentence, its interval, and which are tied with the best."""
    best = rows[0]
    what = "right on {} of the test images" if lead == "accuracy" else "right on {} of a class’s test images"
    name = "The ensemble" if best["model"] == ENSEMBLE else f"{best['title']} on {best['features']}"
    headline = f"{name[:1].upper()}{name[1:]} is {what.format(percent(best[lead]))}"
    ends = best.get(f"{lead}_interval")
    around = f"95 % interval {percent(ends[0])} to {percent(ends[1])}" if ends else ""
    tied = [
        "the ensemble" if row["model"] == ENSEMBLE else f"{row['model']} on {row['features']}"
        for row in rows[1:]
        if row["tied"]
    ]
    if not tied:
        return headline, around, "Every other one is significantly worse."
    shown = joined(tied if len(tied) < 5 else [*tied[:4], f"{len(tied) - 4} more"])
    return headline, around, f"Not significantly worse: {shown}. Take the cheapest of them."
