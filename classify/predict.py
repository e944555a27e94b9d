"""Photos and a saved model → a table with a label for each image."""

import csv
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from classify.classifier import Classifier, Prediction
from classify.familiarity import LEAST
from extract.images.folders import image_files
from features import Failed, Refused
from features.runtime.errors import listed
from features.runtime.lock import check_writable
from features.runtime.log import log
from features.runtime.progress import progress

Write = Callable[[Prediction], object]


def predict(
    model: str, photos: list[str], json: bool = False, weights: str | None = None, out: str | None = None
) -> list[tuple[str, str]]:
    """Label images with a saved model, behind the same stage one that made its training rows.

    Prints CSV: path, label, probability, familiar, error, and a probability of each class. Images come in the order
    given, those of a folder by name; one that cannot be read has the reason for error, and nothing else. Familiar is
    the share of train images that are less like their own class than the image is like the nearest, 0 to 0.99.

    Args:
        model: folder of a saved model, classify/runs/<stack>/<model>.
        photos: files, and folders that are searched for image files with all below them.
        json: JSON lines instead of CSV, one object an image.
        weights: where the backbone's weights file is now, if it has moved, or a folder that it is in.
        out: file to write instead of stdout; it gets its name when it is complete.

    Returns:
        (path, reason) of every image that could not be read.

    Raises:
        Refused: there are no images, or the model's stage one cannot be had here.
        Failed: not one image could be read, or a file of the model is damaged.
    """
    files = photo_files(photos)
    if out and Path(out).is_dir():
        raise Refused(f"--out {out} is a folder: name the file to write")
    if out:
        check_writable(Path(out).resolve().parent)
    classifier = Classifier.load(model, weights)
    if not out:
        return _predict(classifier, files, json, sys.stdout)
    partial = Path(f"{out}.partial")
    try:
        with open(partial, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            rejects = _predict(classifier, files, json, file)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return rejects


def photo_files(photos: list[str]) -> Iterator[str]:
    """The image files among files and folders; Refused if there are none, or one is not there."""
    if missing := [name for name in photos if not Path(name).exists()]:
        raise Refused(f"no photo or folder at {missing[0]}")
    folders = [name for name in photos if Path(name).is_dir()]
    if len(folders) == len(photos) and not any(True for name in folders for _ in image_files(Path(name))):
        raise Refused(f"no photos {'in ' + ', '.join(folders) if folders else 'given'}: name image files, or folders")
    return (str(file) for name in photos for file in (image_files(Path(name)) if name in folders else [name]))


def _predict(classifier: Classifier, files: Iterable[str], as_json: bool, file: IO[str]) -> list[tuple[str, str]]:
    write = _json_lines(file, classifier.label_names) if as_json else _csv(file, classifier.label_names)
    rejects, strange, count, began = [], [], 0, time.perf_counter()
    beside_the_table = {"disable": True} if file.isatty() else {}  # a bar would run through it
    with progress(unit="images", **beside_the_table) as bar:
        for each in classifier.stream(files):
            write(each)
            count += 1
            bar.update()
            if each.label is None:
                rejects.append((str(each.photo), each.reason))
            elif each.familiar is not None and each.familiar < LEAST:
                strange.append(str(each.photo))
    file.flush()
    seconds = time.perf_counter() - began
    log.info(f"{count} photos in {seconds:.1f} s ({60 * count / seconds:.0f} images/minute)")
    if strange:
        told = "are unlike the train photos, so their labels and probabilities may mean nothing"
        log.warning(f"{len(strange)} photos {told}: {listed(strange)}")
    if len(rejects) == count:
        raise Failed(f"not one of {count} photos could be read, the first because: {rejects[0][1]}")
    return rejects


def _csv(file: IO[str], names: list[str]) -> Write:
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["path", "label", "probability", "familiar", "error", *names])

    def write(each: Prediction) -> None:
        given = [] if each.probabilities is None else each.probabilities.tolist()
        chosen = [repr(given[names.index(each.label)])] if given and each.label else [""]
        familiar = "" if each.familiar is None else each.familiar
        all_given = map(repr, given) if given else [""] * len(names)
        row = [each.photo, each.label or "", *chosen, familiar, each.reason, *all_given]
        table.writerow(row)

    return write


def _json_lines(file: IO[str], names: list[str]) -> Write:
    def write(each: Prediction) -> None:
        line: dict[str, Any] = {"path": each.photo}
        if each.label is None:
            line["error"] = each.reason
        else:
            line["label"] = each.label
            if each.familiar is not None:
                line["familiar"] = each.familiar
            if each.probabilities is not None:
                known = dict(zip(names, each.probabilities.tolist(), strict=True))
                line |= {"probability": known[each.label], "probabilities": known}
        file.write(json.dumps(line) + "\n")

    return write
