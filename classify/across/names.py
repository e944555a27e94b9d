"""Short names of stacks that are compared."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from extract.backbones import BACKBONES
from features import Stack
from features.schema import recipe_attrs

UNTOLD = ("backbone", "weights_sha256")  # parts of a recipe that a name says in other words


def names_of(stacks: Sequence[Stack]) -> list[str]:
    """A name for each stack: its backbone, and what sets it apart from the others of that backbone.

    The backbone's own layer and size go without saying, and so does what most of its stacks have in common: a name does
    not depend on the order of the stacks.
    """
    names = []
    for stack in stacks:
        backbone = stack.attrs["backbone"]
        alike = [recipe_attrs(each.attrs) for each in stacks if each.attrs["backbone"] == backbone]
        words = [backbone]
        for part, value in recipe_attrs(stack.attrs).items():
            values = [recipe.get(part) for recipe in alike]
            if part not in UNTOLD and len(set(values)) > 1 and value != _usual(part, values, stack):
                words.append(f"{value}px" if part == "input_size" else str(value))
        weights = {str(each.attrs.get("weights")) for each in stacks if each.attrs["backbone"] == backbone}
        if len(weights) > 1:
            words.append(str(stack.attrs.get("weights")).split(".")[0])
        names.append(" ".join(words))
    stems = [stack.path.name.removesuffix(".h5").removesuffix(".json") for stack in stacks]
    return names if len(set(names)) == len(names) else stems


def _usual(part: str, values: Sequence[Any], stack: Stack) -> Any:
    """What goes without saying of a part of the recipe: the backbone's own, else what most have."""
    backbone = BACKBONES.get(stack.attrs["backbone"])
    if backbone and part == "layer":
        return backbone.layer_at(stack.attrs["input_size"])
    if backbone and part == "input_size":
        return backbone.size
    (value, count), *others = Counter(values).most_common(2)
    return None if others and others[0][1] == count else value
