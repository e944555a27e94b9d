"""A `.keras` file of stock Keras layers and operations: it loads in safe mode, without this project."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classify.portable.target import PIXELS, PROBABILITIES, Target, Tensor
from extract.compute.rebuild import check_network
from extract.network.importing import import_keras
from extract.recipe import Recipe


class KerasTarget(Target):
    """See `Target`. Arrays with a batch of rows to multiply become layers' weights, the others constants."""

    suffix = ".keras"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._keras = import_keras()
        self._ops = self._keras.ops
        self._nested = 0
        self.pixels = self._keras.Input((size, size, 3), dtype="uint8", name=PIXELS)

    def base(self, recipe: Recipe, made: Mapping[str, Any]) -> tuple[Tensor, tuple[int, ...]]:
        """See `Target`."""
        network = recipe.network
        model = network.model  # type: ignore[attr-defined]  # no ONNX file's: those are refused before
        check_network(network, recipe, made)
        return self.network(model, self.pixels), network.output_shapes[recipe.output]

    def network(self, model: Any, x: Tensor) -> Tensor:
        """See `Target`."""
        self._nested += 1  # names of their own: Keras counts anew for each base
        part = self._keras.Model(model.inputs[0], model.outputs[0], name=f"network_{self._nested}")
        return part(x, training=False)

    def save(self, probabilities: Tensor, file: Path, about: Mapping[str, str]) -> None:
        """See `Target`. The facts go into the archive's `metadata.json`, beside Keras's own."""
        last = self._keras.layers.Activation("linear", name=PROBABILITIES)
        model = self._keras.Model(self.pixels, last(probabilities), name="classifier")
        plain = file.with_name(f"plain-{file.name}")
        model.save(plain)
        with zipfile.ZipFile(plain) as made, zipfile.ZipFile(file, "w") as whole:
            for entry in made.infolist():
                held = made.read(entry)
                if entry.filename == "metadata.json":
                    held = json.dumps({**json.loads(held), **about}).encode()
                whole.writestr(entry, held)
        plain.unlink()

    def answer(self, file: Path, pixels: np.ndarray) -> np.ndarray:
        """See `Target`."""
        return np.asarray(self._keras.saving.load_model(file, compile=False, safe_mode=True)(pixels))

    def numbers(self, x: Tensor) -> Tensor:
        """See `Target`."""
        return self._ops.cast(x, "float32")

    def halved(self, x: Tensor) -> Tensor:
        """See `Target`."""
        return self._ops.cast(self._ops.cast(x, "float16"), "float32")

    def shaped(self, x: Tensor, sides: Sequence[int]) -> Tensor:
        """See `Target`."""
        return self._ops.reshape(x, (-1, *sides))

    def part(self, x: Tensor, axis: int, start: int, stop: int) -> Tensor:
        """See `Target`."""
        return x[(slice(None),) * axis + (slice(start, stop),)]

    def columns(self, x: Tensor, which: np.ndarray) -> Tensor:
        """See `Target`."""
        return self._ops.take(x, which.astype("int32"), axis=1)

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """See `Target`."""
        return self._ops.concatenate(list(parts), axis=-1) if len(parts) > 1 else parts[0]

    def reduced(self, how: str, x: Tensor, axis: int) -> Tensor:
        """See `Target`."""
        return getattr(self._ops, how)(x, axis=axis, keepdims=True)

    def each(self, how: str, x: Tensor) -> Tensor:
        """See `Target`."""
        if how == "positive":
            return self._ops.cast(self._ops.greater(x, 0.0), "float32")
        return getattr(self._ops, how)(x)

    def both(self, how: str, x: Tensor, y: Tensor) -> Tensor:
        """See `Target`."""
        return getattr(self._ops, how)(_constant(x), _constant(y))

    def linear(self, x: Tensor, matrix: np.ndarray, bias: np.ndarray | None = None) -> Tensor:
        """See `Target`."""
        layer = self._keras.layers.Dense(matrix.shape[1], use_bias=bias is not None)
        made = layer(x)
        layer.set_weights([np.asarray(each, "f4") for each in (matrix, bias) if each is not None])
        return made

    def largest(self, x: Tensor, count: int) -> Tensor:
        """See `Target`."""
        return self._ops.top_k(x, count)[1]

    def rows(self, table: np.ndarray, indices: Tensor) -> Tensor:
        """See `Target`."""
        layer = self._keras.layers.Embedding(*table.shape)
        made = layer(indices)
        layer.set_weights([np.asarray(table, "f4")])
        return made


def _constant(value: Any) -> Any:
    return np.asarray(value, "f4") if isinstance(value, np.ndarray) else value
