"""OpenVINO's own format, an `.xml` file with the graph and a `.bin` file with the numbers beside it."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classify.portable.target import PIXELS, PROBABILITIES, Target, Tensor, check_converts
from extract.compute.rebuild import check_network
from extract.network.convert import convert, import_openvino
from extract.network.onnx_network import OnnxNetwork
from extract.recipe import Recipe
from features import Failed, Refused

NAMES = {"sum": "reduce_sum", "mean": "reduce_mean", "max": "reduce_max"}


class OpenvinoTarget(Target):
    """See `Target`. Its bases are the converted networks that the engine `openvino` computes."""

    suffix = ".xml"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        try:
            self._openvino = import_openvino()
        except ImportError:
            raise Refused("--to openvino: OpenVINO is not installed; pip install -e '.[cpu]'") from None
        self._ops: Any = importlib.import_module("openvino.opset13")
        self._input = self._ops.parameter([-1, size, size, 3], np.uint8, name=PIXELS)
        self._input.output(0).set_names({PIXELS})
        self.pixels = self._input.output(0)

    def base(self, recipe: Recipe, made: Mapping[str, Any]) -> tuple[Tensor, tuple[int, ...]]:
        """See `Target`."""
        network = recipe.network
        if not recipe.is_onnx:
            check_converts("openvino")
        converted = network.converted
        if isinstance(network, OnnxNetwork):
            network.check_batch_is_free()
        check_network(network, recipe, made)
        return self._on(converted, self.pixels), network.output_shapes[recipe.output]

    def network(self, model: Any, x: Tensor) -> Tensor:
        """See `Target`."""
        check_converts("openvino")
        return self._on(convert(model), x)

    def _on(self, converted: Any, x: Tensor) -> Tensor:
        """The first output of a model whose only input becomes x."""
        copy = converted.clone()
        parameter = copy.get_parameters()[0]
        parameter.output(0).replace(x)
        return copy.outputs[0].get_node().input_value(0)

    def save(self, probabilities: Tensor, file: Path, about: Mapping[str, str]) -> None:
        """See `Target`. The facts are `rt_info`, under `feature_stacks`."""
        result = self._ops.result(probabilities)
        result.set_friendly_name(PROBABILITIES)
        model = self._openvino.Model([result], [self._input], "classifier")
        model.outputs[0].set_names({PROBABILITIES})
        for name, value in about.items():
            model.set_rt_info(value, ["feature_stacks", name])
        try:
            self._openvino.save_model(model, file, compress_to_fp16=False)
        except RuntimeError as error:  # of C++'s files
            raise Failed(f"cannot write {file.name}: the disk is full, or limits a file's size ({error})") from None

    def answer(self, file: Path, pixels: np.ndarray) -> np.ndarray:
        """See `Target`."""
        compiled = self._openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return np.array(compiled(pixels)[PROBABILITIES])

    def numbers(self, x: Tensor) -> Tensor:
        """See `Target`."""
        return self._ops.convert(x, "f32").output(0)

    def halved(self, x: Tensor) -> Tensor:
        """See `Target`. By Veltkamp's splitting (Dekker, 1971): OpenVINO drops a conversion to float16 and back."""
        wide = self.both("multiply", x, float(2**13 + 1))  # leaves 11 of 24 binary digits
        return self.both("subtract", wide, self.both("subtract", wide, x))

    def shaped(self, x: Tensor, sides: Sequence[int]) -> Tensor:
        """See `Target`."""
        return self._ops.reshape(x, np.array([-1, *sides], np.int64), special_zero=False).output(0)

    def part(self, x: Tensor, axis: int, start: int, stop: int) -> Tensor:
        """See `Target`."""
        bounds = (np.array([each], np.int64) for each in (start, stop, 1, axis))
        return self._ops.slice(x, *bounds).output(0)

    def columns(self, x: Tensor, which: np.ndarray) -> Tensor:
        """See `Target`."""
        return self._ops.gather(x, which.astype("i8"), np.int64(1)).output(0)

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """See `Target`."""
        return self._ops.concat(list(parts), -1).output(0)

    def reduced(self, how: str, x: Tensor, axis: int) -> Tensor:
        """See `Target`."""
        return getattr(self._ops, NAMES[how])(x, np.array([axis], np.int64), keep_dims=True).output(0)

    def each(self, how: str, x: Tensor) -> Tensor:
        """See `Target`."""
        if how == "positive":
            return self.numbers(self._ops.greater(x, np.float32(0)).output(0))
        if how == "softmax":
            return self._ops.softmax(x, -1).output(0)
        return getattr(self._ops, how)(x).output(0)

    def both(self, how: str, x: Tensor, y: Tensor) -> Tensor:
        """See `Target`."""
        return getattr(self._ops, how)(_constant(x), _constant(y)).output(0)

    def linear(self, x: Tensor, matrix: np.ndarray, bias: np.ndarray | None = None) -> Tensor:
        """See `Target`."""
        made = self._ops.matmul(x, np.ascontiguousarray(matrix.T, "f4"), False, True).output(0)
        return made if bias is None else self.both("add", made, bias)

    def largest(self, x: Tensor, count: int) -> Tensor:
        """See `Target`."""
        return self._ops.topk(x, np.int64(count), -1, "max", "value").output(1)

    def rows(self, table: np.ndarray, indices: Tensor) -> Tensor:
        """See `Target`."""
        return self._ops.gather(np.asarray(table, "f4"), indices, np.int64(0)).output(0)


def _constant(value: Any) -> Any:
    return np.asarray(value, "f4") if isinstance(value, np.ndarray | float | int) else value
