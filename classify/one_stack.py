"""Several classifiers on one stack's rows: fit each, score it once on the test rows, and write table and page."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classify.comparison.judge import judge, paired_difference
from classify.comparison.table import table
from classify.fusion import parts
from classify.history import read_result
from classify.models import Model
from classify.result import Report
from classify.task import Task
from features import Failed
from features.runtime.disk import write_json
from features.runtime.log import log, say_failed

NOT_YET = "it is not fitted yet; the same command goes on with it"


def compare_models(
    task: Task, chosen: Mapping[str, Model], options: Mapping[str, Any], folder: Path, by: Mapping[str, Any]
) -> Path:
    """Fit classifiers to the rows of one stack, and report; see `compare`.

    Args:
        task: the rows.
        chosen: name → row of the classifiers.
        options: settings of networks, from the command line.
        folder: where each model gets a folder, and the page lies.
        by: what is recorded beside the results: the command, versions, the split's seed.

    Returns:
        the page.
    """
    without = Task(task.stack, 0, task.settings) if task.views else None
    fitted = FittedSoFar(folder / "unfinished.json", {**by, "stack_key": task.stack.key})
    page = Page(folder, task, chosen, without is not None)
    try:
        for name, model in chosen.items():
            if name in fitted.done and page.has(name):
                log.info(f"{model.title} was fitted before the interruption")
                page.done.append(name)
                continue
            about = {"model": name, "title": model.title, **by}
            own = {option: value for option, value in options.items() if option in model.options}
            try:
                log.info(f"fitting {model.title} to {len(task.train)} rows …")
                _run(task, model, own, folder / name, about)
                if without and name in page.plain:
                    log.info(f"fitting {model.title} to {len(without.train)} rows, without views …")
                    _run(without, model, own, page.plain[name], about)
            except Exception as error:  # of each library its own, where memory runs out for example
                page.failed[name] = say_failed(model.title, error)
            else:
                fitted.add(name)
                page.done.append(name)
                if name != list(chosen)[-1]:
                    page.write()
    except KeyboardInterrupt:
        if page.done:
            rows, report = page.write()
            log.info(f"{table(rows)}\n{report}")
        raise
    if not page.done:
        raise Failed("\n  ".join(["no model could be fitted:", *(f"{n}: {why}" for n, why in page.failed.items())]))
    _, report = page.write(whole=True)
    fitted.remove()
    return report


class Page:
    """The table and the page of the models that are fitted so far, and of those that an earlier run left.

    Args:
        folder: where they go, one folder of a model beside the other.
        task: what the models are fitted to.
        chosen: name → row, of all models that are to be fitted.
        views: whether each is also fitted without the stack's augmented views.

    Attributes:
        done: models that are fitted.
        failed: model → why it could not be.
        plain: model → the folder of the same model without views.
    """

    def __init__(self, folder: Path, task: Task, chosen: Mapping[str, Model], views: bool) -> None:
        self.folder, self.task, self.chosen = folder, task, chosen
        self.done: list[str] = []
        self.failed: dict[str, str] = {}
        # The from-scratch network changes its pixels anew each epoch, and takes no views.
        plain = [name for name, model in chosen.items() if views and model.takes != "pixels"]
        self.plain = {name: folder / name / "without-views" for name in plain}

    def has(self, name: str) -> bool:
        """Whether all results of a model of the table are on disk."""
        kept = [self.folder / name, *([self.plain[name]] if name in self.plain else [])]
        return bool(self.chosen[name].saved_as) and all((each / "result.json").is_file() for each in kept)

    def write(self, whole: bool = False) -> tuple[list[dict[str, Any]], Report]:
        """Write `compare.json` and `report.html`.

        Args:
            whole: whether nothing more will come: then the page gets the map of the test rows, which takes seconds.

        Returns:
            the table's rows, best first, and the page.
        """
        from classify.comparison.report import write_report

        earlier = self._earlier()
        rows, predictions = judge({name: self.folder / name for name in [*self.done, *earlier]})
        for row in rows:
            row["earlier"] = row["model"] in earlier
            if (plain := self.plain.get(row["model"])) and row["model"] in self.done:
                gained = paired_difference(self.folder / row["model"], plain, row["leads_by"])
                row |= {"views_difference": gained.difference, "views_interval": gained.interval}
        pending = [] if whole else [name for name in self.chosen if name not in self.done]
        missing = [
            {
                "model": name,
                "title": self.chosen[name].title,
                "accuracy": None,
                "failed": why,
                "pending": why == NOT_YET,
            }
            for name, why in {**dict.fromkeys(pending, NOT_YET), **self.failed}.items()
        ]
        write_json(self.folder / "compare.json", rows + missing)
        seed = self.task.settings.seed
        page = self.folder / "report.html"
        write_report(page, rows, missing, predictions, self.task.test, seed, self.task.train if whole else None)
        return rows + missing, Report(page)

    def _earlier(self) -> list[str]:
        """Models that earlier commands fitted to the very same rows, the oldest first."""
        found = []
        for path in self.folder.glob("*/result.json"):
            result = read_result(path)
            if result.get("stack_key") == self.task.stack.key and result.get("model") not in self.chosen:
                found.append((result.get("date", ""), path.parent.name))
        return [name for _, name in sorted(found)]


def _run(task: Task, model: Model, options: dict[str, Any], folder: Path, about: dict[str, Any]) -> None:
    """Fit one model. If a network was interrupted, raise KeyboardInterrupt once its result is saved."""
    flat = all(len(part.feature_shape) == 1 for part in parts(task.stack))
    task.run(model, "flatten" if flat and not model.saved_as else model.pool, options, folder, about)
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
