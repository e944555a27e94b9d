"""`python -m classify fit|compare STACK`, `python -m classify predict MODEL PHOTOS`."""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from classify import MODELS, compare, fit, predict
from classify.comparison.table import table
from classify.models import BASELINE
from features.reader import POOLS
from features.runtime.cli import DONE_WITH_REJECTS, KEPT, add_door, as_json, interrupted, run
from features.runtime.errors import shown
from features.runtime.log import log


def main() -> int | None:
    parser = argparse.ArgumentParser(prog="python -m classify", description="Fit classifiers to a feature stack.")
    doors = parser.add_subparsers(required=True, dest="door", metavar="fit|compare|predict")
    one = doors.add_parser("fit", help="one classifier")
    add_door(one, fit, positional=("stack",), choices={"model": list(MODELS), "pool": POOLS})
    one.add_argument("--json", action="store_true", help="print the result as one JSON object")
    several = doors.add_parser("compare", help="several classifiers on the same rows")
    add_door(several, compare, positional=("stack",), choices={"models": list(MODELS)})
    add_door(doors.add_parser("predict", help="photos, by a saved model"), predict)
    given = vars(parser.parse_args())
    door = given.pop("door")
    if door == "predict":
        return tell_rejects(predict(**given))
    if door == "compare":
        report = compare(**given)
        print(f"{table(read(report.with_name('compare.json')))}\n{report}")
        return None
    wants_json = given.pop("json")
    folder = fit(**given)
    result = read(folder / "result.json")
    print(as_json(result) if wants_json else f"{table(beside_baseline(result, folder))}\n{folder}")
    return interrupted() if result["params"].get("stopped_") == "interrupted" else 0


def tell_rejects(rejects: list[tuple[str, str]]) -> int:
    """List the first images that could not be read on stderr; returns the exit code."""
    for path, reason in rejects[:10]:
        log.info(f"rejected {shown(path)}: {reason}")
    if rejects:
        log.info(f"{len(rejects)} photos could not be read; the table lists them all")
    return DONE_WITH_REJECTS if rejects else 0


def beside_baseline(result: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """A result and the baseline's on the same rows, if there is one; else stderr says how to make it."""
    if result["model"] == BASELINE:
        return [result]
    path = folder.parent / BASELINE / "result.json"
    baseline = read(path) if path.is_file() else {}
    if baseline.get("stack_key") == result["stack_key"]:
        return [result, baseline]
    again = f" --split-seed {result['split_seed']}" if "split_seed" in result else ""
    words = f"python -m classify fit {shlex.quote(result['stack'])} --model {BASELINE}{again}"
    log.info(f"to compare: {words}")
    return [result]


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


run(main, "predict starts from the beginning again" if sys.argv[1:2] == ["predict"] else KEPT)
