"""ONNX files to test with, written by the onnx package alone."""

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save


def of_keras(base: Any, path: Path, side: int | None = None) -> Path:
    """A Keras MobileNetV2 without its top as optimum would export it: NCHW, weights and all; `side`: fixed if given."""
    nodes: list[Any] = []
    weights: list[Any] = []
    names: dict[int, str] = {}

    def weight(name: str, values: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(values, "f4"), name))
        return name

    def node(kind: str, layer: Any, inputs: list[str], **attributes: Any) -> None:
        names[id(layer.output)] = layer.name
        nodes.append(helper.make_node(kind, inputs, [layer.name], **attributes))

    for layer in base.layers:
        kind = type(layer).__name__
        given = layer.input if isinstance(layer.input, list) else [layer.input]
        inputs = [names.get(id(tensor), "pixel_values") for tensor in given]
        if kind == "InputLayer":
            names[id(layer.output)] = "pixel_values"
        elif kind == "ZeroPadding2D":
            (top, bottom), (left, right) = layer.padding
            pads = np.array([0, 0, top, left, 0, 0, bottom, right], "i8")
            weights.append(numpy_helper.from_array(pads, f"{layer.name}.pads"))
            node("Pad", layer, [*inputs, f"{layer.name}.pads"])
        elif kind in ("Conv2D", "DepthwiseConv2D"):
            kernel = np.asarray(layer.get_weights()[0])  # (h, w, in, out)
            assert not layer.use_bias
            group = kernel.shape[2] if kind == "DepthwiseConv2D" else 1
            kernel = kernel.transpose(2, 3, 0, 1) if group > 1 else kernel.transpose(3, 2, 0, 1)
            pad = "SAME_UPPER" if layer.padding == "same" else "VALID"
            inputs = [*inputs, weight(f"{layer.name}.kernel", kernel)]
            node("Conv", layer, inputs, auto_pad=pad, strides=list(layer.strides), group=group)
        elif kind == "BatchNormalization":
            four = [weight(f"{layer.name}.{i}", values) for i, values in enumerate(layer.get_weights())]
            node("BatchNormalization", layer, [*inputs, *four], epsilon=layer.epsilon)
        elif kind == "ReLU":
            limits = [weight(f"{layer.name}.{end}", np.float32(end)) for end in (0, 6)]
            node("Clip", layer, [*inputs, *limits])
        else:
            assert kind == "Add", kind
            node("Add", layer, inputs)
    sides = ["batch_size", "num_channels", side or "height", side or "width"]
    image = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, sides)
    last = helper.make_tensor_value_info(base.layers[-1].name, TensorProto.FLOAT, ["batch", None, None, None])
    graph = helper.make_graph(nodes, "mobilenet", [image], [last], weights)
    return written(graph, path)


def small(path: Path, shape: Any = ("batch", 3, 8, 8), kind: int = TensorProto.FLOAT, **changes: Any) -> Path:
    """A network of one convolution and a mean over positions: outputs `map` (4, 4, 5) at 8 px and `vector` (5,).

    Args:
        path: the file to write.
        shape, kind: of the input.
        changes: `nodes`, `inputs`, `outputs` and `weights` to add; `first`: nodes from `image` to `values`, instead of
            a conversion to float32; `ir` and `opset`: versions; `external`: a file for the weights.
    """
    random = np.random.default_rng(0)
    kernel = numpy_helper.from_array(random.normal(size=(5, 3, 2, 2)).astype("f4"), "kernel")
    inputs = [helper.make_tensor_value_info("image", kind, shape), *changes.get("inputs", [])]
    nodes = [
        *changes.get("first", [helper.make_node("Cast", ["image"], ["values"], to=TensorProto.FLOAT)]),
        helper.make_node("Conv", ["values", "kernel"], ["map"], strides=[2, 2]),
        helper.make_node("ReduceMean", ["map"], ["vector"], axes=[2, 3], keepdims=0),
        *changes.get("nodes", []),
    ]
    names = changes.get("outputs", ["map", "vector"])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    graph = helper.make_graph(nodes, "small", inputs, outputs, [kernel, *changes.get("weights", [])])
    return written(graph, path, **{name: changes[name] for name in ("external", "ir", "opset") if name in changes})


def written(graph: Any, path: Path, external: str | None = None, ir: int | None = None, opset: int = 17) -> Path:
    """Write a graph, its weights into another file if `external` names one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets[: 2 if opset == 17 else 1])
    model.ir_version = ir or model.ir_version
    beside = {"save_as_external_data": True, "location": external, "size_threshold": 0} if external else {}
    save(model, str(path), **beside)
    return path


def vit(path: Path, side: int = 224, patch: int = 14, width: int = 384, depth: int = 12, heads: int = 6) -> Path:
    """A vision transformer with seeded random weights and a class token, by default of the size of ViT-S/14."""
    random = np.random.default_rng(0)
    nodes: list[Any] = []
    weights: list[Any] = []

    def held(name: str, values: Any, kind: str = "f4") -> str:
        weights.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def drawn(name: str, *shape: int) -> str:
        return held(name, random.normal(size=shape) / np.sqrt(shape[0]))

    def node(kind: str, *inputs: str, to: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [to], **attributes))
        return to

    def norm(x: str, to: str) -> str:
        scale, bias = held(f"{to}.scale", np.ones(width)), held(f"{to}.bias", np.zeros(width))
        return node("LayerNormalization", x, scale, bias, to=to, axis=-1)

    def linear(x: str, to: str, inputs: int, outputs: int) -> str:
        product = node("MatMul", x, drawn(f"{to}.weight", inputs, outputs), to=f"{to}.product")
        return node("Add", product, held(f"{to}.bias", np.zeros(outputs)), to=to)

    tokens, per_head = (side // patch) ** 2, width // heads
    split = held("split", [0, tokens + 1, heads, per_head], "i8")
    whole, rows = held("whole", [0, tokens + 1, width], "i8"), held("rows", [0, width, -1], "i8")
    kernel = held("kernel", random.normal(size=(width, 3, patch, patch)) / patch)
    x = node("Conv", "pixel_values", kernel, to="patches", strides=[patch, patch])
    x = node("Transpose", node("Reshape", x, rows, to="flat"), to="turned", perm=[0, 2, 1])
    x = node("Add", x, drawn("places", tokens, width), to="placed")
    first = node("ReduceSum", node("Mul", x, held("none", 0), to="zeros"), held("axis", [1], "i8"), to="empty")
    x = node("Concat", node("Add", first, drawn("class", 1, width), to="first"), x, to="tokens", axis=1)
    for i in range(depth):
        inner = norm(x, f"{i}.norm1")
        parts = []
        for name, turn in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            part = node("Reshape", linear(inner, f"{i}.{name}", width, width), split, to=f"{i}.{name}.heads")
            parts.append(node("Transpose", part, to=f"{i}.{name}.turned", perm=turn))
        scores = node("MatMul", parts[0], parts[1], to=f"{i}.scores")
        scores = node("Mul", scores, held(f"{i}.scale", per_head**-0.5), to=f"{i}.scaled")
        mixed = node("MatMul", node("Softmax", scores, to=f"{i}.shares", axis=-1), parts[2], to=f"{i}.mixed")
        mixed = node("Transpose", mixed, to=f"{i}.back", perm=[0, 2, 1, 3])
        out = linear(node("Reshape", mixed, whole, to=f"{i}.together"), f"{i}.out", width, width)
        x = node("Add", x, out, to=f"{i}.attended")
        wide = linear(norm(x, f"{i}.norm2"), f"{i}.wide", width, 4 * width)
        cut = node("Erf", node("Mul", wide, held(f"{i}.half", 0.5**0.5), to=f"{i}.less"), to=f"{i}.erf")
        cut = node("Mul", wide, node("Add", cut, held(f"{i}.one", 1), to=f"{i}.more"), to=f"{i}.twice")
        cut = node("Mul", cut, held(f"{i}.halved", 0.5), to=f"{i}.gelu")
        x = node("Add", x, linear(cut, f"{i}.narrow", 4 * width, width), to=f"{i}.done")
    norm(x, "last_hidden_state")
    sides = ["batch_size", "num_channels", "height", "width"]
    image = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, sides)
    last = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", tokens + 1, width])
    return written(helper.make_graph(nodes, "vit", [image], [last], weights), path)
