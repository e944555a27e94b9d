"""The same images in several stacks: match their rows, and refuse stacks of other images, labels or splits."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from features import Refused, Stack
from features.runtime.errors import listed, shown

Key = tuple[str, bytes, int]  # path, SHA-256, view
AGAIN = "Extract that stack again, or name another"


class Aligned(NamedTuple):
    """Several stacks' rows of the same images, in the same order.

    Attributes:
        stacks: with only those rows.
        left_out: images that some stack rejected, and that are therefore left out of all.
    """

    stacks: list[Stack]
    left_out: list[str]


def aligned(stacks: Sequence[Stack], own_split: bool = True) -> Aligned:
    """Match rows by path, SHA-256 and view.

    An image that one stack rejected is left out of all. Nothing else may be missing.

    Args:
        stacks: of the same images.
        own_split: whether the stacks' own splits will be used, and so must be the same.

    Raises:
        Refused: a stack is given twice, or is of other images, labels, groups, views or another split; the message
            names both stacks and the first image that differs.
    """
    _refuse_twins(stacks)
    first = stacks[0]
    keys = [_keys(stack) for stack in stacks]
    common = set(keys[0]).intersection(*keys[1:])
    rejected = {path for stack in stacks for path, *_ in stack.rejects}
    for stack, own in zip(stacks, keys, strict=True):
        for path, digest, view in own:
            if (path, digest, view) not in common and path not in rejected:
                _refuse_stranger(stack, path, view, stacks, keys)
    places = [{key: row for row, key in enumerate(own)} for own in keys]
    order = [key for key in keys[0] if key in common]
    matched = [
        stack.take(np.array([place[key] for key in order], np.int64))
        for stack, place in zip(stacks, places, strict=True)
    ]
    for other in matched[1:]:
        _refuse_others(matched[0], other, own_split)
    if not order:
        raise Refused(f"no image of {first.path} could be read in all of the stacks")
    return Aligned(matched, sorted(rejected.intersection(path for own in keys for path, _, _ in own)))


def _keys(stack: Stack) -> list[Key]:
    """(path, SHA-256, view) of each row."""
    digests = (digest.tobytes() for digest in stack.field("sha256"))
    return list(zip(stack.paths, digests, stack.view.tolist(), strict=True))


def _refuse_twins(stacks: Sequence[Stack]) -> None:
    for i, stack in enumerate(stacks):
        for other in stacks[:i]:
            if stack.path.resolve() == other.path.resolve():
                raise Refused(f"{stack.path} is given twice")
            if stack.key == other.key:
                raise Refused(f"{stack.path} and {other.path} hold the same features of the same images: name one")


def _refuse_stranger(
    stack: Stack, path: str, view: int, stacks: Sequence[Stack], keys: Sequence[Sequence[Key]]
) -> None:
    """Say which stack lacks a row that is no reject, and why."""
    for other, own in zip(stacks, keys, strict=True):
        mine = [key for key in own if key[0] == path]
        if not mine:
            raise Refused(
                f"{shown(path)} is in {stack.path}, but {other.path} neither holds it nor rejected it: these are not "
                f"stacks of the same images. {AGAIN}: {other.attrs['command']}"
            )
        if not any(key[2] == view for key in mine):
            raise Refused(
                f"{stack.path} has view {view} of {shown(path)}, and {other.path} has not. Compare stacks of as many "
                "views, or only the images themselves: --views 0"
            )
    raise Refused(
        f"{shown(path)} is not the same file in all stacks: it changed between two extractions. Extract them again, "
        f"{stack.path} perhaps: {stack.attrs['command']}"
    )


def _refuse_others(first: Stack, other: Stack, own_split: bool) -> None:
    """Refuse other labels, groups or splits."""
    if other.label_names != first.label_names:
        strange = sorted(set(other.label_names) ^ set(first.label_names))
        raise Refused(f"{other.path} has other classes than {first.path}: {listed(strange)} are not in both. {AGAIN}")
    if other.groups != first.groups:
        raise Refused(f"{other.path} has other groups than {first.path}. {AGAIN}")
    for what, one, two in (("label", first.y, other.y), ("split", first.split, other.split)):
        differ = np.flatnonzero(one != two)
        if len(differ) and (what == "label" or own_split):
            way = AGAIN if what == "label" else "Draw the same new ones for all of them: --split-seed 0 or --repeats 10"
            raise Refused(
                f"{other.path} has another {what} than {first.path} for {len(differ)} images, "
                f"{shown(first.paths[int(differ[0])])} for example. {way}"
            )
