"""The graph of an ONNX file, read by the `onnx` package: what it needs, what its image decides, and a part cut out."""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from features import Failed, Refused

HEAVY = 4096  # bytes of a tensor from which on its numbers are weights; shapes and axes are shorter
SHAPES = ("Shape", "Size")  # operators whose result follows from an image's size, not from the image
IR = 4  # the first version in which weights need not be inputs too
NARROW = ("INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2", "FLOAT8", "FLOAT4")  # types of at most eight bits


def import_onnx() -> Any:
    """The package `onnx`.

    Raises:
        Refused: it is not installed.
    """
    try:
        for part in ("shape_inference", "inliner", "helper", "numpy_helper"):
            importlib.import_module(f"onnx.{part}")
        return importlib.import_module("onnx")
    except ImportError:
        raise Refused("ONNX files are read with the package onnx: pip install -e '.[cpu]' (or '.[gpu]')") from None


def load(path: Path) -> Any:
    """The model (ModelProto) of a file, without the weights that lie beside it.

    Raises:
        Failed: it cannot be read, or is truncated.
        Refused: it holds no graph.
    """
    onnx, decoding = import_onnx(), importlib.import_module("google.protobuf.message")
    try:
        data = path.read_bytes()
        model = onnx.ModelProto.FromString(data)
    except OSError as error:
        raise Failed(f"cannot read {path}: {error.strerror}") from None
    except decoding.DecodeError as error:
        raise Failed(f"{path} is not an ONNX file, or it is truncated: {error}") from None
    if not data:
        raise Failed(f"{path} is not an ONNX file: it is empty")
    if not model.opset_import or not model.graph.output:
        raise Refused(f"{path} is not an ONNX file: it holds no graph")
    return model


def sketch(model: Any) -> Any:
    """The model without weights, functions inlined: enough for its shapes, and small. The model itself is used up."""
    onnx = import_onnx()
    for tensor in tensors(model):
        if tensor.ByteSize() > HEAVY:
            for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                tensor.ClearField(field)
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def with_shapes(model: Any, sides: dict[str, Sequence[int]]) -> Any:
    """The model with the types and shapes of all tensors that can be inferred, for inputs of these sides."""
    onnx = import_onnx()
    sized = type(model)()
    sized.CopyFrom(model)
    for tensor in sized.graph.input:
        if tensor.name in sides:
            dims = tensor.type.tensor_type.shape.dim
            for dim, side in zip(dims, sides[tensor.name], strict=True):
                if side > 0:
                    dim.dim_value = side
    for tensor in sized.graph.output:
        tensor.type.tensor_type.ClearField("shape")  # what exporters say of them is often wrong
    sized.graph.ClearField("value_info")
    try:
        return onnx.shape_inference.infer_shapes(sized, data_prop=True)
    except Exception:  # of a graph that does not fit together: the runtimes say why
        return sized


def tensors(model: Any) -> Iterator[Any]:
    """All constant tensors of a model, those inside branches, loops and functions too."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)


def _of_graph(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("sparse_tensor"):
                yield attribute.sparse_tensor.values
            yield from attribute.tensors
            for graph in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _of_graph(graph)


def locations(model: Any) -> list[str]:
    """Names of the files that weights lie in, sorted."""
    entries = (entry for tensor in tensors(model) for entry in tensor.external_data)
    return sorted({entry.value for entry in entries if entry.key == "location"})


def depending(graph: Any, names: Iterable[str], through_shapes: bool = True) -> set[str]:
    """All tensors that some tensors have a part in; nodes stand in the order in which they are computed.

    Args:
        graph: see `load`.
        names: the tensors.
        through_shapes: whether to know a tensor's shape is to depend on it.
    """
    found = set(names)
    for node in graph.node:
        if (through_shapes or node.op_type not in SHAPES) and not found.isdisjoint(taken(node)):
            found.update(name for name in node.output if name)
    return found


def taken(node: Any) -> Iterator[str]:
    """All that a node needs, graphs inside it too."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from taken(inner)
            yield from (output.name for output in graph.output)


def quantised(model: Any, names: set[str]) -> list[str]:
    """Operators among those of some tensors that compute with numbers of at most eight bits, sorted.

    They are known by the types of their constants and results, not by name: new ones are found as well. Bytes that
    come from the image are pixels.

    Args:
        model: with types, see `with_shapes`.
        names: the tensors that the image has a part in.
    """
    onnx = import_onnx()
    narrow = {n for name, n in onnx.TensorProto.DataType.items() if name.startswith(NARROW)}
    types = {each.name: each.type.tensor_type.elem_type for each in (*model.graph.input, *model.graph.value_info)}
    constants = {each.name for each in model.graph.initializer if each.data_type in narrow}
    for node in model.graph.node:
        held = [each.t.data_type for each in node.attribute if each.name == "value"]
        if (node.op_type == "Constant" and narrow.intersection(held)) or (
            not names.intersection(node.output) and constants.intersection(node.input)
        ):
            constants.update(name for name in node.output if types.get(name) in (*narrow, None))
    kinds = set()
    for node in model.graph.node:
        made = {types.get(name) for name in node.output} & narrow
        rounds = made and node.op_type != "Cast" and not {types.get(name) for name in node.input} & narrow
        if constants.intersection(node.input) or (rounds and names.intersection(node.output)):
            kinds.add(node.op_type)
    return sorted(kinds)


def cut(model: Any, image: str, layers: Sequence[str]) -> Any:
    """The part of a model that takes an image and gives some tensors; weights that lie beside it stay there."""
    onnx, graph = import_onnx(), model.graph
    wanted, kept = set(layers), []
    for node in reversed(graph.node):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(taken(node))
    parts = {
        "node": list(reversed(kept)),
        "initializer": [each for each in graph.initializer if each.name in wanted],
        "sparse_initializer": [each for each in graph.sparse_initializer if each.values.name in wanted],
        "input": [each for each in graph.input if each.name == image],
        "output": [onnx.ValueInfoProto(name=layer) for layer in layers],
    }
    for field, values in parts.items():
        copies = [type(each).FromString(each.SerializeToString()) for each in values]
        graph.ClearField(field)
        getattr(graph, field).extend(copies)
    graph.ClearField("value_info")
    model.ir_version = max(IR, model.ir_version)
    return model


def take_in(model: Any, path: Path) -> Any:
    """The model with the weights in it that lie beside its file, which must be there (`OnnxFile.external`).

    Raises:
        Failed: one of their files is too short.
    """
    onnx = import_onnx()
    for tensor in tensors(model):
        told = {entry.key: entry.value for entry in tensor.external_data}
        if "location" not in told:
            continue
        try:
            start, size = int(told.get("offset", 0)), int(told.get("length", -1))
            with (path.parent / told["location"]).open("rb") as file:
                file.seek(start)
                tensor.raw_data = file.read(size)
        except (OSError, ValueError) as error:  # a place that is no number, or is below zero
            raise Failed(f"{path}: {tensor.name} cannot be read from {told['location']}: {error}") from None
        if len(tensor.raw_data) < size:
            raise Failed(f"{path}: {told['location']} beside it is too short for {tensor.name}")
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT
    return model


def as_bytes(model: Any, path: Path) -> bytes:
    """The model as a runtime takes it from memory.

    Raises:
        Refused: it has more than 2 GB, with weights that were taken in.
    """
    try:
        return bytes(model.SerializeToString())
    except ValueError:  # Protocol Buffers' limit
        raise Refused(
            f"{path}: weights of more than 2 GB lie beside it as links, which runtimes do not follow. Put the files "
            "themselves into one folder, as `hf download … --local-dir FOLDER` does"
        ) from None
