"""The kinds of what an audit finds, and one finding."""

from typing import NamedTuple

from features.schema import SPLITS

CHECKED = "checked"  # the reason of a line of corrections that says that a label is right
KINDS = {  # kind of finding → what it is called
    "label": "labels in doubt",
    "copy": "near copies",
    "outlier": "unlike all others",
    "empty": "nearly black or white",
    "blurred": "blurred",
}
NAMES = {code: name for name, code in SPLITS.items()}


class Finding(NamedTuple):
    """One image, and what is odd about it.

    Attributes:
        kind: a name in `KINDS`.
        row: index of the image.
        score: of `label` the probability of its label, of `copy` the cosine with the nearest, of `outlier` the mean
            cosine with its nearest, of `empty` its lightest luminance, of `blurred` its sharpness.
        suggested: of `label`, the class that it looks like.
        group: of `copy`, the number of its group from 0 on; else −1.
        sure: of `label`, whether it counts as wrong by confident learning.
    """

    kind: str
    row: int
    score: float
    suggested: str = ""
    group: int = -1
    sure: bool = False
