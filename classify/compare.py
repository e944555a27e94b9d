"""Several classifiers on the very same rows: one table, as JSON and as a report."""

import dataclasses
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from classify.comparison.judge import judge, paired_difference
from classify.comparison.wording import p_value, points
from classify.fit import RUNS, model_named, open_stacks
from classify.models import MODELS, Model
from classify.progress import Progress
from classify.saved import write_json
from classify.task import Task
from classify.versions import versions
from features import Failed, Stack
from features.runtime.cli import command_line
from features.runtime.errors import at_least


def compare(
    stack: list[str] | str | None = None,
    models: list[str] | None = None,
    epochs: int | None = None,
    views: int | None = None,
    search: bool = False,
    balance: bool = False,
    jobs: int | None = None,
    dask: str | None = None,
    seed: int = 0,
    out: str | None = None,
    data: str | None = None,
    weights: str | None = None,
) -> Path:
    """Fit several classifiers to a stack's train rows, score each once on the same test rows, and report.

    A model that fails is listed with its reason and costs the others nothing. A comparison that was interrupted goes on
    with the model it was at. Where train images have augmented views, each model is also fitted without them, to tell
    what they bring.

    Args:
        stack: the feature stack, or several of the same rows, to be fused; by default the only one in features/stacks.
        models: the classifiers; by default all.
        epochs: train networks for at most so many.
        views: train on so many augmented views of each train image; by default on all that the stack has.
        search: choose the classical models' settings by cross-validation inside the train rows.
        balance: in the classical models, let every class weigh the same, however many images it has.
        jobs: threads; by default as many as there are cores.
        dask: run the search's fits on a Dask cluster: a scheduler's address, or local:N for N processes here.
        seed: of everything random, in the fits and in the report.
        out: folder to write; by default classify/runs/<stack>.
        data: where the dataset's photos are now, if no longer where the stack was made from.
        weights: where the backbone's weights file is now, likewise.

    Returns:
        the report, `report.html`. Beside it lie `compare.json`, the list of the models' results, best first, and each
        model's own folder.

    Raises:
        Refused: a model is unknown, or the stack has too few classes or views or no test rows.
        Failed: not one of the models could be fitted.
        KeyboardInterrupt: interrupted; a network that was being trained has the result of its best weights.
    """
    from classify.comparison.report import write_report

    command = command_line(["python", "-m", "classify", "compare"], compare, dict(locals()), positional=("stack",))
    at_least(0, seed=seed)
    at_least(1, epochs=epochs, jobs=jobs)
    chosen = {name: model_named(name) for name in models or MODELS}
    opened = _moved(open_stacks(stack), dataset_root=data, weights_file=weights)
    task = Task(opened, views, search, balance, jobs, dask)
    without = Task(opened, 0, search, balance, jobs, dask) if task.views else None
    folder = Path(out) if out else RUNS / task.name
    by = {"command": command, "versions": versions()}
    progress = Progress(folder / "unfinished.json", {**by, "stack_key": opened.key})
    plain: dict[str, Path] = {}
    failed: dict[str, str] = {}
    for name, model in chosen.items():
        if without and name != "scratch":  # which takes photos, and changes them anew each epoch
            plain[name] = folder / name / "without-views"
        kept = [folder / name, *([plain[name]] if name in plain else [])]
        if name in progress.done and all((each / "result.json").is_file() for each in kept):
            print(f"{model.title} was fitted before the interruption", file=sys.stderr)
            continue
        print(f"fitting {model.title} to {len(task.train)} rows …", file=sys.stderr)
        about = {"model": name, "title": model.title, **by}
        try:
            options = {"epochs": epochs} if epochs is not None and "epochs" in model.options else {}
            _run(task, model, seed, options, folder / name, about)
            if without and name in plain:
                print(f"fitting {model.title} to {len(without.train)} rows, without views …", file=sys.stderr)
                _run(without, model, seed, options, plain[name], about)
            progress.add(name)
        except Exception as error:  # of each library its own, where memory runs out for example
            if not isinstance(error, Failed):
                traceback.print_exc()
            failed[name] = str(error) or type(error).__name__
            print(f"{model.title} failed: {failed[name]}", file=sys.stderr)
    if len(failed) == len(chosen):
        raise Failed("no model could be fitted:\n" + "\n".join(f"  {name}: {why}" for name, why in failed.items()))
    rows, predictions = judge({name: folder / name for name in chosen if name not in failed})
    for row in rows:
        if row["model"] in plain:
            gained, ends = paired_difference(folder / row["model"], plain[row["model"]])
            row |= {"views_difference": gained, "views_interval": ends}
    missing = [
        {"model": name, "title": chosen[name].title, "accuracy": None, "failed": why} for name, why in failed.items()
    ]
    write_json(folder / "compare.json", rows + missing)
    report = write_report(folder / "report.html", rows, missing, predictions, task.test, seed)
    progress.remove()
    return report


def _run(task: Task, model: Model, seed: int, options: dict[str, Any], folder: Path, about: dict[str, Any]) -> None:
    """Raises KeyboardInterrupt once a network that was interrupted has its result: the whole comparison is meant."""
    task.run(model, model.pool, seed, options, folder, about)
    if json.loads((folder / "result.json").read_text())["params"].get("stopped_") == "interrupted":
        raise KeyboardInterrupt


def table(rows: list[dict[str, Any]]) -> str:
    """Results as a table for the terminal, within 100 columns.

    A column that nobody has a value for is left out, and so is balanced accuracy where it is everybody's accuracy.
    """
    there = [row for row in rows if "failed" not in row]
    if all(f"{row['accuracy']:.2%}" == f"{row['balanced_accuracy']:.2%}" for row in there):
        there = [row | {"balanced_accuracy": None} for row in there]
    order = sorted(COLUMNS, key=lambda column: column[1] not in LEADING) if uneven(there) else COLUMNS
    columns = [(head, field, show) for head, field, show in order if any(row.get(field) is not None for row in there)]
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
        lines.append(f"diff: points from {baseline} on the same rows; p: exact McNemar, Holm-corrected")
    if any(row.get("views_difference") is not None for row in there):
        lines.append(f"views: points gained by training on {there[0]['views']} views of each image, same test rows")
    return "\n".join(lines)


LEADING = ("model", "balanced_accuracy", "macro_f1")  # columns that come first where class sizes differ


def uneven(rows: list[dict[str, Any]]) -> bool:
    """Whether balanced accuracy leads, for classes that differ more than 3 : 1 in train."""
    return rows[0].get("leads_by") == "balanced_accuracy"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("model", "model", str),
    ("accuracy", "accuracy", "{:.2%}".format),
    ("95 %", "accuracy_interval", lambda ends: f"{100 * ends[0]:.1f}–{100 * ends[1]:.1f}"),
    ("bal.acc", "balanced_accuracy", "{:.2%}".format),
    ("F1", "macro_f1", "{:.3f}".format),
    ("logloss", "log_loss", "{:.3f}".format),
    ("ECE", "calibration_error", "{:.1%}".format),
    ("diff", "difference", points),
    ("p", "mcnemar_holm_p", p_value),
    ("views", "views_difference", points),
    ("fit s", "fit_seconds", _short),
    ("pred s", "predict_seconds", _short),
    ("MB", "model_bytes", lambda size: _short(size / 1e6)),
)


def _moved(stack: Stack, **now: str | None) -> Stack:
    """The stack with attributes that say where things are replaced by where they are now; None leaves one alone."""
    return dataclasses.replace(stack, attrs=stack.attrs | {name: where for name, where in now.items() if where})
