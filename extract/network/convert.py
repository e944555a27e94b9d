"""A Keras model as OpenVINO computes it: converted, written and read back, compiled."""

import importlib
import sys
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from extract.network.backends import Run
from features.runtime.machine import cores

FILES = ("network.xml", "network.bin")  # OpenVINO's own format: the graph, and the weights
STREAMS = 4  # batches in flight at most: each holds its own activations, 0.8 GB in VGG16 at 32 images


def import_openvino() -> Any:
    """OpenVINO, without its telemetry: importing it would send an event to its makers each time."""
    held = sys.modules.get("openvino_telemetry")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # makes its import fail, as if absent
    try:
        import openvino
    finally:
        if held is None:
            del sys.modules["openvino_telemetry"]
    return openvino


def convert(model: Any) -> Any:
    """A Keras model as OpenVINO's, for any batch, with the outputs that it has and no others.

    OpenVINO takes for outputs also what TensorFlow keeps for gradients, such as each swish of an EfficientNet: 49
    feature maps turned and copied for nobody, and B0 at 35 images/s on one core instead of 94.

    Args:
        model: pixels, or rows → outputs, on TensorFlow.
    """
    openvino = import_openvino()
    import tensorflow as tf

    shape = tf.TensorSpec((None, *model.input_shape[1:]), model.inputs[0].dtype)
    function = tf.function(lambda given: model(given, training=False), input_signature=[shape]).get_concrete_function()
    # OpenVINO 2026.4 asks for TensorFlow's version by exec, which on Python 3.13 sees a function's variables no more.
    asks: Any = importlib.import_module("openvino.frontend.tensorflow.utils")
    asks.get_environment_setup = lambda framework: {"tensorflow": tf.__version__}
    whole = openvino.convert_model(function)
    return openvino.Model([whole.output(output.name) for output in function.outputs], whole.get_parameters())


def output_shapes(converted: Any) -> list[tuple[int, ...]]:
    """Of each output, for one image."""
    return [tuple(side.get_length() for side in list(output.partial_shape)[1:]) for output in converted.outputs]


def write(converted: Any, folder: Path) -> None:
    """Write `FILES` into a folder; the weights stay float32, which is not OpenVINO's default."""
    import_openvino().save_model(converted, folder / FILES[0], compress_to_fp16=False)


def read(graph: bytes, weights: bytes) -> Any:
    """The model whose `FILES` hold these bytes."""
    return import_openvino().Core().read_model(graph, weights)


def compile_converted(converted: Any, batch: int, precision: str) -> tuple[Run, int]:
    """Compile for as many batches at once as there are cores, up to `STREAMS`.

    With one thread a stream nothing waits for a slower neighbour: MobileNetV2 gave 1.14 times the images/s of one batch
    on all cores, while other work went on there. The precision is always said: OpenVINO's own default is bf16 where
    the CPU has it. Its own cache of compiled models is not used: what lies there is checked by nobody.

    Args:
        converted: see `convert`.
        batch: images a call.
        precision: `f32`, `bf16` or `f16`.

    Returns:
        the function, and how many calls of it may run at once.
    """
    one_shape = converted.clone()
    one_shape.reshape([batch, *list(converted.input().partial_shape)[1:]])
    threads = cores()
    compiled = (
        import_openvino()
        .Core()
        .compile_model(
            one_shape,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "NUM_STREAMS": min(threads, STREAMS),
                "INFERENCE_NUM_THREADS": threads,
                "ENABLE_CPU_PINNING": False,  # all processes of a machine would pin their first thread to the same core
            },
        )
    )
    requests: SimpleQueue[Any] = SimpleQueue()
    lanes = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    for _ in range(lanes):
        requests.put(compiled.create_infer_request())

    def run(images: np.ndarray) -> list[np.ndarray]:
        request = requests.get()
        try:
            request.infer([images], share_inputs=True)
            # copies: the next call writes over them
            return [np.array(request.get_output_tensor(i).data) for i in range(len(compiled.outputs))]
        finally:
            requests.put(request)

    return run, lanes
