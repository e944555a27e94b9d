"""Whole ONNX graphs, to be put into a larger one: of Keras networks, and of files."""

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from classify.portable.target import check_converts
from extract.network.onnx_file import OnnxFile
from extract.network.onnx_graph import cut
from features import Refused

OPSET = 18  # the newest that tf2onnx writes
OLDEST = 13  # from here on operators are those that the head is drawn with


def imported(name: str) -> Any:
    """A package of the extra `onnx`.

    Raises:
        Refused: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise Refused(f"--to onnx: the package {name} is not installed; pip install -e '.[onnx]'") from None


def of_keras(model: Any, opset: int) -> Any:
    """A Keras network of one input and one output, by tf2onnx.

    Raises:
        Refused: it holds an operation that tf2onnx does not know.
    """
    check_converts("onnx")
    onnx, tf2onnx, tensorflow = imported("onnx"), imported("tf2onnx"), importlib.import_module("tensorflow")
    given = [tensorflow.TensorSpec((None, *model.input_shape[1:]), model.inputs[0].dtype, name="given")]
    function = tensorflow.function(lambda given: _only(model(given, training=False)), input_signature=given)
    with _inlined(tensorflow):
        made, _ = tf2onnx.convert.from_function(
            function, input_signature=given, opset=min(opset, OPSET), custom_op_handlers={"Erfc": (_erfc, [])}
        )
    if strange := sorted({node.op_type for node in made.graph.node if not onnx.defs.has(node.op_type, node.domain)}):
        told = ", ".join(strange)
        raise Refused(f"tf2onnx does not know {told} of this network: python -m classify export … --to openvino")
    # Keras keeps some constants beside the graph, such as means: to tf2onnx they are inputs without a value.
    captures = function.get_concrete_function().graph.captures
    constants = {inside.name: value for value, inside in captures if inside.dtype != tensorflow.resource}
    used = {name for node in made.graph.node for name in node.input}
    for each in [each for each in made.graph.input if each.name in constants]:
        made.graph.input.remove(each)
        if each.name in used:
            made.graph.initializer.append(onnx.numpy_helper.from_array(constants[each.name].numpy(), each.name))
    return raised(made, opset, model.name)


def of_file(file: OnnxFile, layer: str, opset: int) -> Any:
    """An ONNX file, cut so that its image is the only input and a layer the only output."""
    made = cut(imported("onnx").load(file.path), file.image.name, [layer])
    return raised(made, opset, file.path.name)


def raised(made: Any, opset: int, name: str) -> Any:
    """A model with ONNX's own operators of this version or, where that is newer already, as it is.

    Raises:
        Refused: an operator changed in a way that onnx cannot convert.
    """
    onnx = imported("onnx")
    if all(each.version >= opset for each in made.opset_import if not each.domain):
        return made
    try:
        return importlib.import_module("onnx.version_converter").convert_version(made, opset)
    except (RuntimeError, onnx.checker.ValidationError) as error:
        reason = str(error).splitlines()[0][:200]
        raise Refused(f"{name} cannot be converted to ONNX's operator set {opset}: {reason}") from None


@contextmanager
def _inlined(tensorflow: Any) -> Iterator[None]:
    """Functions inside of a function become part of its graph, Keras's grouped convolutions too; tf2onnx is quiet."""
    tensorflow.config.run_functions_eagerly(True)
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "tensorflow")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        tensorflow.config.run_functions_eagerly(False)
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def _erfc(context: Any, node: Any, name: str, args: Any) -> None:
    """1 − erf(x), which tf2onnx lacks; ConvNeXt's activation has it."""
    import numpy as np

    shape, dtype, output = context.get_shape(node.output[0]), context.get_dtype(node.output[0]), node.output[0]
    given = node.input[0]
    context.remove_node(node.name)
    erf = context.make_node("Erf", [given], shapes=[shape], dtypes=[dtype])
    one = context.make_const(f"{name}_one", np.array(1, np.float32))
    context.make_node(
        "Sub", [one.output[0], erf.output[0]], name=name, outputs=[output], shapes=[shape], dtypes=[dtype]
    )


def _only(outputs: Any) -> Any:
    return outputs[0] if isinstance(outputs, list | tuple) else outputs
