"""`python -m features info|verify|compress|pool|index|find STACK`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from features import compress, find, index, info, pool, verify
from features.reader import POOLS
from features.runtime.cli import add_door, add_version, as_json, print_path, run
from features.runtime.errors import shown

DOORS: dict[str, Callable[..., Any]] = {each.__name__: each for each in (info, verify, compress, pool, index, find)}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m features", description="Look at a feature stack, check it, or make it smaller."
    )
    add_version(parser)
    doors = parser.add_subparsers(required=True, dest="door", metavar="|".join(DOORS))
    for name, door in DOORS.items():
        one = doors.add_parser(name, help=(door.__doc__ or "").split("\n")[0])
        add_door(one, door, choices={"pool": POOLS} if door is find else None)
        if door is find:
            one.add_argument("--json", action="store_true", help="print a JSON object instead of lines")
    given = vars(parser.parse_args())
    wants_lines = given["door"] == "find" and not given.pop("json")
    result = DOORS[given.pop("door")](**given)
    if wants_lines:
        print("\n\n".join(map(lines_of, result)))
    elif isinstance(result, Path):
        print_path(result)
    else:
        print(as_json(result, indent=2))


def lines_of(found: dict[str, Any]) -> str:
    """A photo, and below it a line for each of the images that are most like it."""
    wide = max(len(each["label"] or "") for each in found["nearest"])
    near = [
        f"{each['cosine']:8.4f}  {each['split']:<5}  {each['label'] or '–':<{wide}}  {shown(each['path'])}"
        for each in found["nearest"]
    ]
    own = f" = {shown(found['path'])}" if found["path"] not in (None, found["photo"]) else ""
    return "\n".join([shown(found["photo"]) + own, *near])


run(main)
