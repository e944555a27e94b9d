"""`python -m classify fit|compare STACK`."""

import argparse
import json
from pathlib import Path
from typing import Any

from classify import MODELS, compare, fit
from classify.compare import table
from features.cli import add_door, run
from features.reader import POOLS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m classify", description="Fit classifiers to a feature stack.")
    doors = parser.add_subparsers(required=True, dest="door", metavar="fit|compare")
    one = doors.add_parser("fit", help="one classifier")
    add_door(one, fit, positional=("stack",), choices={"model": list(MODELS), "pool": POOLS})
    one.add_argument("--json", action="store_true", help="print the result as one JSON object")
    several = doors.add_parser("compare", help="several classifiers on the same rows")
    add_door(several, compare, positional=("stack",), choices={"models": list(MODELS)})
    given = vars(parser.parse_args())
    if given.pop("door") == "compare":
        report = compare(**given)
        print(f"{table(read(report.with_name('compare.json')))}\n{report}")
        return
    as_json = given.pop("json")
    folder = fit(**given)
    result = read(folder / "result.json")
    print(json.dumps(result, ensure_ascii=False) if as_json else f"{table([result])}\n{folder}")


def read(path: Path) -> Any:
    return json.loads(path.read_text())


run(main)
