"""What a file format has to offer, so that a head can be written once and drawn into each."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from extract.network.importing import backend_name
from extract.recipe import Recipe
from features import Refused

Tensor = Any  # of the format's own kind; its first axis is the batch, which is free
PIXELS, PROBABILITIES = "pixels", "probabilities"  # names of the input and of the output in every file


def check_converts(to: str) -> None:
    """Raise Refused if Keras is on a backend from which its networks cannot be converted."""
    if (backend := backend_name()) != "tensorflow":
        raise Refused(
            f"--to {to} converts Keras networks by TensorFlow: set KERAS_BACKEND=tensorflow, which is {backend} here"
        )


class Target(ABC):
    """A graph that grows by one operation after another, from pixels to probabilities.

    All numbers are float32. Where an operation takes a second tensor, that may be an array or a number too.

    Args:
        size: side of the square input, pixels.

    Attributes:
        suffix: of the files.
        pixels: (n, size, size, 3) uint8 RGB.
    """

    suffix: ClassVar[str]
    pixels: Tensor

    def __init__(self, size: int) -> None:
        self.size = size

    @abstractmethod
    def base(self, recipe: Recipe, made: Mapping[str, Any]) -> tuple[Tensor, tuple[int, ...]]:
        """A frozen base on the pixels, and the shape of its output for one image: (h, w, c), (t, c) or (c,).

        Raises:
            Refused: the format cannot hold it, or it is not the one that `made` records.
        """

    @abstractmethod
    def network(self, model: Any, x: Tensor) -> Tensor:
        """A Keras network of one input and one output, in inference mode."""

    @abstractmethod
    def save(self, probabilities: Tensor, file: Path, about: Mapping[str, str]) -> None:
        """Write the graph, with facts about it as the file's metadata."""

    @abstractmethod
    def answer(self, file: Path, pixels: np.ndarray) -> np.ndarray:
        """Probabilities (n, classes) that the format's own runtime computes from a file that was saved.

        Args:
            file: the file.
            pixels: (n, size, size, 3) uint8 RGB.
        """

    def trees(self, estimator: Any, x: Tensor) -> Tensor:
        """Probabilities of an XGBoost classifier for rows."""
        raise Refused("XGBoost's trees have no counterpart in Keras or OpenVINO: python -m classify export … --to onnx")

    @abstractmethod
    def numbers(self, x: Tensor) -> Tensor:
        """Anything as float32."""

    @abstractmethod
    def halved(self, x: Tensor) -> Tensor:
        """Rounded to float16, and float32 again."""

    @abstractmethod
    def shaped(self, x: Tensor, sides: Sequence[int]) -> Tensor:
        """(n, *sides)."""

    @abstractmethod
    def part(self, x: Tensor, axis: int, start: int, stop: int) -> Tensor:
        """What lies from start to stop along an axis, which stays."""

    @abstractmethod
    def columns(self, x: Tensor, which: np.ndarray) -> Tensor:
        """(n, len(which)) of (n, d)."""

    @abstractmethod
    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """Side by side along the last axis."""

    @abstractmethod
    def reduced(self, how: str, x: Tensor, axis: int) -> Tensor:
        """The `sum`, `mean` or `max` along an axis, which stays with a length of 1."""

    @abstractmethod
    def each(self, how: str, x: Tensor) -> Tensor:
        """`sqrt`, `exp`, `sigmoid` or `positive` (1 above zero, else 0) of each number; `softmax` of the last axis."""

    @abstractmethod
    def both(self, how: str, x: Tensor, y: Tensor) -> Tensor:
        """`add`, `subtract`, `multiply`, `divide` or `maximum`, by NumPy's rules of broadcasting."""

    @abstractmethod
    def linear(self, x: Tensor, matrix: np.ndarray, bias: np.ndarray | None = None) -> Tensor:
        """x @ matrix + bias: (n, d) → (n, m)."""

    @abstractmethod
    def largest(self, x: Tensor, count: int) -> Tensor:
        """(n, count) indices of the largest numbers of each row (n, d)."""

    @abstractmethod
    def rows(self, table: np.ndarray, indices: Tensor) -> Tensor:
        """(n, k, c) rows of a table (m, c), by indices (n, k)."""
