"""`python -m extract DATA --backbone vgg16`: prints the stack's path, and only that, on stdout.

`python -m extract cache` lists the converted networks that are kept, and `--clear` removes them.
"""

import argparse
import math
import sys
import time
from pathlib import Path

from extract import BACKBONES, extract, extract_layers
from extract.images.decode import FILTERS, RESIZES
from extract.images.views import AUGMENTS
from extract.layers import layers_of
from extract.network import cache
from extract.network.engines import ENGINES, PRECISIONS
from extract.stage import DEVICES
from features import Failed, Refused, info, open_stack
from features.open import STACKS
from features.runtime.cli import DONE_WITH_REJECTS, add_door, add_version, as_json, print_path, run
from features.runtime.errors import shown
from features.runtime.log import log
from features.schema import POOLINGS, STORES


def main() -> int:
    if sys.argv[1:2] == ["cache"]:
        return manage_cache(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m extract")
    choices = {
        "device": DEVICES,
        "engine": ["auto", *ENGINES],
        "precision": list(PRECISIONS),
        "augment": list(AUGMENTS),
        "resize": RESIZES,
        "filter": list(FILTERS),
        "pool": list(POOLINGS),
        "store": list(STORES),
    }
    add_door(parser, extract, positional=("data",), several=("layer",), choices=choices)
    add_version(parser)
    parser.add_argument(
        "--json", action="store_true", help="print what `features info` says of the stack, as one object"
    )
    parser.add_argument("--list", action="store_true", help="list the backbones and stop")
    parser.add_argument("--layers", metavar="MODEL", help="list what --layer takes of a backbone or model, and stop")
    given = vars(parser.parse_args())
    if model := given.pop("layers"):
        for name, shape in layers_of(model, given["size"], given["axes"] or "").items():
            print(f"{'×'.join(map(str, shape)):>14}  {name}")
        return 0
    if given.pop("list"):
        print_backbones()
        return 0
    wants_json = given.pop("json")
    layers = given.pop("layer") or [None]
    if layers[-1] and Path(layers[-1]).exists():
        raise Refused(f"{layers[-1]} stands after --layer and is taken for a layer: give the dataset first")
    made = extract_layers(layers, **given) if len(layers) > 1 else [extract(**given, layer=layers[0])]
    return max(tell(stack, wants_json) for stack in made)


def tell(stack: Path, wants_json: bool) -> int:
    """Print what was made; returns the exit code."""
    rejects = open_stack(stack).rejects
    if wants_json:
        print(as_json(info(str(stack)) | {"rejected": {path: why for path, why, *_ in rejects}}))
    else:
        print_path(stack)
    for path, reason, *_ in rejects[:10]:
        log.info(f"rejected {shown(path)}: {reason}")
    if rejects:
        log.info(f"{len(rejects)} images were rejected; the stack lists them all in `rejects`")
    return DONE_WITH_REJECTS if rejects else 0


def manage_cache(words: list[str]) -> int:
    """List the converted networks that are kept, or remove them."""
    parser = argparse.ArgumentParser(prog="python -m extract cache", description=manage_cache.__doc__)
    parser.add_argument("--clear", action="store_true", help="remove them all")
    if parser.parse_args(words).clear:
        log.info(f"{cache.clear()} networks were removed from {cache.cache_folder()}")
        return 0
    kept = [entry for entry in cache.entries() if entry.is_network]
    for entry in kept:
        used = time.strftime("%Y-%m-%d", time.localtime(entry.used))
        key = {"backbone": "cannot be read", "size": 0, "layers": [], **entry.key}
        name = f"{key['backbone']} {key['size']} px {' '.join(key['layers'])}"
        print(f"{entry.size / 1e6:8.1f} MB  used {used}  {name}")
    size, most = sum(entry.size for entry in kept) / 1e6, cache.limit() / 1e6
    log.info(f"{len(kept)} networks in {cache.cache_folder()}, {size:,.1f} MB of {most:,.0f} at most")
    return 0


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
