"""Photos with their evidence maps as one HTML file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from classify.comparison.photos import data_uri
from classify.comparison.rendering import rendered
from classify.explaining.overlay import as_seen, drawn
from extract.images.decode import decode, reading


class Shown(NamedTuple):
    """A photo on the page.

    Attributes:
        path: the file.
        names: (m,) classes, the likeliest first.
        given: (m,) their probabilities; None where there are none.
        maps: (m, h, w) evidence for them.
    """

    path: str
    names: list[str]
    given: list[float | None]
    maps: np.ndarray


def write_page(path: Path, shown: Sequence[Shown], kind: str, model: str, made: Mapping[str, Any]) -> Path:
    """Write the page; all its maps are on one scale.

    Args:
        path: the file to write.
        shown: the photos.
        kind: what the maps are.
        model: that they are of.
        made: how the model's stack was made.

    Returns:
        path.
    """
    strongest = max(float(np.abs(each.maps).max()) for each in shown)
    cards = [
        {
            "path": each.path,
            "photo": data_uri(
                as_seen(decode(Path(each.path).read_bytes(), 256, **reading(made)), made), "JPEG", quality=80
            ),
            "maps": [
                {"label": name, "probability": share, "overlay": drawn(one, strongest), "sum": float(one.sum())}
                for name, share, one in zip(each.names, each.given, each.maps, strict=True)
            ],
        }
        for each in shown
    ]
    context = {"cards": cards, "kind": kind, "model": model, "strongest": strongest}
    path.write_text(rendered("evidence.html.jinja", context), encoding="utf-8")
    return path
