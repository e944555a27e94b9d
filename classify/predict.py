"""Photos and a saved model → a table with a label for each image."""

import csv
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from classify.classifier import Classifier, Prediction
from classify.coverage import checked_coverage
from classify.familiarity import LEAST
from extract.images.folders import image_files
from features import Failed, Refused
from features.runtime.cli import stdout_in
from features.runtime.errors import listed
from features.runtime.lock import check_writable
from features.runtime.log import log
from features.runtime.names import on_disk
from features.runtime.progress import progress

Write = Callable[[Prediction], object]


def predict(
    model: str,
    photos: list[str],
    json: bool = False,
    weights: str | None = None,
    out: str | None = None,
    coverage: float | None = None,
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
        coverage: say, for each image, which labels cannot be ruled out, so that the true one is among them as often as
            this: 0.9 for nine images in ten. The column set, after error, has them joined by |, the likeliest first;
            none where no label is plausible.

    Returns:
        (path, reason) of every image that could not be read.

    Raises:
        Refused: there are no images, the model's stage one cannot be had here, or the model cannot say what the
            coverage takes.
        Failed: not one image could be read, or a file of the model is damaged.
    """
    if coverage is not None:
        checked_coverage(coverage)
    files = photo_files(photos)
    if out and Path(out).is_dir():
        raise Refused(f"--out {out} is a folder: name the file to write")
    if out:
        check_writable(Path(out).resolve().parent)
    classifier = Classifier.load(model, weights)
    if not out:
        with stdout_in("utf-8") as file:
            return _predict(classifier, files, json, coverage, file)
    partial = Path(f"{out}.partial")
    try:
        with open(partial, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            rejects = _predict(classifier, files, json, coverage, file)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return rejects


def photo_files(photos: list[str]) -> Iterator[str]:
    """The image files among files and folders; Refused if there are none, or one is not there."""
    photos = [on_disk(name) for name in photos]
    if missing := [name for name in photos if not Path(name).exists()]:
        raise Refused(f"no photo or folder at {missing[0]}")
    folders = [name for name in photos if Path(name).is_dir()]
    if len(folders) == len(photos) and not any(True for name in folders for _ in image_files(Path(name))):
        raise Refused(f"no photos {'in ' + ', '.join(folders) if folders else 'given'}: name image files, or folders")
    return (str(file) for name in photos for file in (image_files(Path(name)) if name in folders else [name]))


def _predict(
    classifier: Classifier, files: Iterable[str], as_json: bool, coverage: float | None, file: IO[str]
) -> list[tuple[str, str]]:
    predictions = classifier.stream(files, coverage)  # or refused, before anything is written
    names = classifier.label_names
    write = _json_lines(file, names) if as_json else _csv(file, names, coverage is not None)
    rejects, strange, count, began = [], [], 0, time.perf_counter()
    sizes = [0, 0, 0]  # sets with no label, one, several
    beside_the_table = {"disable": True} if file.isatty() else {}  # a bar would run through it
    with progress(unit="images", **beside_the_table) as bar:
        for each in predictions:
            write(each)
            count += 1
            bar.update()
            if each.label is None:
                rejects.append((str(each.photo), each.reason))
            elif each.familiar is not None and each.familiar < LEAST:
                strange.append(str(each.photo))
            if each.set is not None:
                sizes[min(len(each.set), 2)] += 1
    file.flush()
    seconds = time.perf_counter() - began
    log.info(f"{count} photos in {seconds:.1f} s ({60 * count / seconds:.0f} images/minute)")
    if coverage is not None:
        none, one, several = sizes
        told = f"no label for {none:,} photos, one for {one:,}, several for {several:,}"
        log.info(f"sets at {100 * coverage:.6g} % coverage: {told}")
    if strange:
        told = "are unlike the train photos, so their labels and probabilities may mean nothing"
        log.warning(f"{len(strange)} photos {told}: {listed(strange)}")
    if len(rejects) == count:
        raise Failed(f"not one of {count} photos could be read, the first because: {rejects[0][1]}")
    return rejects


def _csv(file: IO[str], names: list[str], with_sets: bool) -> Write:
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["path", "label", "probability", "familiar", "error", *(["set"] if with_sets else []), *names])

    def write(each: Prediction) -> None:
        given = [] if each.probabilities is None else each.probabilities.tolist()
        chosen = [repr(given[names.index(each.label)])] if given and each.label else [""]
        familiar = "" if each.familiar is None else each.familiar
        all_given = map(repr, given) if given else [""] * len(names)
        inside = [joined(each.set or ())] if with_sets else []
        row = [each.photo, each.label or "", *chosen, familiar, each.reason, *inside, *all_given]
        table.writerow(row)

    return write


def joined(labels: Iterable[str]) -> str:
    """Labels as one field: a line of CSV whose delimiter is |, so that labels with | or \" in them are in quotes.

    Blanks and commas need none. `next(csv.reader([field], delimiter="|"), [])` gives the labels again.
    """
    field = io.StringIO()
    csv.writer(field, delimiter="|", lineterminator="\r\n").writerow(labels)  # so that either in a label is in quotes
    return field.getvalue().removesuffix("\r\n")


def _json_lines(file: IO[str], names: list[str]) -> Write:
    def write(each: Prediction) -> None:
        line: dict[str, Any] = {"path": each.photo}
        if each.label is None:
            line["error"] = each.reason
        else:
            line["label"] = each.label
            if each.familiar is not None:
                line["familiar"] = each.familiar
            if each.set is not None:
                line["set"] = each.set
            if each.probabilities is not None:
                known = dict(zip(names, each.probabilities.tolist(), strict=True))
                line |= {"probability": known[each.label], "probabilities": known}
        file.write(json.dumps(line) + "\n")

    return write
