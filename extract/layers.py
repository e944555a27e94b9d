"""The layers of a backbone or of a model file, to choose one from."""

from pathlib import Path

from extract.backbones import backbone_named
from extract.model_file import found, is_model_file
from extract.network.base import load_base, load_model
from extract.network.onnx_file import read_onnx
from extract.network.onnx_network import tensors
from extract.preprocessing import SIDE


def layers_of(model: str, size: int | None = None) -> dict[str, tuple[int, ...]]:
    """Name → feature shape of each layer at which a network can be cut, in the order in which they are computed.

    Args:
        model: a backbone's name, or a model file or its folder.
        size: side of the square input, pixels; by default the network's own.

    Raises:
        Refused, Failed: there is no such network, or it cannot be taken.
    """
    if not is_model_file(model):
        row = backbone_named(model)
        weights = "random" if row.weights == "imagenet" else row.weights  # they change no shape
        base, _ = load_base(row, weights, size or row.size, 0)
    else:
        file = found(Path(model))
        if file.suffix == ".onnx":
            onnx = read_onnx(file)
            return tensors(onnx, size or onnx.side or SIDE)
        base = load_model(file)
    return {layer.name: tuple(layer.output.shape[1:]) for layer in base.layers[1:] if hasattr(layer.output, "shape")}
