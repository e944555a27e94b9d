"""The network of an ONNX file, as OpenVINO or ONNX Runtime computes it."""

import importlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from extract.network.backends import Run, in_parts, is_out_of_memory
from extract.network.convert import import_openvino, output_shapes
from extract.network.network import Network
from extract.network.onnx_file import SOME, OnnxFile, channels_of, read_onnx
from extract.network.onnx_graph import as_bytes, cut, load, take_in
from extract.preprocessing import Values
from features import Failed, Refused
from features.runtime.errors import nearest
from features.runtime.versions import installed

BUILDERS = ("openvino", "onnx")
FLOAT32, UINT8, FLOAT16 = 1, 2, 10  # ONNX's numbers of types
BESIDE = "session.model_external_initializers_file_folder_path"  # where ONNX Runtime looks for weights


class OnnxNetwork(Network):
    """See `Network`. Keras has no part in it.

    Args:
        path: of the file.
        values: what becomes of each pixel.
        size: side of the square input, pixels.
        layers: names of outputs, or of tensors inside.
        pool: see `Network`.
        axes: see `extract.network.onnx_file.parsed_axes`.
    """

    def __init__(
        self, path: Path, values: Values, size: int, layers: Sequence[str], pool: str = "", axes: str = ""
    ) -> None:
        super().__init__(size, pool)
        self.path, self.values, self.layers, self.axes = path, values, layers, axes
        self._ran: list[tuple[int, ...]] = []  # shapes that ONNX Runtime gave: OpenVINO may not be here

    @cached_property
    def file(self) -> OnnxFile:
        """Its description.

        Raises:
            Refused: it takes bytes, and preprocessing makes fractions of them; see `read_onnx`.
        """
        file = read_onnx(self.path, self.axes)
        if file.image.type == UINT8 and not _are_bytes(self.values):
            raise Refused(
                f"{self.path} takes bytes (0 to 255), and its preprocessing makes other numbers of them "
                f"({self.values}): it normalises inside, or not at all. Give --preprocess 'none size={self.size}'"
            )
        return file

    def _key(self) -> dict[str, Any]:
        made = {"backbone": self.path.name, "layers": list(self.layers), "size": self.size, "axes": self.axes}
        return made | {"file": self._identity, "preprocessing": str(self.values), "versions": installed(BUILDERS)}

    @cached_property
    def _identity(self) -> str:
        return self.file.sha256

    @cached_property
    def _channels(self) -> list[int | None]:
        """Of each layer, the axis of its channels, if that is known."""
        known = channels_of(load(self.path), self.file, self.size)
        for layer in self.layers:
            if layer not in known:
                close = nearest(layer, list(known))
                raise Refused(
                    f"{self.path} has no tensor {layer!r} that the image decides.{close} "
                    f"All: python -m extract --layers {self.path}"
                )
        return [known[layer] for layer in self.layers]

    def _convert(self) -> Any:
        one = self._of_layers(-1) or self._of_layers(self.file.batch or 1)
        if one is None:
            raise Refused(
                f"{self.path}: {' '.join(self.layers)} are not for each image, at a batch that is free or "
                f"{self.file.batch or 1}: a vector, a map or tokens of each are expected"
            )
        made = self._from_pixels(one)
        if read_onnx(self.path, self.axes).sha256 != self._identity:
            raise Failed(f"{self.path} changed while it was read: run this again")
        return made

    def _of_layers(self, batch: int) -> Any:
        """OpenVINO's model from the image to the layers, channels last; None where they do not follow this batch."""
        openvino, _ = import_openvino(), self._channels  # which refuses layers that there are not
        try:
            whole = openvino_model(self.file, self.size, batch)
        except Refused:
            if batch == -1:
                return None
            raise
        outputs = [_output(whole, layer) for layer in self.layers]
        if any(not _is_layer(output.partial_shape, batch) for output in outputs):
            return None
        image = next(node for node in whole.get_parameters() if self.file.image.name in node.output(0).get_names())
        model = openvino.Model(outputs, [image])
        if any(side.is_dynamic for output in model.outputs for side in list(output.partial_shape)[1:]):
            shapes = _shapes_of_a_run(model, batch, self.size, self.file.is_nhwc)
            outputs = [_of_shape(output, shape) for output, shape in zip(outputs, shapes, strict=True)]
        return openvino.Model([self._channels_last(*each) for each in enumerate(outputs)], [image])

    def _channels_last(self, layer: int, output: Any) -> Any:
        turned = self.turned(layer, output.get_partial_shape().rank.get_length())
        if turned is None:
            return output
        return importlib.import_module("openvino.opset13").transpose(output, np.array(turned)).output(0)

    def turned(self, layer: int, rank: int) -> list[int] | None:
        """The order of a layer's axes that brings its channels to the end; None where they are there.

        Args:
            layer: its place among the layers.
            rank: of its tensor, with the batch.

        Raises:
            Refused: there is no such tensor, it needs more than the image, or nothing says which axis is channels.
        """
        name, axis = self.layers[layer], self._channels[layer]
        if rank < 3 or axis == rank - 1:
            return None
        if axis is None or axis >= rank:
            words = "nchw or nhwc" if rank == 4 else "nct or ntc"
            raise Refused(
                f"{self.path}: nothing in its graph says which axis of {name} is channels. Say it: --axes {name}=… "
                f"with {words}"
            )
        return [*(i for i in range(rank) if i != axis), axis]

    def check_batch_is_free(self) -> None:
        """Raise Refused if it takes only so many images at a time: an exported file takes any number."""
        fixed = self.converted.input().partial_shape[0]
        if fixed.is_static:
            raise Refused(f"{self.path} takes {fixed.get_length()} as a fixed batch, and an exported file takes any")

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
        if kind != kinds.u8:
            steps.convert_element_type(kinds.f32).scale([1 / self.values.scale] * 3)
            steps.mean(list(self.values.mean)).scale(list(self.values.std))
        if kind == kinds.f16:
            steps.convert_element_type(kind)
        for i in range(len(model.outputs)):
            prepared.output(i).tensor().set_element_type(kinds.f32)
        return prepared.build()

    def compile_onnxruntime(self, batch: int, device: str) -> tuple[Run, int]:
        """Compile by ONNX Runtime for one batch size; see `extract.network.backends.compile_keras`."""
        runtime: Any = importlib.import_module("onnxruntime")
        _ = self._channels  # which refuses layers that there are not
        session = self._session(runtime, device)
        wrong = runtime.capi.onnxruntime_pybind11_state
        for part in dict.fromkeys((self.file.batch or batch, 1)):
            run = self._run(session, part)
            try:
                first = run(np.zeros((part, self.size, self.size, 3), "u1"))
            except (wrong.InvalidArgument, wrong.RuntimeException, wrong.Fail) as error:
                if is_out_of_memory(error):  # whoever asked for this batch tries a smaller one
                    raise
                reason = str(error).splitlines()[0][:300]
                continue
            if all(rows.ndim > 1 and len(rows) == part for rows in first):
                self._ran = [rows.shape[1:] for rows in first]
                return in_parts(run, part, batch), 1
            reason = f"{[rows.shape for rows in first]} come from {part} images"
        raise Refused(f"ONNX Runtime cannot compute {self.path}: {reason}")

    def _session(self, runtime: Any, device: str) -> Any:
        """ONNX Runtime on the part of the file that goes from the image to the layers."""
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # what fails is raised, too
        part = cut(load(self.path), self.file.image.name, self.layers)
        if self.file.is_linked:
            take_in(part, self.path)
        elif self.file.external:
            options.add_session_config_entry(BESIDE, str(self.path.parent.resolve()))
        wanted = ["CUDAExecutionProvider"] if device == "gpu" else ["CPUExecutionProvider"]
        source = as_bytes(part, self.path)
        try:
            return runtime.InferenceSession(source, options, providers=wanted)
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise Refused(f"ONNX Runtime cannot take {self.path}: {reason}") from None

    def _run(self, session: Any, batch: int) -> Run:
        image, values = self.file.image, self.values
        mean, std = (np.array(each, np.float32) for each in (values.mean, values.std))

        def run(images: np.ndarray) -> list[np.ndarray]:
            pixels = images[..., ::-1] if values.order == "bgr" else images
            made = pixels if image.type == UINT8 else (pixels * np.float32(values.scale) - mean) / std
            made = made if self.file.is_nhwc else made.transpose(0, 3, 1, 2)
            made = made.astype(np.float16) if image.type == FLOAT16 else made
            rows = session.run(list(self.layers), {image.name: np.ascontiguousarray(made)})
            return [self._last(*each) for each in enumerate(rows)]

        return run

    def _last(self, layer: int, rows: np.ndarray) -> np.ndarray:
        turned = self.turned(layer, rows.ndim)
        return np.asarray(rows if turned is None else np.ascontiguousarray(rows.transpose(turned)), np.float32)


def openvino_model(file: OnnxFile, size: int, batch: int) -> Any:
    """OpenVINO's model of a file, for one size.

    Args:
        file: the file.
        size: side of the square input, pixels.
        batch: images at a time, −1 for any number.

    Raises:
        Refused: OpenVINO does not know one of its operators, or it does not fit this batch and size.
    """
    try:
        # OpenVINO follows no links of weights: then it is given them with the graph
        source = as_bytes(take_in(load(file.path), file.path), file.path) if file.is_linked else file.path
        model = import_openvino().Core().read_model(source)
        sides = [batch, size, size, 3] if file.is_nhwc else [batch, 3, size, size]
        model.reshape({file.image.name: sides})
        return model
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise Refused(
            f"OpenVINO cannot take {file.path} at {size} px: {lines[-1][:300].rstrip('.')}. If it takes images of "
            "another side, give --size; ONNX Runtime knows other operators: try --engine onnxruntime"
        ) from None


def layers_of_file(file: OnnxFile, size: int) -> dict[str, tuple[int, ...]]:
    """Name → feature shape of each tensor that can be a layer, in the order in which they are computed.

    A map or tokens of which nothing says where their channels are have the shape that they have in the file.
    """
    batch, channels = file.batch or SOME, channels_of(load(file.path), file, size)
    found = {}
    for node in openvino_model(file, size, batch).get_ordered_ops():
        for output in node.outputs() if node.get_type_name() not in ("Parameter", "Result") else ():
            names, shape = sorted(output.get_names() & channels.keys()), output.get_partial_shape()
            if names and shape.is_static and _is_layer(shape, batch) and output.get_element_type().is_real():
                sides = list(shape.to_shape())[1:]
                if len(sides) > 1 and (axis := channels[names[0]]):
                    sides.append(sides.pop(axis - 1))
                found[names[0]] = tuple(sides)
    return found


def _are_bytes(values: Values) -> bool:
    """Whether preprocessing leaves each byte the whole number that it is."""
    pixels = np.arange(256.0)[:, None]
    made = (pixels * values.scale - np.array(values.mean)) / np.array(values.std)
    return bool(np.abs(made - pixels).max() < 1e-3)


def _is_layer(shape: Any, batch: int) -> bool:
    """Whether a shape is that of a vector, tokens or a map for each image of a batch, −1 for any."""
    if shape.rank.is_dynamic or not 2 <= shape.rank.get_length() <= 4:
        return False
    return shape[0].is_dynamic if batch == -1 else shape[0].is_static and shape[0].get_length() == batch


def _output(model: Any, layer: str) -> Any:
    """An output or inner tensor by name."""
    for node in model.get_ordered_ops():
        for output in node.outputs():
            if layer in output.get_names():
                return node.input_value(0) if node.get_type_name() == "Result" else output
    raise Refused(f"OpenVINO leaves no tensor {layer!r} of its graph: try --engine onnxruntime")


def _shapes_of_a_run(model: Any, batch: int, size: int, is_nhwc: bool) -> list[tuple[int, ...]]:
    """What only computing tells: the sides of each output for one image."""
    count = SOME if batch == -1 else batch
    made = model.clone()
    made.reshape([count, size, size, 3] if is_nhwc else [count, 3, size, size])
    request = import_openvino().Core().compile_model(made, "CPU").create_infer_request()
    request.infer()
    return [tuple(request.get_output_tensor(i).shape)[1:] for i in range(len(made.outputs))]


def _of_shape(output: Any, shape: tuple[int, ...]) -> Any:
    """The output, said to be of this shape for each image."""
    sides = np.array([0, *shape], np.int64)  # 0: as many as there are
    return importlib.import_module("openvino.opset13").reshape(output, sides, True).output(0)
