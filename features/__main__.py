"""`python -m features info|verify|compress|pool|index STACK`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from features import compress, index, info, pool, verify
from features.runtime.cli import add_door, add_version, as_json, run

DOORS: dict[str, Callable[..., Any]] = {each.__name__: each for each in (info, verify, compress, pool, index)}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m features", description="Look at a feature stack, check it, or make it smaller."
    )
    add_version(parser)
    doors = parser.add_subparsers(required=True, dest="door", metavar="|".join(DOORS))
    for name, door in DOORS.items():
        add_door(doors.add_parser(name, help=(door.__doc__ or "").split("\n")[0]), door)
    given = vars(parser.parse_args())
    result = DOORS[given.pop("door")](**given)
    print(result if isinstance(result, Path) else as_json(result, indent=2))


run(main)
