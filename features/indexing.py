"""A file that names shards for good."""

import os
from pathlib import Path

from features.open import INDEX, INDEX_VERSION, open_stack
from features.runtime.disk import write_json
from features.runtime.errors import Refused, listed
from features.shards import end_to_end


def index(stacks: list[str], out: str = "shards.json") -> Path:
    """Write a small JSON file that names shards for good: `fit`, `compare` and `open_stack` take it for one stack.

    Args:
        stacks: the shards, of one recipe and of different images.
        out: the .json file to write; the shards must lie in its folder or below.

    Returns:
        the path that was written.

    Raises:
        Refused: they are of different recipes, or lie elsewhere.
    """
    target = Path(out)
    if target.suffix != ".json":
        raise Refused(f"--out {out}: the index is a .json file")
    opened = [open_stack(name) for name in stacks]
    end_to_end(opened)
    places = [Path(os.path.relpath(stack.path, target.parent)).as_posix() for stack in opened]
    if outside := [place for place in places if place.startswith("..")]:
        raise Refused(f"{listed(outside)} lie outside {target.parent.resolve()}: write the index above the shards")
    shards = [{"path": place, "key": stack.key} for place, stack in zip(places, opened, strict=True)]
    write_json(target, {"format": INDEX, "format_version": INDEX_VERSION, "shards": shards})
    return target
