"""The network of an ONNX file, as OpenVINO or ONNX Runtime computes it."""

import importlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from extract.network.backends import Run
from extract.network.convert import import_openvino, output_shapes
from extract.network.network import Network
from extract.network.onnx_file import OnnxFile, read_onnx
from extract.preprocessing import Values
from features import Failed, Refused
from features.runtime.errors import nearest
from features.runtime.versions import installed

BUILDERS = ("openvino",)


class OnnxNetwork(Network):
    """See `Network`. Keras has no part in it.

    Args:
        path: of the file.
        values: what becomes of each pixel.
        size: side of the square input, pixels.
        layers: names of outputs, or of tensors inside.
        pool: see `Network`.
    """

    def __init__(self, path: Path, values: Values, size: int, layers: Sequence[str], pool: str = "") -> None:
        super().__init__(size, pool)
        self.path, self.values, self.layers = path, values, layers
        self._ran: list[tuple[int, ...]] = []  # shapes that ONNX Runtime gave: OpenVINO may not be here

    @cached_property
    def file(self) -> OnnxFile:
        """Its description."""
        return read_onnx(self.path)

    def _key(self) -> dict[str, Any]:
        made = {"backbone": self.path.name, "layers": list(self.layers), "size": self.size}
        return made | {"file": self._identity, "preprocessing": str(self.values), "versions": installed(BUILDERS)}

    @cached_property
    def _identity(self) -> str:
        return self.file.sha256

    def _convert(self) -> Any:
        whole = openvino_model(self.file, self.size)
        outputs = [_output(whole, self.path, layer) for layer in self.layers]
        image = next(node for node in whole.get_parameters() if self.file.image.name in node.output(0).get_names())
        openvino = import_openvino()
        try:
            one = openvino.Model([_channels_last(output, self.file.is_nhwc) for output in outputs], [image])
        except RuntimeError:
            raise Refused(f"{self.path}: {' '.join(self.layers)} need more than the image") from None
        for output, layer in zip(one.outputs, self.layers, strict=True):
            if not _is_layer(output.partial_shape):
                raise Refused(
                    f"{self.path}: {layer} is {output.partial_shape}: a vector, a map or tokens of each image are "
                    f"expected. Export it with a free batch, and sides that follow from {self.size} px"
                )
        made = self._from_pixels(one)
        if read_onnx(self.path).sha256 != self._identity:
            raise Failed(f"{self.path} changed while it was read: run this again")
        return made

    @property
    def _shapes(self) -> list[tuple[int, ...]]:
        return self._ran or output_shapes(self.converted)

    def _from_pixels(self, model: Any) -> Any:
        """The model on uint8 pixels (batch, side, side, 3), RGB."""
        openvino = import_openvino()
        kinds, kind = openvino.Type, model.input().element_type
        prepared = openvino.preprocess.PrePostProcessor(model)
        pixels, steps = prepared.input(), prepared.input().preprocess()
        pixels.tensor().set_element_type(kinds.u8).set_layout(openvino.Layout("NHWC"))
        pixels.model().set_layout(openvino.Layout("NHWC" if self.file.is_nhwc else "NCHW"))
        if self.values.order == "bgr":
            steps.reverse_channels()
        steps.convert_element_type(kinds.f32).scale([1 / self.values.scale] * 3)
        steps.mean(list(self.values.mean)).scale(list(self.values.std))
        if kind != kinds.f32:
            steps.convert_element_type(kind)
        for i in range(len(model.outputs)):
            prepared.output(i).tensor().set_element_type(kinds.f32)
        return prepared.build()

    def compile_onnxruntime(self, batch: int, device: str) -> tuple[Run, int]:
        """Compile by ONNX Runtime for one batch size; see `extract.network.backends.compile_keras`."""
        runtime: Any = importlib.import_module("onnxruntime")
        wanted = ["CUDAExecutionProvider"] if device == "gpu" else ["CPUExecutionProvider"]
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        inner = [layer for layer in self.layers if layer not in {tensor.name for tensor in self.file.outputs}]
        source: Any = str(self.path)
        if inner:
            if self.file.external:
                raise Refused(f"ONNX Runtime gives no inner tensor of a file with external weights: {', '.join(inner)}")
            source = self.path.read_bytes() + b"".join(map(_more_output, inner))
        try:
            session = runtime.InferenceSession(source, options, providers=wanted)
        except Exception as error:
            raise Refused(f"ONNX Runtime cannot take {self.path}: {str(error).splitlines()[0]}") from None
        image, values = self.file.image, self.values
        mean, std = (np.array(each, np.float32) for each in (values.mean, values.std))
        to = {10: np.float16, 2: np.uint8}.get(image.type, np.float32)

        def run(images: np.ndarray) -> list[np.ndarray]:
            pixels = images[..., ::-1] if values.order == "bgr" else images
            made = (pixels * np.float32(values.scale) - mean) / std
            made = made if self.file.is_nhwc else made.transpose(0, 3, 1, 2)
            rows = session.run(list(self.layers), {image.name: np.ascontiguousarray(made, to)})
            return [_last(np.asarray(each, np.float32), self.file.is_nhwc) for each in rows]

        try:
            first = run(np.zeros((batch, self.size, self.size, 3), "u1"))
        except runtime.capi.onnxruntime_pybind11_state.InvalidArgument as error:
            raise Refused(f"ONNX Runtime cannot compute {self.path}: {str(error).splitlines()[0][:300]}") from None
        self._ran = [rows.shape[1:] for rows in first]
        return run, 1


def openvino_model(file: OnnxFile, size: int) -> Any:
    """OpenVINO's model of a file, for any batch and one size.

    Raises:
        Refused: OpenVINO does not know one of its operators, or its batch is fixed.
    """
    try:
        model = import_openvino().Core().read_model(file.path)
        sides = [-1, size, size, 3] if file.is_nhwc else [-1, 3, size, size]
        model.reshape({file.image.name: sides})
        return model
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise Refused(f"OpenVINO cannot take {file.path} at any batch and {size} px: {lines[-1][:300]}") from None


def tensors(file: OnnxFile, size: int) -> dict[str, tuple[int, ...]]:
    """Name → feature shape of each tensor that can be a layer, in the order in which they are computed."""
    found = {}
    for node in openvino_model(file, size).get_ordered_ops():
        for output in node.outputs() if node.get_type_name() not in ("Parameter", "Result") else ():
            names, shape = sorted(output.get_names()), output.get_partial_shape()
            if names and _is_layer(shape) and output.get_element_type().is_real():
                sides = tuple(side.get_length() for side in list(shape)[1:])
                found[names[0]] = sides if len(sides) < 3 or file.is_nhwc else (*sides[1:], sides[0])
    return found


def _is_layer(shape: Any) -> bool:
    """Whether a shape is that of a vector, tokens or a map for each image."""
    if shape.rank.is_dynamic or not 2 <= shape.rank.get_length() <= 4:
        return False
    batch, *sides = list(shape)
    return batch.is_dynamic and not any(side.is_dynamic for side in sides)


def _output(model: Any, path: Path, layer: str) -> Any:
    """An output or inner tensor by name."""
    known: list[str] = []
    for node in model.get_ordered_ops():
        for output in node.outputs():
            if layer in output.get_names():
                return node.input_value(0) if node.get_type_name() == "Result" else output
            known += output.get_names()
    close = nearest(layer, list(dict.fromkeys(known)))
    raise Refused(f"{path} has no tensor {layer!r}.{close} All: python -m extract --layers {path}")


def _channels_last(output: Any, is_nhwc: bool) -> Any:
    """A map with its channels last; anything else as it is."""
    if is_nhwc or output.get_partial_shape().rank.get_length() != 4:
        return output
    from openvino import opset13

    return opset13.transpose(output, np.array([0, 2, 3, 1])).output(0)


def _last(rows: np.ndarray, is_nhwc: bool) -> np.ndarray:
    return rows if is_nhwc or rows.ndim != 4 else np.ascontiguousarray(rows.transpose(0, 2, 3, 1))


def _more_output(name: str) -> bytes:
    """Bytes that, after those of an ONNX file, make one more tensor of its graph an output.

    A message that is given twice is merged, and a list in it goes on: the graph (field 7) with one output (12) by name.
    """

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2]) + _varint(len(content)) + content

    return field(7, field(12, field(1, name.encode())))


def _varint(value: int) -> bytes:
    parts = [value >> shift & 127 for shift in range(0, max(1, value.bit_length()), 7)]
    return bytes([part | 128 for part in parts[:-1]] + parts[-1:])
