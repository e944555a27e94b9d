"""A saved model and photos → a page that shows which places spoke for the answer."""

import os
from pathlib import Path

import numpy as np

from classify.classifier import Classifier
from classify.predict import photo_files
from features import Failed, Refused
from features.runtime.errors import at_least
from features.runtime.lock import check_writable
from features.runtime.log import log

MOST = 500  # photos on a page: each takes about 20 kB


def explain(
    model: str, photos: list[str], classes: int = 2, weights: str | None = None, out: str = "explain.html"
) -> Path:
    """Show which places of photos speak for the model's answer, and which against it.

    A linear model's decision is a sum over places, so its maps are exact. An SVM with a kernel and the dense head on
    averages have gradients, XGBoost has SHAP values of channels; the page says so. Rows without positions
    (vectors, class tokens), nearest neighbours and networks on pixels have none.

    Args:
        model: folder of a saved model, classify/runs/<stack>/<model>.
        photos: files, and folders that are searched for image files with all below them.
        classes: how many of the likeliest classes get a map.
        weights: where the backbone's weights file is now, if it has moved, or a folder that it is in.
        out: the page to write.

    Returns:
        the page.

    Raises:
        Refused: the model has no maps, there are no photos, or its stage one cannot be had here.
        Failed: not one photo could be read.
    """
    from classify.explaining.evidence import evidence, kind_of
    from classify.explaining.page import Shown, write_page

    at_least(1, classes=classes)
    files = list(photo_files(photos))
    if len(files) > MOST:
        raise Refused(f"{len(files)} photos would make a page of {len(files) * 0.02:.0f} MB: give at most {MOST}")
    page = Path(out)
    if page.is_dir():
        raise Refused(f"--out {out} is a folder: name the page to write")
    check_writable(page.resolve().parent)
    classifier = Classifier.load(model, weights)
    kind, why = kind_of(classifier.model)
    if not kind:
        raise Refused(f"{model} has no evidence maps: {why}")
    shown: list[Shown] = []
    for block, labels, proba in classifier.answers(files):
        scores = np.eye(len(classifier.label_names))[labels] if proba is None else proba
        order = np.argsort(-scores, axis=1, kind="stable")[:, : min(classes, len(classifier.model.classes))]
        found = evidence(classifier.model, block.rows, order)
        assert found is not None
        for i, photo in enumerate(block.photos):
            if i in block.reasons:
                log.info(f"rejected {os.fspath(photo)}: {block.reasons[i]}")  # type: ignore[arg-type]
                continue
            given = [None if proba is None else float(proba[i, code]) for code in order[i]]
            names = [classifier.label_names[code] for code in order[i]]
            shown.append(Shown(str(photo), names, given, found.maps[i]))
    if not shown:
        raise Failed(f"not one of {len(files)} photos could be read")
    return write_page(page, shown, kind, str(model), classifier.model.recipes[0])
