"""Several classifiers on the very same rows: one table, as JSON and as a report."""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np

from classify.fit import RUNS, Task, model_named
from classify.models import MODELS
from classify.scores import Predictions, read_predictions, scores
from classify.statistics import holm, interval, mcnemar, resampled_means, resampled_recalls
from classify.wording import p_value, points
from features import Failed, Stack, open_stack
from features.cli import command_line
from features.reader import only_stack

BASELINE = "dense"  # what the others are tested against; where it is not compared, the first model asked for
IMBALANCE = 3  # the largest class over the smallest beyond which balanced accuracy decides who is best
PACKAGES = ("numpy", "scikit-learn", "scipy", "xgboost", "xgboost-cpu", "keras", "tensorflow", "tensorflow-cpu")


def compare(
    stack: str | None = None,
    models: list[str] | None = None,
    seed: int = 0,
    out: str | None = None,
    data: str | None = None,
    weights: str | None = None,
) -> Path:
    """Fit several classifiers to a stack's train rows, score each once on the same test rows, and report.

    A model that fails is listed with its reason and costs the others nothing.

    Args:
        stack: the feature stack; by default the only one in features/stacks.
        models: the classifiers; by default all.
        seed: of everything random, in the fits and in the statistics.
        out: folder to write; by default classify/runs/<stack>.
        data: where the dataset's photos are now, if no longer where the stack was made from.
        weights: where the backbone's weights file is now, likewise.

    Returns:
        the report, `report.html`. Beside it lie `compare.json`, the list of the models' results, best first, and each
        model's own folder.

    Raises:
        Refused: a model is unknown, or the stack has too few classes or no test rows.
        Failed: not one of the models could be fitted.
    """
    from classify.report import write_report

    command = command_line(["python", "-m", "classify", "compare"], compare, dict(locals()), positional=("stack",))
    chosen = {name: model_named(name) for name in models or MODELS}
    opened = _moved(open_stack(stack or only_stack()), dataset_root=data, weights_file=weights)
    folder = Path(out) if out else RUNS / opened.path.stem
    task = Task(opened)
    failed: dict[str, str] = {}
    for name, row in chosen.items():
        print(f"fitting {row.title} to {len(task.train)} rows …", file=sys.stderr)
        about = {"model": name, "title": row.title, "command": command, "versions": versions()}
        try:
            task.run(row, row.pool, seed, folder / name, about)
        except Failed as error:
            print(f"{row.title} failed: {error}", file=sys.stderr)
            failed[name] = str(error)
    if len(failed) == len(chosen):
        raise Failed("no model could be fitted:\n" + "\n".join(f"  {name}: {why}" for name, why in failed.items()))
    rows, predictions = judge({name: folder / name for name in chosen if name not in failed}, seed)
    missing = [
        {"model": name, "title": chosen[name].title, "accuracy": None, "failed": why} for name, why in failed.items()
    ]
    (folder / "compare.json").write_text(json.dumps(rows + missing, indent=2, ensure_ascii=False) + "\n")
    return write_report(folder / "report.html", rows, missing, predictions, task.test, seed)


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
    lead = leading_score(y)
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


def leading_score(y: np.ndarray) -> str:
    """`accuracy`, or `balanced_accuracy` where one class of `y` has more than three times the rows of another."""
    sizes = np.unique(y, return_counts=True)[1]
    return "balanced_accuracy" if sizes.max() > IMBALANCE * sizes.min() else "accuracy"


def versions() -> dict[str, str]:
    """Installed versions of what decides a model's numbers."""
    found = {"python": python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Results as a table for the terminal, within 100 columns; a column that nobody has a value for is left out."""
    there = [row for row in rows if "failed" not in row]
    columns = [(head, field, show) for head, field, show in COLUMNS if any(row.get(field) is not None for row in there)]
    cells = [[head for head, _, _ in columns]] + [
        ["–" if row.get(field) is None else show(row[field]) for _, field, show in columns] for row in there
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(f"{cell:>{w}}" if i else f"{cell:<{w}}" for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
        for line in cells
    ]
    lines += [f"{row['model']} failed: {row['failed']}" for row in rows if "failed" in row]
    lines.append(f"{there[0]['n_train']} train rows, {there[0]['n_test']} test rows of {there[0]['stack']}")
    if baseline := there[0].get("baseline"):
        lines.append(f"base: {baseline}, difference in points; p: exact McNemar, Holm-corrected")
    return "\n".join(lines)


COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("model", "model", str),
    ("accuracy", "accuracy", "{:.2%}".format),
    ("95 %", "accuracy_interval", lambda ends: f"{ends[0]:.1%}–{ends[1]:.1%}".replace("%–", "–")),
    ("balanced", "balanced_accuracy", "{:.2%}".format),
    ("F1", "macro_f1", "{:.3f}".format),
    ("logloss", "log_loss", "{:.3f}".format),
    ("ECE", "calibration_error", "{:.1%}".format),
    ("vs base", "difference", points),
    ("p", "mcnemar_holm_p", p_value),
    ("fit s", "fit_seconds", "{:.1f}".format),
    ("predict s", "predict_seconds", "{:.2f}".format),
    ("MB", "model_bytes", lambda size: f"{size / 1e6:.1f}"),
)


def _moved(stack: Stack, **now: str | None) -> Stack:
    """The stack with attributes that say where things are replaced by where they are now; None leaves one alone."""
    return dataclasses.replace(stack, attrs=stack.attrs | {name: where for name, where in now.items() if where})
