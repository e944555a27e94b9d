"""Photos of a stack on a page: small ones, inside the file, and only while they are what their rows were made of."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from classify.comparison.predictions import Predictions
from classify.comparison.statistics import confused_pairs
from extract.images.decode import decode, framed, reading
from features import Stack
from features.archive import open_source
from features.source import Source, Unreadable

PAIRS, PHOTOS = 6, 4  # confused pairs shown, and photos of each
PHOTO_SIDE = 160  # pixels


class Errors:
    """The best model's errors on the test rows, and their photos.

    A photo is `image` (a data URI), `path`, `agreed` (how many models say the same), `confidence` (None without
    probabilities), `error` (test row, predicted and true class) and the names of the two. An image is shown only if
    its bytes are still those that its row was made of.

    Args:
        best: of `compare.json`.
        predictions: model → what it said of the test rows.
        test: the test rows.
    """

    def __init__(self, best: dict[str, Any], predictions: Mapping[str, Predictions], test: Stack) -> None:
        self._said, self._names, self._sha256 = predictions[best["model"]], test.label_names, test.field("sha256")
        self._source = open_source(test.attrs.get("dataset_root", ""))
        self._how = reading(test.attrs)
        self._confusion = np.array(best["confusion"])
        said = self._said
        self._agreed = np.sum([p.predicted == said.predicted for p in predictions.values()], axis=0)
        rows = np.arange(len(said.y))
        self._confidence = np.zeros(len(rows)) if said.proba is None else said.proba[rows, said.predicted]

    def pairs(self) -> list[dict[str, Any]]:
        """The most confused pairs; of each the photos that most models take for the same wrong class.

        Returns:
            `true`, `predicted` (names), `count`, `of` (rows of the true class), and `photos`.
        """
        said, shown = self._said, []
        for true, predicted, count in confused_pairs(self._confusion, PAIRS):
            rows = np.flatnonzero((said.y == true) & (said.predicted == predicted))
            order = np.lexsort((-self._confidence[rows], -self._agreed[rows]))[:PHOTOS]
            told = {"true": self._names[true], "predicted": self._names[predicted], "count": count}
            shown.append({**told, "of": int((said.y == true).sum()), "photos": self._photos(rows[order])})
        return shown

    def surest(self) -> list[dict[str, Any]]:
        """The photos of the errors that the model is surest of; none without probabilities."""
        wrong = np.flatnonzero(~self._said.right)
        order = np.argsort(-self._confidence[wrong], kind="stable")[: 2 * PHOTOS]
        return [] if self._said.proba is None else self._photos(wrong[order])

    def _photos(self, rows: np.ndarray) -> list[dict[str, Any]]:
        said, photos = self._said, []
        for row in rows.tolist():
            predicted, true = int(said.predicted[row]), int(said.y[row])
            image = thumbnail(self._source, said.paths[row], self._sha256[row], self._how)
            if image:
                photos.append(
                    {
                        "image": image,
                        "path": said.paths[row],
                        "agreed": int(self._agreed[row]),
                        "confidence": None if said.proba is None else float(self._confidence[row]),
                        "error": (row, predicted, true),
                        "true": self._names[true],
                        "predicted": self._names[predicted],
                    }
                )
        return photos


def thumbnail(
    source: Source, path: str, sha256: np.ndarray, how: Mapping[str, Any], side: int = PHOTO_SIDE
) -> str | None:
    """The middle square of a photo as a data URI of a JPEG.

    Args:
        source: where it is.
        path: the image there.
        sha256: (32,) uint8, of the file that is meant.
        how: it is decoded; see `reading`.
        side: pixels.

    Returns:
        None where it cannot be read, or is another file now.
    """
    try:
        photo = source.read(path)
        if not np.array_equal(photo.sha256, sha256):
            return None
        square = framed(decode(photo.data, side, **how), "crop").resize((side, side))
    except Unreadable:
        return None
    return data_uri(square, "JPEG", quality=72)


def data_uri(image: Image.Image, kind: str, **how: int) -> str:
    """An image as the source of an `img`: `kind` is PNG or JPEG, `how` as Pillow takes it."""
    file = io.BytesIO()
    image.save(file, kind, optimize=True, **how)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(file.getvalue()).decode()
