"""`python -m extract DATA --backbone vgg16`: prints the stack's path, and only that, on stdout."""

import argparse
import sys

from extract import BACKBONES, extract
from extract.augment import AUGMENTS
from extract.stage import DEVICES
from features import open_stack
from features.cli import add_door, run

DONE_WITH_REJECTS = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m extract")
    add_door(parser, extract, positional=("data",), choices={"device": DEVICES, "augment": list(AUGMENTS)})
    parser.add_argument("--list", action="store_true", help="list the backbones and stop")
    given = vars(parser.parse_args())
    if given.pop("list"):
        print_backbones()
        return 0
    stack = extract(**given)
    print(stack)
    rejects = open_stack(stack).rejects
    for path, reason, *_ in rejects[:10]:
        print(f"rejected {path}: {reason}", file=sys.stderr)
    if rejects:
        print(f"{len(rejects)} images were rejected; the stack lists them all in `rejects`", file=sys.stderr)
    return DONE_WITH_REJECTS if rejects else 0


def print_backbones() -> None:
    print(f"{'name':18} {'px':>4} {'MB':>6} {'top-1':>6} {'top-5':>6} {'params':>8} {'depth':>6}  last layer")
    for row in BACKBONES.values():
        published = (row.megabytes, row.top1, row.top5)
        megabytes, top1, top5 = (f"{value:>6g}" if value is not None else f"{'-':>6}" for value in published)
        parameters, depth = f"{row.parameters:7g}M", row.depth or "-"
        print(f"{row.name:18} {row.size:4} {megabytes} {top1} {top5} {parameters} {depth:>6}  {row.layer}")


run(main)
