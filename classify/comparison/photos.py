"""Photos of a stack on a page: small ones, inside the file, and only while they are what their rows were made of."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from classify.comparison.predictions import Predictions
from classify.comparison.statistics import confused_pairs
from extract.images.decode import decode, framed
from features import Stack
from features.archive import open_source
from features.source import Source, Unreadable

PAIRS, PHOTOS = 6, 4  # confused pairs shown, and photos of each
PHOTO_SIDE = 160  # pixels


def pairs_with_photos(
    best: dict[str, Any], predictions: Mapping[str, Predictions], test: Stack
) -> list[dict[str, Any]]:
    """The best model's most confused pairs; of each the images that most models take for the same wrong class.

    An image is shown only if its bytes are still those that its row was made of.

    Returns:
        `true`, `predicted` (names), `count`, `of` (rows of the true class), and `photos`: `image` (a data URI),
        `path`, `agreed` (how many models say so), `confidence` (None without probabilities) and `error` (test row,
        predicted and true class).
    """
    said, names, sha256 = predictions[best["model"]], test.label_names, test.field("sha256")
    source = open_source(test.attrs.get("dataset_root", ""))
    shown = []
    for true, predicted, count in confused_pairs(np.array(best["confusion"]), PAIRS):
        rows = np.flatnonzero((said.y == true) & (said.predicted == predicted))
        agreed = np.sum([p.predicted[rows] == predicted for p in predictions.values()], axis=0)
        confidence = np.zeros(len(rows)) if said.proba is None else said.proba[rows, predicted]
        photos = []
        for i in np.lexsort((-confidence, -agreed))[:PHOTOS]:
            image = thumbnail(source, said.paths[rows[i]], sha256[rows[i]])
            sure = None if said.proba is None else float(confidence[i])
            if image:
                photos.append(
                    {
                        "image": image,
                        "path": said.paths[rows[i]],
                        "agreed": int(agreed[i]),
                        "confidence": sure,
                        "error": (int(rows[i]), predicted, true),
                    }
                )
        of = int((said.y == true).sum())
        shown.append({"true": names[true], "predicted": names[predicted], "count": count, "of": of, "photos": photos})
    return shown


def thumbnail(source: Source, path: str, sha256: np.ndarray, side: int = PHOTO_SIDE) -> str | None:
    """The middle square of a photo as a data URI of a JPEG.

    Args:
        source: where it is.
        path: the image there.
        sha256: (32,) uint8, of the file that is meant.
        side: pixels.

    Returns:
        None where it cannot be read, or is another file now.
    """
    try:
        photo = source.read(path)
        if not np.array_equal(photo.sha256, sha256):
            return None
        square = framed(decode(photo.data, side), "crop").resize((side, side))
    except Unreadable:
        return None
    file = io.BytesIO()
    square.save(file, "JPEG", quality=72, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
