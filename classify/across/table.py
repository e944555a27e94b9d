"""A comparison of feature sets as a table for the terminal."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from classify.comparison.table import aligned, short
from classify.comparison.wording import THIN, joined, p_value, points

NAME = 24  # columns of a feature set's name at most


def sets_table(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any] | None = None) -> str:
    """The rows of `compare.json` within 100 columns, and what `comparison.json` found, a sentence a line."""
    there = [row for row in rows if "failed" not in row]
    lead = there[0]["leads_by"]
    columns = [column for column in columns_of(lead) if any(row.get(column[1]) is not None for row in there)]
    lines = aligned(
        [
            [head for head, _, _ in columns],
            *(["–" if row.get(name) is None else form(row[name]) for _, name, form in columns] for row in there),
        ],
        left=2,
    )
    lines += [f"{row['features']}, {row['model']} failed: {row['failed']}" for row in rows if "failed" in row]
    lines.append(splits_told(there[0]))
    if len(there) > 1:
        within = "" if lead == "accuracy" else " within classes"
        test = f"exact McNemar{within}" if there[0]["repeats"] == 1 else "corrected resampled t-test"
        lines.append(f"diff: points from the best; p: {test}, Holm-corrected. {tied_told(there)}")
    lines.append(
        "s/1000: seconds of extraction for 1,000 photos; kB: of a row; fit s: of one split, without what all share"
    )
    if any(row.get("leave_one_out") is not None for row in there):
        lines.append("quick: leave-one-out ridge regression inside train, before any model was fitted")
    lines += [curve_told(row) for row in there if row.get("curve")]
    return "\n".join([*lines, *found_told(about or {}, rows)])


def splits_told(row: Mapping[str, Any]) -> str:
    """How the rows were divided."""
    several = f"means of {row['repeats']} splits, each with " if row["repeats"] > 1 else ""
    return f"{several}{row['n_train']:,} train rows and {row['n_test']:,} test rows"


def tied_told(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many do not differ significantly from the best."""
    tied = sum(bool(row["tied"]) for row in rows) - 1
    return f"{tied or 'None'} of the others {'is' if tied == 1 else 'are'} tied with it"


def curve_told(row: Mapping[str, Any]) -> str:
    """What a learning curve promises."""
    curve, name = row["curve"], f"{row['features']}, {row['model']}"
    sizes = curve["sizes"]
    if not (twice := curve["twice"]):
        return f"{name}: too few numbers of photos for a learning curve"
    said = (
        f"{name}: {sizes[-1]} photos a class; with twice as many expect {twice['accuracy']:.1%} "
        f"({twice['low']:.1%} to {twice['high']:.1%})"
    )
    if checked := curve["checked"]:
        measured = sum(each[-1] for each in curve["accuracies"]) / len(curve["accuracies"])
        kept = "within" if checked["low"] <= measured <= checked["high"] else "outside"
        promised = f"{checked['low']:.1%} to {checked['high']:.1%}"
        said += f"; {sizes[-2]} and fewer promised {promised} for {sizes[-1]}, measured {measured:.1%}: {kept}"
    return said


def found_told(about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The other findings, a sentence each."""
    told = []
    sets = {each["name"]: each for each in about.get("sets", [])}
    if (tau := about.get("leave_one_out_agreement")) is not None:
        told.append(f"quick and final order of the feature sets: Kendall's τ {tau:.2f}")
    if pair := about.get("pair"):
        told.append(
            f"side by side, {joined(pair['names'])} have {pair['score']:.1%} left out of train, the better alone "
            f"{pair['alone']:.1%}: {pair['command']}"
        )
    for row in rows:
        if members := row.get("members"):
            most = [f"{name} ({count})" if row["repeats"] > 1 else name for name, count in list(members.items())[:3]]
            told.append(f"ensemble, chosen inside train: {'; '.join(most)}{' …' if len(members) > 3 else ''}")
    best = next((row for row in rows if row["features"] in sets and "failed" not in row), None)
    if best:
        told.append(f"to save the best single model: {fit_command(sets[best['features']], best['model'])}")
    if left_out := about.get("left_out"):
        told.append(f"{len(left_out)} images that a stack rejected are left out of all")
    return told


def fit_command(features: Mapping[str, Any], model: str) -> str:
    """The command that fits and saves one model; `features`: of the sets in `comparison.json`."""
    pool = f" --pool {features['pool']}" if features["pool"] else ""
    return f"python -m classify fit {shlex.quote(features['stack'])} --model {model}{pool}"


def columns_of(lead: str) -> list[tuple[str, str, Callable[[Any], str]]]:
    """Head, name in `compare.json`, and form of each column."""
    return [
        ("features", "features", lambda name: name if len(name) <= NAME else f"{name[:9]}…{name[-(NAME - 10) :]}"),
        ("model", "model", str),
        ("accuracy" if lead == "accuracy" else "bal.acc", lead, "{:.2%}".format),
        ("95 %", f"{lead}_interval", lambda ends: f"{100 * ends[0]:.1f}–{100 * ends[1]:.1f}"),
        ("diff", "difference", points),
        ("p", "p", lambda p: p_value(p).replace(THIN, "")),
        ("quick", "leave_one_out", "{:.1%}".format),
        ("s/1000", "seconds_per_1000", short),
        ("kB", "row_bytes", lambda size: short(size / 1e3)),
        ("fit s", "fit_seconds", short),
    ]
