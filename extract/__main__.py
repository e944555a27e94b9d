"""`python -m extract DATA --backbone vgg16`: prints the stack's path, and only that, on stdout."""

import argparse
import math
import sys

from extract import BACKBONES, extract
from extract.images.decode import FILTERS, RESIZES
from extract.images.views import AUGMENTS
from extract.network.engines import ENGINES, PRECISIONS
from extract.stage import DEVICES
from features import Failed, Refused, info, open_stack
from features.open import STACKS
from features.runtime.cli import DONE_WITH_REJECTS, add_door, add_version, as_json, run
from features.runtime.errors import shown
from features.runtime.log import log


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m extract")
    choices = {
        "device": DEVICES,
        "engine": ["auto", *ENGINES],
        "precision": list(PRECISIONS),
        "augment": list(AUGMENTS),
        "resize": RESIZES,
        "filter": list(FILTERS),
    }
    add_door(parser, extract, positional=("data",), choices=choices)
    add_version(parser)
    parser.add_argument(
        "--json", action="store_true", help="print what `features info` says of the stack, as one object"
    )
    parser.add_argument("--list", action="store_true", help="list the backbones and stop")
    given = vars(parser.parse_args())
    if given.pop("list"):
        print_backbones()
        return 0
    wants_json = given.pop("json")
    stack = extract(**given)
    rejects = open_stack(stack).rejects
    print(as_json(info(str(stack)) | {"rejected": {path: why for path, why, *_ in rejects}}) if wants_json else stack)
    for path, reason, *_ in rejects[:10]:
        log.info(f"rejected {shown(path)}: {reason}")
    if rejects:
        log.info(f"{len(rejects)} images were rejected; the stack lists them all in `rejects`")
    return DONE_WITH_REJECTS if rejects else 0


def print_backbones() -> None:
    """Print the table of backbones, with the speed at which finished stacks here were made."""
    speeds = measured_speeds()
    head = ("name", "px", "stack", "width", "MB", "top-1", "top-5", "params", "depth", "images/s", "layer")
    lines: list[tuple[str, ...]] = [head]
    for row in BACKBONES.values():
        shape = (row.positions, row.positions, row.channels)
        published = (row.megabytes, row.top1, row.top5)
        lines.append(
            (
                row.name,
                str(row.size),
                "×".join(map(str, shape)),
                f"{math.prod(shape):,}",
                *("–" if value is None else f"{value:g}" for value in published),
                f"{row.parameters:g}M",
                str(row.depth or "–"),
                f"{speeds[row.name]:.1f}" if row.name in speeds else "–",
                row.layer,
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        middle = (f"{cell:>{width}}" for cell, width in zip(line[1:-1], widths[1:-1], strict=True))
        print(f"{line[0]:<{widths[0]}}", *middle, line[-1], sep="  ")
    print("stack, width: of one row at px and layer; MB to depth: as published, for the whole network", file=sys.stderr)
    print(f"images/s: as the stacks in {STACKS} were made; – where there is none", file=sys.stderr)


def measured_speeds() -> dict[str, float]:
    """Backbone → rows a second, of the fastest finished stack in `features/stacks` at its native size and layer."""
    speeds: dict[str, float] = {}
    for path in STACKS.glob("*.h5"):
        try:
            stack = open_stack(path)
        except (Failed, Refused) as error:
            print(error, file=sys.stderr)
            continue
        row = BACKBONES.get(stack.attrs["backbone"])
        if row and (stack.attrs["input_size"], stack.attrs["layer"]) == (row.size, row.layer) and stack.extract_seconds:
            speeds[row.name] = max(speeds.get(row.name, 0.0), len(stack) / stack.extract_seconds)
    return speeds


run(main)
