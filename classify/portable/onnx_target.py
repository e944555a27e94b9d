"""An ONNX file, drawn with the `onnx` package."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classify.portable import onnx_graphs
from classify.portable.onnx_graphs import imported
from classify.portable.onnx_trees import DOMAIN, ensemble
from classify.portable.target import PIXELS, PROBABILITIES, Target, Tensor
from extract.compute.rebuild import check_network
from extract.network.onnx_network import UINT8, OnnxNetwork
from extract.preprocessing import Values
from extract.recipe import Recipe
from features import Refused

NAMES = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "maximum": "Max"}
MOST = 2**31 - (1 << 20)  # bytes of one Protocol Buffers message, less what stands around the weights


class OnnxTarget(Target):
    """See `Target`. Tensors are names.

    Args:
        size: see `Target`.
        opsets: versions of ONNX's operators that the files to come have; the newest becomes the version of all.
    """

    suffix = ".onnx"

    def __init__(self, size: int, opsets: Sequence[int] = ()) -> None:
        super().__init__(size)
        self._onnx = imported("onnx")
        imported("onnxruntime")  # which `answer` needs: better missing now than when all is made
        self.opset = max(onnx_graphs.OLDEST, *opsets) if opsets else onnx_graphs.OPSET
        self._opsets: dict[str, int] = {"": self.opset}
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._functions: list[Any] = []
        self._sparse: list[Any] = []
        self._graphs = 0
        self.pixels = PIXELS

    def base(self, recipe: Recipe, made: Mapping[str, Any]) -> tuple[Tensor, tuple[int, ...]]:
        """See `Target`."""
        network = recipe.network
        if not isinstance(network, OnnxNetwork):
            model = network.model  # type: ignore[attr-defined]
            check_network(network, recipe, made)
            return self.network(model, self.pixels), network.output_shapes[recipe.output]
        shape, file = network.output_shapes[recipe.output], network.file
        network.check_batch_is_free()
        check_network(network, recipe, made)
        graph = onnx_graphs.of_file(file, recipe.layer, self.opset)
        rows = self._graph(graph, self._prepared(network.values, file.image.type, file.is_nhwc))
        if turned := network.turned(recipe.output, len(shape) + 1):
            rows = self._node("Transpose", [rows], perm=turned)
        return self.numbers(rows), shape

    def _prepared(self, values: Values, kind: int, is_nhwc: bool) -> Tensor:
        """The pixels as an ONNX file wants them."""
        x = self.numbers(self.pixels)
        if values.order == "bgr":
            x = self._node("Gather", [x, self._array(np.array([2, 1, 0]))], axis=3)
        if kind != UINT8:  # which takes bytes as they are
            x = self.both("multiply", x, values.scale)
            x = self.both("divide", self.both("subtract", x, np.array(values.mean)), np.array(values.std))
        if not is_nhwc:
            x = self._node("Transpose", [x], perm=[0, 3, 1, 2])
        return x if kind == 1 else self._node("Cast", [x], to=kind)

    def network(self, model: Any, x: Tensor) -> Tensor:
        """See `Target`."""
        return self._graph(onnx_graphs.of_keras(model, self.opset), x)

    def _graph(self, model: Any, x: Tensor) -> Tensor:
        """Take in a graph, whose only input becomes x; returns its only output."""
        self._graphs += 1
        part = self._onnx.compose.add_prefix(model, f"graph{self._graphs}/")
        self._nodes.append(self._onnx.helper.make_node("Identity", [x], [part.graph.input[0].name]))
        self._nodes += part.graph.node
        self._weights += part.graph.initializer
        self._sparse += part.graph.sparse_initializer
        self._functions += part.functions
        for each in part.opset_import:
            self._opsets[each.domain] = max(each.version, self._opsets.get(each.domain, 0))
        return str(part.graph.output[0].name)

    def save(self, probabilities: Tensor, file: Path, about: Mapping[str, str]) -> None:
        """See `Target`. The facts are `metadata_props`."""
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        self._nodes.append(helper.make_node("Identity", [probabilities], [PROBABILITIES]))
        given = helper.make_tensor_value_info(PIXELS, kinds.UINT8, ["batch", self.size, self.size, 3])
        made = helper.make_tensor_value_info(PROBABILITIES, kinds.FLOAT, ["batch", None])
        if sum(each.ByteSize() for each in (*self._weights, *self._nodes)) > MOST:
            raise Refused(f"{file.name}: an ONNX file holds 2 GB at most, and this one would be larger: --to openvino")
        graph = helper.make_graph(
            self._nodes, "classifier", [given], [made], self._weights, sparse_initializer=self._sparse
        )
        opsets = [helper.make_opsetid(name, version) for name, version in self._opsets.items()]
        model = helper.make_model(
            graph, opset_imports=opsets, functions=self._functions, producer_name="feature-stacks"
        )
        model.ir_version = helper.find_min_ir_version_for(opsets, ignore_unknown=True)  # older runtimes read it too
        helper.set_model_props(model, dict(about))
        self._onnx.save(model, file)

    def answer(self, file: Path, pixels: np.ndarray) -> np.ndarray:
        """See `Target`."""
        session = imported("onnxruntime").InferenceSession(str(file), providers=["CPUExecutionProvider"])
        return np.asarray(session.run([PROBABILITIES], {PIXELS: pixels})[0])

    def trees(self, estimator: Any, x: Tensor) -> Tensor:
        """See `Target`."""
        self._opsets[DOMAIN] = max(3, self._opsets.get(DOMAIN, 0))
        attributes, finish = ensemble(estimator)
        scores = self._node("TreeEnsembleRegressor", [x], domain=DOMAIN, **attributes)
        if finish == "softmax":
            return self.each("softmax", scores)
        second = self.each("sigmoid", scores)
        return self.joined([self.both("subtract", 1.0, second), second])

    def numbers(self, x: Tensor) -> Tensor:
        """See `Target`."""
        return self._node("Cast", [x], to=self._onnx.TensorProto.FLOAT)

    def halved(self, x: Tensor) -> Tensor:
        """See `Target`."""
        return self.numbers(self._node("Cast", [x], to=self._onnx.TensorProto.FLOAT16))

    def shaped(self, x: Tensor, sides: Sequence[int]) -> Tensor:
        """See `Target`."""
        return self._node("Reshape", [x, self._array(np.array([-1, *sides]))])

    def part(self, x: Tensor, axis: int, start: int, stop: int) -> Tensor:
        """See `Target`."""
        bounds = [self._array(np.array([each])) for each in (start, stop, axis)]
        return self._node("Slice", [x, *bounds])

    def columns(self, x: Tensor, which: np.ndarray) -> Tensor:
        """See `Target`."""
        return self._node("Gather", [x, self._array(which)], axis=1)

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """See `Target`."""
        return self._node("Concat", list(parts), axis=-1)

    def reduced(self, how: str, x: Tensor, axis: int) -> Tensor:
        """See `Target`."""
        name = f"Reduce{how.capitalize()}"
        if how == "sum" or self.opset >= 18:
            return self._node(name, [x, self._array(np.array([axis]))], keepdims=1)
        return self._node(name, [x], axes=[axis], keepdims=1)

    def each(self, how: str, x: Tensor) -> Tensor:
        """See `Target`."""
        if how == "positive":
            return self.numbers(self._node("Greater", [x, self._name(0.0)]))
        return self._node(how.capitalize(), [x], **({"axis": -1} if how == "softmax" else {}))

    def both(self, how: str, x: Tensor, y: Tensor) -> Tensor:
        """See `Target`."""
        return self._node(NAMES[how], [self._name(x), self._name(y)])

    def linear(self, x: Tensor, matrix: np.ndarray, bias: np.ndarray | None = None) -> Tensor:
        """See `Target`."""
        made = self._node("MatMul", [x, self._name(matrix)])
        return made if bias is None else self.both("add", made, bias)

    def largest(self, x: Tensor, count: int) -> Tensor:
        """See `Target`."""
        self._node("TopK", [x, self._array(np.array([count]))], outputs=2, axis=1)
        return str(self._nodes[-1].output[1])

    def rows(self, table: np.ndarray, indices: Tensor) -> Tensor:
        """See `Target`."""
        return self._node("Gather", [self._name(table), indices], axis=0)

    def _node(self, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> str:
        names = [f"{kind}_{len(self._nodes)}_{i}" for i in range(outputs)]
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, names, **attributes))
        return names[0]

    def _array(self, values: np.ndarray) -> str:
        name = f"constant_{len(self._weights)}"
        self._weights.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _name(self, value: Any) -> str:
        """A tensor's name; an array or a number becomes one."""
        return value if isinstance(value, str) else self._array(np.asarray(value, "f4"))
