"""What a file in Keras's own format says of its network, read without Keras."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from features import Failed, Refused
from features.runtime.errors import check_readable
from features.source import hashed


class KerasFile(NamedTuple):
    """A `.keras` file's description: side of its square input, and the name of its last layer."""

    path: Path
    side: int
    layer: str

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the file."""
        return hashed(self.path)


def read_keras(path: Path) -> KerasFile:
    """Read the description of a network that takes one image.

    Raises:
        Refused: it holds code, it takes no square RGB image, or it gives more than one output.
        Failed: the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as file:
            told = json.loads(file.read("config.json"))
        config = told["config"]
        layers = config["layers"]
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        check_readable(path, error)
        raise Failed(f"{path} is no model in Keras's own format, or it is damaged: {error}") from None
    if code := sorted(set(_code(told))):
        raise Refused(f"{path} holds code, which is not run: {', '.join(code)}. Save the model without it, or as ONNX")
    try:
        inputs = [each["config"]["batch_shape"] for each in layers if each["class_name"] == "InputLayer"]
        ends = layers[-1]["config"]["name"] if told["class_name"] == "Sequential" else config["output_layers"]
    except (KeyError, TypeError):
        raise Refused(
            f"{path} is a {told.get('class_name')} network: a functional or sequential one is expected"
        ) from None
    shape = inputs[0] if len(inputs) == 1 else inputs
    if len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2] or not shape[1]:
        raise Refused(f"{path} takes inputs of {shape}: one square RGB image of a fixed size is expected")
    return KerasFile(path, shape[1], ends if isinstance(ends, str) else _only(path, ends))


def _only(path: Path, outputs: list[Any]) -> str:
    """The layer of the one output: `[name, 0, 0]`, or a list with that."""
    if isinstance(outputs[0], str):
        return outputs[0]
    if len(outputs) > 1:
        raise Refused(f"{path} has {len(outputs)} outputs: save it with the one whose features are wanted")
    return str(outputs[0][0])


def _code(told: Any) -> Iterator[str]:
    """What in a configuration brings code of its own: lambdas, and classes that are not Keras's."""
    if isinstance(told, list):
        for each in told:
            yield from _code(each)
    if isinstance(told, dict):
        name, module = told.get("class_name"), told.get("module", "keras")
        if isinstance(name, str) and "config" in told:
            if name in ("Lambda", "__lambda__"):
                yield "a Lambda"
            elif module is None or str(module).split(".")[0] != "keras":
                yield f"{module or told.get('registered_name') or 'a custom'}.{name}"
        for each in told.values():
            yield from _code(each)
