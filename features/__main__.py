"""`python -m features info|verify STACK`."""

import argparse
import json

from features import info, verify
from features.cli import add_door, run

DOORS = {"info": info, "verify": verify}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m features", description="Look at a feature stack, or check it.")
    doors = parser.add_subparsers(required=True, dest="door", metavar="|".join(DOORS))
    for name, door in DOORS.items():
        add_door(doors.add_parser(name, help=(door.__doc__ or "").split("\n")[0]), door)
    given = vars(parser.parse_args())
    print(json.dumps(DOORS[given.pop("door")](**given), indent=2, ensure_ascii=False))


run(main)
