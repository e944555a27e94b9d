"""The engines that compute the forward pass, Keras on its backend or OpenVINO on CPUs, and the choice between them."""

import dataclasses
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from extract.network.backends import Run, compile_keras, in_parts
from extract.network.convert import compile_converted, import_openvino
from extract.network.importing import backend_name, import_keras
from extract.network.network import KerasNetwork, Network
from extract.network.onnx_network import OnnxNetwork
from features import Refused
from features.runtime.versions import installed

# --precision → (Keras's policy, OpenVINO's hint); the stored rows are float32 whatever the arithmetic was.
PRECISIONS = {"f32": ("float32", "f32"), "bf16": ("mixed_bfloat16", "bf16"), "f16": ("mixed_float16", "f16")}
KERAS = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "openvino")
ONNX = ("openvino", "onnxruntime", "onnxruntime-gpu")
IMAGES = ("numpy", "h5py", "pillow", "pillow-heif")


@dataclasses.dataclass(frozen=True)
class Engine:
    """One way to compute a network.

    Attributes:
        name: what `--engine` takes.
        batch: images a call, unless measured or told otherwise. OpenVINO on two cores: whole stage one of MobileNetV2
            197 images/s with 2, 178 with 4, 144 with 8, 140 with 32 (bf16: 298 with 2, 331 with 4), the same bits.
        unfit: why it cannot be had here, for a device, a precision, and an ONNX file or not; empty where it can.
        compile: (network, batch, device, precision) → the function, and how many calls of it may run at once.
    """

    name: str
    batch: int
    unfit: Callable[[str, str, bool], str]
    compile: Callable[[Network, int, str, str], tuple[Run, int]]

    @property
    def recorded(self) -> str:
        """The name that a stack records: `openvino`, `keras on tensorflow`."""
        return self.name if self.name != "keras" else f"keras on {backend_name()}"


def choose_engine(engine: str, device: str, precision: str, is_onnx: bool = False) -> tuple[Engine, str]:
    """The engine for `auto` or a name, and the reason.

    Args:
        engine: `auto`, or a name in `ENGINES`.
        device: `cpu` or `gpu`.
        precision: a name in `PRECISIONS`.
        is_onnx: whether the network is an ONNX file's.

    Raises:
        Refused: there is no such engine, or the one asked for cannot be had here.
    """
    if engine not in ("auto", *ENGINES):
        raise Refused(f"no engine is called {engine!r}; there are auto, {', '.join(ENGINES)}")
    if precision not in PRECISIONS:
        raise Refused(f"no precision is called {precision!r}; there are {', '.join(PRECISIONS)}")
    if engine == "auto":
        other = "onnxruntime" if is_onnx else "keras"
        if not (why_not := ENGINES["openvino"].unfit(device, precision, is_onnx)):
            return ENGINES["openvino"], "the faster one on CPUs"
        if neither := ENGINES[other].unfit(device, precision, is_onnx):
            raise Refused(f"no engine can compute this: {why_not}; {neither}")
        return ENGINES[other], why_not
    if why_not := ENGINES[engine].unfit(device, precision, is_onnx):
        raise Refused(f"--engine {engine}: {why_not}, or use --engine auto")
    return ENGINES[engine], "as asked for"


def row_versions(is_onnx: bool = False) -> dict[str, str]:
    """Versions of Python and of the packages that affect a row, of an ONNX file's network or of Keras's."""
    return installed([*(ONNX if is_onnx else KERAS), *IMAGES])


def changed_versions(then: Mapping[str, str]) -> list[str]:
    """`numpy 2.3 then, 2.4 here` of each package that is another version than was recorded."""
    here = installed(then)
    return [f"{name} {was} then, {here.get(name, 'none')} here" for name, was in then.items() if here.get(name) != was]


def _keras_unfit(device: str, precision: str, is_onnx: bool) -> str:
    return "Keras computes no ONNX files" if is_onnx else ""


def _compile_keras(network: Network, batch: int, device: str, precision: str) -> tuple[Run, int]:
    assert isinstance(network, KerasNetwork)
    model, keras = network.model, import_keras()
    for layer in _layers(model):
        layer.dtype_policy = keras.DTypePolicy(PRECISIONS[precision][0])  # the weights themselves stay float32
    return compile_keras(model, batch, device)


def _layers(model: Any) -> Iterator[Any]:
    """All layers of a model, those of models inside it too."""
    for layer in model.layers:
        yield from _layers(layer) if hasattr(layer, "layers") else (layer,)


def _openvino_unfit(device: str, precision: str, is_onnx: bool) -> str:
    if device != "cpu":
        return "OpenVINO is for CPUs, and this is a GPU; use --device cpu"
    backend = backend_name()
    if backend != "tensorflow" and not is_onnx:
        return (
            f"OpenVINO takes the network from Keras on tensorflow, and this is {backend}; set KERAS_BACKEND=tensorflow"
        )
    if sys.modules.get("openvino") is None and importlib.util.find_spec("openvino") is None:
        return "OpenVINO is not installed; pip install openvino"
    if precision != "f32":
        able = import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if {"bf16": "BF16", "f16": "FP16"}[precision] not in able:
            return f"OpenVINO computes no {precision} on this CPU; use --precision f32"
    return ""


def _compile_openvino(network: Network, batch: int, device: str, precision: str) -> tuple[Run, int]:
    fixed = network.converted.input().partial_shape[0]
    part = batch if fixed.is_dynamic else fixed.get_length()
    run, lanes = compile_converted(network.converted, part, PRECISIONS[precision][1])
    return in_parts(run, part, batch), lanes


def _onnxruntime_unfit(device: str, precision: str, is_onnx: bool) -> str:
    if not is_onnx:
        return "ONNX Runtime computes ONNX files alone"
    if importlib.util.find_spec("onnxruntime") is None:
        return "ONNX Runtime is not installed; pip install -e '.[onnx-gpu]'"
    if precision != "f32":
        return f"ONNX Runtime computes in the file's own precision, not in {precision}; use --precision f32"
    return ""


def _compile_onnxruntime(network: Network, batch: int, device: str, precision: str) -> tuple[Run, int]:
    assert isinstance(network, OnnxNetwork)
    return network.compile_onnxruntime(batch, device)


ENGINES = {
    row.name: row
    for row in (
        Engine("keras", 32, _keras_unfit, _compile_keras),
        Engine("openvino", 4, _openvino_unfit, _compile_openvino),
        Engine("onnxruntime", 32, _onnxruntime_unfit, _compile_onnxruntime),
    )
}
