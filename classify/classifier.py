"""A saved model with stage one below it: images in, labels and probabilities out."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Self

import numpy as np
from PIL import Image

from classify.answers import SavedModel
from classify.coverage import Coverage, sets
from classify.familiarity import FAMILIAR_FILE, Familiarity
from classify.models import MODELS
from classify.saved import load_answers
from extract.compute.rebuild import Computed, Photo, StageOne, compute, only_pixels, rebuild
from features import Failed, Refused
from features.runtime.names import on_disk


class Prediction(NamedTuple):
    """A model's answer to one image."""

    photo: Photo
    label: str | None  # None where the image could not be read
    probabilities: np.ndarray | None  # (classes,) float64 in the order of `label_names`; None where there are none
    reason: str = ""  # why it could not be read
    familiar: float | None = None  # share of train images that it is more familiar than; see `Familiarity`
    set: tuple[str, ...] | None = None  # labels that reach a coverage, the likeliest first; None if none was asked for


class Classifier:
    """A saved model that takes images, with the base, the weights, the preprocessing and the batch of its stack.

    Everything is loaded and compiled once. Threads may share one: they wait for each other where it matters.

    Attributes:
        label_names: the classes, in the order of the probabilities.
        model: what answers rows.

    Example:
        Classifier.load("classify/runs/photos-vgg16/svm").predict(["new/1.jpg"])
    """

    def __init__(
        self,
        model: SavedModel,
        stages: list[StageOne],
        label_names: list[str],
        familiarity: Familiarity | None = None,
        coverage: Coverage | None = None,
    ) -> None:
        self.model, self._stages, self.label_names = model, stages, label_names
        self._familiarity = familiarity
        self._coverage = coverage or Coverage(np.empty(0), "this model has no scores of images that were held out")
        self._one_at_a_time = Lock()

    @classmethod
    def load(cls, folder: str | Path, weights: str | Path | None = None) -> Self:
        """A saved model, ready to predict.

        Args:
            folder: of the model, as `fit` returns it.
            weights: where the backbone's weights file is now, if no longer where it was; or a folder of such files.

        Raises:
            Refused: there is no model, or the same stage one cannot be had here; the message says what is missing.
            Failed: a file of the model is damaged.
        """
        folder = on_disk(str(folder))
        estimator, about = load_answers(folder)
        takes = MODELS[about["model"]].takes
        if takes == "pixels":
            from classify.networks.scratch import SIDE

            stages = [only_pixels(SIDE, about["recipes"][0])]
        else:
            below = [about["network"]["cut_"]] if takes == "cut base" else about["recipes"]
            stages = [rebuild(made, Path(weights) if weights else None) for made in below]
        familiarity = Familiarity.load(Path(folder)) if FAMILIAR_FILE in about["files"] else None
        coverage = Coverage.load(Path(folder), about)
        return cls(SavedModel(estimator, about), stages, about["label_names"], familiarity, coverage)

    def predict(self, photos: Photo | Iterable[Photo]) -> list[str]:
        """The label of each image.

        Args:
            photos: one image or several: paths, bytes of a file, open binary files, Pillow's images, or (h, w, 3) uint8
                RGB arrays. One image gives a list of one label.

        Raises:
            Failed: one cannot be read. `stream` goes on past it.
            Refused: an array of another shape or type, or something else.
        """
        return [str(each.label) for each in self._readable(photos)]

    def predict_proba(self, photos: Photo | Iterable[Photo]) -> np.ndarray:
        """(images, classes) float64 probabilities, each row sums to one; see `predict`.

        Raises:
            Refused: the model has none, for a class had a single train image.
        """
        probabilities = [each.probabilities for each in self._readable(photos)]
        known = [each for each in probabilities if each is not None]
        if len(known) < len(probabilities):
            raise Refused("this model has no probabilities: a class had a single train image. Use predict")
        return np.array(known).reshape(-1, len(self.label_names))

    def predict_sets(self, photos: Photo | Iterable[Photo], coverage: float) -> list[list[str]]:
        """The labels that cannot be ruled out of each image, the likeliest first; none where no label is plausible.

        Args:
            photos: see `predict`.
            coverage: how often the true label is to be among them, between 0 and 1.

        Raises:
            Failed, Refused: see `predict` and `stream`.
        """
        return [list(each.set or ()) for each in self._readable(photos, coverage)]

    def stream(self, photos: Photo | Iterable[Photo], coverage: float | None = None) -> Iterator[Prediction]:
        """Predictions one after the other, in order, of as many images as there may be: few are in memory at a time.

        Args:
            photos: see `predict`.
            coverage: how often the true label is to be in an image's `set`, between 0 and 1; by default there is none.

        Raises:
            Refused: no such coverage, or the model was saved without what it takes; raised at once.
        """
        level = None if coverage is None else self._coverage.level(coverage)
        return self._stream(photos, level)

    def _stream(self, photos: Photo | Iterable[Photo], level: float | None) -> Iterator[Prediction]:
        for block, labels, probabilities in self.answers(photos):
            familiar = self._familiarity and self._familiarity(block.rows, self.model.shapes)
            inside = None if level is None or probabilities is None else sets(probabilities, level)
            for i, photo in enumerate(block.photos):
                if i in block.reasons:
                    yield Prediction(photo, None, None, block.reasons[i])
                else:
                    given = None if probabilities is None else probabilities[i]
                    likeness = None if familiar is None else float(familiar[i])
                    chosen = None if inside is None or given is None else self._in_order(inside[i], given)
                    yield Prediction(photo, self.label_names[labels[i]], given, "", likeness, chosen)

    def _in_order(self, inside: np.ndarray, probabilities: np.ndarray) -> tuple[str, ...]:
        """The labels of a set, the likeliest first."""
        order = np.argsort(-probabilities, kind="stable")
        return tuple(self.label_names[i] for i in order if inside[i])

    def answers(self, photos: Photo | Iterable[Photo]) -> Iterator[tuple[Computed, np.ndarray, np.ndarray | None]]:
        """Blocks of images with their rows, and of each block labels (k,) and probabilities (k, classes), if any."""
        for block in self._blocks(compute(self._stages, map(_checked, _several(photos)))):
            with self._one_at_a_time:
                labels, probabilities = self.model(block.rows)
            yield block, labels, probabilities

    def _blocks(self, computed: Iterator[Computed]) -> Iterator[Computed]:
        """Join stage one's blocks up to the size of the model's block, whose shape is fixed."""
        held: list[Computed] = []
        for block in computed:
            if held and sum(len(each.photos) for each in (*held, block)) > self.model.rows:
                yield _together(held)
                held = []
            held.append(block)
        if held:
            yield _together(held)

    def _readable(self, photos: Photo | Iterable[Photo], coverage: float | None = None) -> Iterator[Prediction]:
        for i, each in enumerate(self.stream(photos, coverage)):
            if each.label is None:
                name = each.photo if isinstance(each.photo, str | os.PathLike) else f"image {i}"
                raise Failed(f"{name}: {each.reason}")
            yield each


def _together(blocks: list[Computed]) -> Computed:
    photos: list[Photo] = []
    reasons: dict[int, str] = {}
    for block in blocks:
        reasons |= {len(photos) + i: why for i, why in block.reasons.items()}
        photos += block.photos
    return Computed(photos, [np.concatenate(rows) for rows in zip(*(b.rows for b in blocks), strict=True)], reasons)


def _several(photos: Any) -> Iterable[Any]:
    """Images one by one; one image, which may be iterable itself, is one."""
    one = isinstance(photos, str | os.PathLike | bytes | Image.Image) or hasattr(photos, "read")
    return [photos] if one or (isinstance(photos, np.ndarray) and photos.ndim < 4) else photos


def _checked(photo: Any) -> Photo:
    """An image as stage one takes it; of an open file, its bytes.

    Raises:
        Refused: an array that is no image (floats from 0 to 1 would be read as black), or something else.
    """
    if hasattr(photo, "read"):
        photo = photo.read()
    if isinstance(photo, np.ndarray) and (photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3):
        raise Refused(f"expected an (h, w, 3) uint8 RGB array, got {photo.shape} {photo.dtype}")
    if not isinstance(photo, str | os.PathLike | bytes | Image.Image | np.ndarray):
        kinds = "a path, bytes, an open binary file, an image of Pillow's or an array"
        raise Refused(f"expected {kinds}, got {type(photo).__name__}")
    return photo
