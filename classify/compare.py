"""Several classifiers on the very same rows: one table, as JSON and as a report."""

import json
import traceback
from pathlib import Path
from typing import Any

from classify.comparison.judge import judge, paired_difference
from classify.fit import open_stacks, recorded, runs_of, split_again
from classify.fitting import Settings
from classify.models import MODELS, Model, model_named, model_versions
from classify.saved import write_json
from classify.task import Task
from features import Failed
from features.open import newest_stack
from features.runtime.cli import command_line
from features.runtime.errors import at_least
from features.runtime.log import log


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
    split_seed: int | None = None,
) -> Path:
    """Fit several classifiers to a stack's train rows, score each once on the same test rows, and report.

    A model that fails is listed with its reason and costs the others nothing. A comparison that was interrupted goes on
    with the model it was at. Where train images have augmented views, each model is also fitted without them, to
    measure what they bring.

    Args:
        stack: the feature stack, or several of the same rows, to be fused; by default the newest in features/stacks.
        models: the classifiers; by default all.
        epochs: maximum number of epochs for networks.
        views: number of augmented views of each train image to train on; by default all that the stack has.
        search: choose the classical models' settings by cross-validation inside the train rows.
        balance: in the classical models, let every class weigh the same, however many images it has.
        jobs: threads; by default as many as there are cores.
        dask: run the search's fits on a Dask cluster: a scheduler's address, or local:N for N processes here.
        seed: seeds everything random, in the fits and in the report.
        out: folder to write; by default classify/runs/<stack>, or classify/runs/<stack>/split-<seed>.
        data: where the dataset's images are now, if no longer where the stack was made from.
        weights: where the backbone's weights file is now, likewise.
        split_seed: split the images again by this seed, a quarter of each class to test on; the stack stays as it is.

    Returns:
        the report, `report.html`. Beside it lie `compare.json`, the list of the models' results, best first, and each
        model's own folder.

    Raises:
        Refused: a model is unknown, or the stack has too few classes or views or no test rows.
        Failed: not one of the models could be fitted.
        KeyboardInterrupt: interrupted; a network that was being trained has the result of its best weights.
    """
    from classify.comparison.report import write_report

    stack = stack or str(newest_stack())
    command = command_line(["python", "-m", "classify", "compare"], compare, dict(locals()), positional=("stack",))
    at_least(0, seed=seed, split_seed=split_seed)
    at_least(1, epochs=epochs, jobs=jobs)
    chosen = {name: model_named(name) for name in models or MODELS}
    opened = split_again(open_stacks(stack, data, weights), split_seed)
    settings = Settings(search, balance, jobs or 0, dask, seed)
    task = Task(opened, views, settings)
    without = Task(opened, 0, settings) if task.views else None
    folder = Path(out) if out else runs_of(task.name, split_seed)
    by = {"command": command, "versions": model_versions(), **recorded(split_seed)}
    fitted = FittedSoFar(folder / "unfinished.json", {**by, "stack_key": opened.key})
    plain: dict[str, Path] = {}
    failed: dict[str, str] = {}
    for name, model in chosen.items():
        if without and model.takes != "pixels":  # which it changes anew each epoch by itself
            plain[name] = folder / name / "without-views"
        kept = [folder / name, *([plain[name]] if name in plain else [])]
        if name in fitted.done and all((each / "result.json").is_file() for each in kept):
            log.info(f"{model.title} was fitted before the interruption")
            continue
        log.info(f"fitting {model.title} to {len(task.train)} rows …")
        about = {"model": name, "title": model.title, **by}
        options = {"epochs": epochs} if epochs is not None and "epochs" in model.options else {}
        try:
            _run(task, model, options, folder / name, about)
            if without and name in plain:
                log.info(f"fitting {model.title} to {len(without.train)} rows, without views …")
                _run(without, model, options, plain[name], about)
            fitted.add(name)
        except Exception as error:  # of each library its own, where memory runs out for example
            failed[name] = _reason(model, error)
    if len(failed) == len(chosen):
        raise Failed("no model could be fitted:\n" + "\n".join(f"  {name}: {why}" for name, why in failed.items()))
    rows, predictions = judge({name: folder / name for name in chosen if name not in failed})
    _add_views_gain(rows, folder, plain)
    missing = [
        {"model": name, "title": chosen[name].title, "accuracy": None, "failed": why} for name, why in failed.items()
    ]
    write_json(folder / "compare.json", rows + missing)
    report = write_report(folder / "report.html", rows, missing, predictions, task.test, seed)
    fitted.remove()
    return report


def _add_views_gain(rows: list[dict[str, Any]], folder: Path, plain: dict[str, Path]) -> None:
    """Say in each row how much better its model is than the same one fitted without views, where there is one."""
    for row in rows:
        if row["model"] in plain:
            gained, ends = paired_difference(folder / row["model"], plain[row["model"]])
            row |= {"views_difference": gained, "views_interval": ends}


def _reason(model: Model, error: Exception) -> str:
    """The reason that a model failed. It goes to stderr too, with the traceback of an unexpected error."""
    if not isinstance(error, Failed):
        log.error(traceback.format_exc().rstrip())
    reason = str(error) or type(error).__name__
    log.error(f"{model.title} failed: {reason}")
    return reason


def _run(task: Task, model: Model, options: dict[str, Any], folder: Path, about: dict[str, Any]) -> None:
    """Fit one model. If a network was interrupted, raise KeyboardInterrupt once its result is saved."""
    task.run(model, model.pool, options, folder, about)
    if json.loads((folder / "result.json").read_text("utf-8"))["params"].get("stopped_") == "interrupted":
        raise KeyboardInterrupt


class FittedSoFar:
    """The models of a comparison that are fitted already, kept on disk until it is finished.

    Args:
        path: the file, JSON.
        run: what the comparison is: command, versions, stack. What a file of another run says does not count.

    Attributes:
        done: the models.
    """

    def __init__(self, path: Path, run: dict[str, Any]) -> None:
        self.path, self.run = path, run
        try:
            kept = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            kept = {}
        self.done: list[str] = kept["done"] if kept.get("run") == run else []

    def add(self, name: str) -> None:
        """A model is fitted and scored."""
        self.done.append(name)
        write_json(self.path, {"run": self.run, "done": self.done})

    def remove(self) -> None:
        """Remove the file once the report is written, so that the same command starts anew."""
        self.path.unlink(missing_ok=True)
