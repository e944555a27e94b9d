"""Why a model erred: evidence for both classes in a test image, and the train images that it looks like."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from classify.answers import SavedModel
from classify.comparison.photos import data_uri, thumbnail
from classify.explaining.evidence import Evidence, evidence, kind_of
from classify.explaining.overlay import as_seen, drawn
from classify.fusion import parts
from classify.saved import load_answers
from extract.images.decode import decode, reading
from features import Failed, Refused, Stack
from features.nearest import nearest, unit_pieces, unit_rows
from features.nearest import pooled as pooled_rows
from features.source import Source

LIKE, SMALL = 3, 64  # train images shown beside an error, and their pixels


class Error(NamedTuple):
    """A test image that was taken for another class.

    Attributes:
        row: index among the test rows.
        predicted, true: indices of `label_names`.
    """

    row: int
    predicted: int
    true: int


class Reasons(NamedTuple):
    """Of some errors.

    Attributes:
        model: whose evidence it is; empty where no model has any.
        kind: what the maps are.
        maps: of each error the photo and (class, overlay) twice; empty where there is no evidence.
        like: of each error (photo, label, path) of the nearest train images.
    """

    model: str
    kind: str
    maps: list[dict[str, Any]]
    like: list[list[dict[str, Any]]]


def reasons(errors: Sequence[Error], folders: Sequence[Path], train: Stack, test: Stack, source: Source) -> Reasons:
    """Evidence of the first model that has any, and the nearest train images.

    Args:
        errors: to explain.
        folders: of the models, the best first.
        train, test: rows; augmented views are no train images.
        source: where the photos are.
    """
    some = test.take(np.array([each.row for each in errors]))
    own = train.take(train.view == 0)
    near = nearest(unit_pieces(own, "avg"), unit_rows(pooled_rows(some, "avg")), LIKE)
    sha256, names = own.field("sha256"), own.label_names
    made = parts(test)[0].attrs
    how = reading(made)
    shown = [row for row in np.unique(near.rows) if row >= 0]
    small = {row: thumbnail(source, own.paths[row], sha256[row], how, SMALL) for row in shown}
    like = [
        [{"photo": small[row], "label": names[own.y[row]], "path": own.paths[row]} for row in each if row >= 0]
        for each in near.rows.tolist()
    ]
    model, found = _evidence(folders, some, np.array([each[1:] for each in errors]))
    if found is None:
        return Reasons("", "", [], like)
    strongest = float(np.abs(found.maps).max())
    maps = [
        {
            "photo": data_uri(as_seen(decode(source.read(path).data, 256, **how), made), "JPEG", quality=80),
            "overlays": [(names[code], drawn(one, strongest)) for code, one in zip(each[1:], both, strict=True)],
        }
        for path, each, both in zip(some.paths, errors, found.maps, strict=True)
    ]
    return Reasons(model, found.kind, maps, like)


def _evidence(folders: Sequence[Path], some: Stack, classes: np.ndarray) -> tuple[str, Evidence | None]:
    """The name of the first model that has evidence, and its evidence for classes (k, 2) in rows."""
    rows: list[np.ndarray] | None = None
    for folder in folders:
        try:
            model = SavedModel(*load_answers(folder))
        except (Failed, Refused, KeyError):  # a user's own is not saved
            continue
        if kind_of(model)[0]:
            rows = rows or [np.asarray(part.X, "<f4") for part in parts(some)]
            return folder.name, evidence(model, rows, classes)
    return "", None
