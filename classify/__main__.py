"""`python -m classify fit|compare STACK`, `… predict MODEL PHOTOS`, `… export MODEL --to FORMAT`."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from classify import MODELS, audit, compare, explain, export, fit, history, predict
from classify.across.table import sets_table
from classify.audit import told as counts_of
from classify.comparison.judge import judge
from classify.comparison.predictions import Predictions
from classify.comparison.table import table
from classify.export import TARGETS
from classify.models import BASELINE
from features.reader import POOLS
from features.runtime.cli import DONE_WITH_REJECTS, KEPT, add_door, add_version, as_json, interrupted, print_path, run
from features.runtime.errors import shown
from features.runtime.log import log


def main() -> int | None:
    parser = argparse.ArgumentParser(prog="python -m classify", description="Fit classifiers to a feature stack.")
    add_version(parser)
    doors = parser.add_subparsers(required=True, dest="door", metavar="|".join(DOORS))
    for name, (door, what, json_of, _) in DOORS.items():
        one = doors.add_parser(name, help=what)
        add_door(one, door, positional=("stack",), choices=CHOICES.get(name), named=("to",))
        if json_of:
            one.add_argument("--json", action="store_true", help=f"print {json_of} as one JSON object")
    given = vars(parser.parse_args())
    door, _, json_of, show = DOORS[given.pop("door")]
    wants_json = bool(json_of) and given.pop("json")
    return show(door(**given), wants_json)


def show_fit(folder: Path, wants_json: bool) -> int:
    """Print the scores; returns the exit code."""
    result = read(folder / "result.json")
    print(as_json(result) if wants_json else told(result, folder))
    return interrupted() if result["params"].get("stopped_") == "interrupted" else 0


def show_comparison(report: Path, wants_json: bool) -> None:
    """Print the table and the page's path."""
    rows = read(report.with_name("compare.json"))
    if wants_json:
        print(as_json({"report": str(report), "models": rows}))
        return
    beside = report.with_name("comparison.json")
    print(f"{sets_table(rows, read(beside)) if 'features' in rows[0] else table(rows)}\n{report}")


def show_audit(path: Path, wants_json: bool) -> None:
    """Print the counts and the page's path."""
    about = read(path.with_name("audit.json"))
    print(as_json(about | {"audit": str(path)}) if wants_json else f"{counts_of(about)}\n{path}")


def show_path(path: Path, wants_json: bool) -> None:
    """Print what was written."""
    print_path(path)


def tell_rejects(rejects: list[tuple[str, str]], wants_json: bool) -> int:
    """List the first images that could not be read on stderr; returns the exit code."""
    for path, reason in rejects[:10]:
        log.info(f"rejected {shown(path)}: {reason}")
    if rejects:
        log.info(f"{len(rejects)} photos could not be read; the table lists them all")
    return DONE_WITH_REJECTS if rejects else 0


def told(result: dict[str, Any], folder: Path) -> str:
    """A fitted model's scores beside the baseline's, its most confident errors, what changed, and where it lies."""
    folders, name = {result["model"]: folder}, result["model"]
    baseline = folder.parent / BASELINE
    here = read(baseline / "result.json") if (baseline / "result.json").is_file() else {}
    again = f" --split-seed {result['split_seed']}" if "split_seed" in result else ""
    whole = Path(result["stack"]).exists()  # else it is several
    stack = shlex.quote(result["stack"]) if whole else result["stack"]
    if name != BASELINE and here.get("stack_key") == result["stack_key"]:
        folders[BASELINE] = baseline
    elif name != BASELINE:
        log.info(f"to compare: python -m classify fit {stack} --model {BASELINE}{again}")
    log.info(f"a page about it: python -m classify compare {stack} --models {name}{again}")
    rows, predictions = judge(folders)
    lines = [table(rows)]
    lines += [f"sure and wrong: {line}" for line in surest_errors(predictions[name], result["label_names"])]
    lines += [history.said(result["since"])] if result.get("since") else []
    return "\n".join([*lines, str(folder)])


def surest_errors(said: Predictions, names: list[str]) -> list[str]:
    """The three errors that a model is most confident of, by name: whoever looks may find a wrong label."""
    wrong = np.flatnonzero(~said.right)
    if said.proba is None or not len(wrong):
        return []
    sure = said.proba[wrong, said.predicted[wrong]]
    first = np.argsort(-sure, kind="stable")[:3]
    rows = [(shown(said.paths[i]), names[said.y[i]], names[said.predicted[i]]) for i in wrong[first]]
    return [f"{path}, {y} taken for {guess} ({p:.0%})" for (path, y, guess), p in zip(rows, sure[first], strict=True)]


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


AGAIN = {"predict", "export"} & {*sys.argv[1:2]}
CHOICES: dict[str, dict[str, Any]] = {"fit": {"model": list(MODELS), "pool": POOLS}, "export": {"to": list(TARGETS)}}
# Command → its function, what it does, what --json prints (if it has that option), and who prints what it returns.
DOORS: dict[str, tuple[Callable[..., Any], str, str, Callable[[Any, bool], int | None]]] = {
    "fit": (fit, "one classifier", "the result", show_fit),
    "compare": (compare, "several classifiers on the same rows", "report and results", show_comparison),
    "predict": (predict, "photos, by a saved model", "", tell_rejects),
    "explain": (explain, "which places of photos speak for the answer", "", show_path),
    "audit": (audit, "labels, copies and photos that look wrong", "the counts", show_audit),
    "export": (export, "a saved model as one file for other runtimes", "", show_path),
}

run(main, f"{''.join(AGAIN)} starts from the beginning again" if AGAIN else KEPT)
