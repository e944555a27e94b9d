"""What an ONNX file says of itself, read without loading its weights.

An ONNX file is one Protocol Buffers message (onnx.proto3 gives the fields' numbers). Only those that are asked for here
are read, in place.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

from extract.network.wire import Damaged, fields, mapped, message, number, text
from features import Failed, Refused
from features.source import hashed

DEPTH = 16  # graphs inside graphs, at most
FLOATS = {1: "float32", 10: "float16"}
BYTE = {2: "uint8"}
QUANTISED = ("QLinear", "QGemm", "DequantizeLinear", "DynamicQuantize", "MatMulInteger", "ConvInteger", "MatMulNBits")


class Tensor(NamedTuple):
    """An input or output: its name, type (0 where it is not said), and sides; None where a side is free."""

    name: str
    type: int
    shape: tuple[int | None, ...]


class OnnxFile(NamedTuple):
    """An ONNX file's description.

    Attributes:
        path: of the file.
        inputs, outputs: of its graph; what has a value in the file is no input.
        opsets: version of each set of operators, by the set's name; ONNX's own has the empty name.
        external: files with weights beside it, sorted.
        of_image: outputs that the image decides alone, without a text beside it.
        image: the input that takes the image.
        probabilities: whether the graph ends in a softmax.
    """

    path: Path
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    opsets: dict[str, int]
    external: tuple[Path, ...]
    of_image: tuple[str, ...]
    image: Tensor
    probabilities: bool

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the file; if weights lie beside it, of `name NUL hash LF` of it and of each of those."""
        hashes = [(path.name, hashed(path)) for path in (self.path, *self.external)]
        if not self.external:
            return hashes[0][1]
        return hashlib.sha256("".join(f"{name}\0{each}\n" for name, each in hashes).encode()).hexdigest()

    @property
    def is_nhwc(self) -> bool:
        """Whether images, and maps with them, have their channels last."""
        return self.image.shape[1] != 3

    @property
    def side(self) -> int | None:
        """Side of the square input, where the file fixes it."""
        return self.image.shape[2]


class _Graph:
    """What is gathered over a graph and all inside it."""

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.valued: set[str] = set()
        self.nodes: list[tuple[str, list[str], list[str]]] = []  # operator, inputs and outputs, in order
        self.external: set[str] = set()


def read_onnx(path: Path) -> OnnxFile:
    """Read the description of an ONNX file that takes one image.

    Raises:
        Refused: not ONNX, or a network that cannot be taken: it is quantised, takes no image or two, or names files
            outside of its folder.
        Failed: the file is truncated, or weights beside it are missing.
    """
    graph, opsets = _Graph(), {}
    try:
        for field, value in fields(mapped(path)):
            if field == 7:
                _read_graph(message(value), graph, 0)
            elif field == 8:
                said = dict(fields(message(value)))
                opsets[text(said.get(1, b""))] = number(said.get(2, 0))
    except Damaged as error:
        raise Failed(f"{path} is not an ONNX file, or it is truncated: {error}") from None
    if not opsets or not graph.outputs:
        raise Refused(f"{path} is not an ONNX file: it holds no graph")
    if names := sorted({kind for kind, *_ in graph.nodes if kind.startswith(QUANTISED)}):
        raise Refused(f"{path} is quantised ({', '.join(names)}): take the file with float32 weights")
    inputs = [tensor for tensor in graph.inputs if tensor.name not in graph.valued]
    image = _image_of(path, inputs)
    without = _depending(graph, {tensor.name for tensor in inputs} - {image.name})
    of_image = [name for name in _names(graph.outputs) if name not in without]
    if not of_image:
        raise Refused(f"{path} needs more than an image for each of its outputs: {', '.join(_names(inputs))}")
    external = tuple(_beside(path, name) for name in sorted(graph.external))
    last = {name: kind for kind, _, outputs in graph.nodes for name in outputs}
    ends = last.get(of_image[0]) in ("Softmax", "LogSoftmax")
    return OnnxFile(path, tuple(inputs), tuple(graph.outputs), opsets, external, tuple(of_image), image, ends)


def _image_of(path: Path, inputs: list[Tensor]) -> Tensor:
    """The one input that takes images."""
    told = "; ".join(f"{tensor.name} {_shown(tensor.shape)}" for tensor in inputs) or "none"
    images = [tensor for tensor in inputs if len(tensor.shape) == 4]
    if len(images) != 1:
        raise Refused(f"{path} takes {len(images) or 'no'} images: its inputs are {told}. One is expected")
    image = images[0]
    if 3 not in (image.shape[1], image.shape[3]):
        raise Refused(f"{path} does not take RGB images: its inputs are {told}. 3 channels are expected, said in it")
    if image.type not in FLOATS | BYTE:
        raise Refused(f"{path} takes images of ONNX's type {image.type}: float32, float16 or uint8 is expected")
    sides = image.shape[2:] if image.shape[1] == 3 else image.shape[1:3]
    if len(set(sides)) > 1 and None not in sides:
        raise Refused(f"{path} takes images of {_shown(sides)}: a square is expected")
    batch, side = image.shape[0], next((side for side in sides if side), None)
    return image._replace(shape=(batch, 3, side, side) if image.shape[1] == 3 else (batch, side, side, 3))


def _depending(graph: _Graph, names: set[str]) -> set[str]:
    """All that some inputs have a part in; nodes stand in the order in which they are computed."""
    found = set(names)
    for _, inputs, outputs in graph.nodes:
        if not found.isdisjoint(inputs):
            found.update(outputs)
    return found


def _beside(path: Path, name: str) -> Path:
    """A file of weights in the model's folder."""
    folder = path.parent.resolve()
    file = folder / name
    if not name or Path(name).is_absolute() or not file.resolve().is_relative_to(folder):
        raise Refused(f"{path} names weights outside of its folder ({name!r}): nothing there is read")
    if not file.is_file():
        raise Failed(f"{path} has weights in a file of their own, and {file} is not there")
    return file


def _read_graph(data: memoryview, into: _Graph, depth: int) -> None:
    """Gather a GraphProto; of graphs inside nodes only what they need from outside, and where their weights are."""
    if depth > DEPTH:
        raise Damaged(f"its graphs are nested more than {DEPTH} deep")
    for field, value in fields(data):
        if field == 1:
            _read_node(message(value), into, depth)
        elif field == 5:
            into.valued.add(_read_weights(message(value), into))
        elif field == 15:  # sparse: its values are a tensor
            for part, held in fields(message(value)):
                if part == 1:
                    into.valued.add(_read_weights(message(held), into))
        elif field in (11, 12) and not depth:
            (into.inputs if field == 11 else into.outputs).append(_read_tensor(message(value)))


def _read_node(data: memoryview, into: _Graph, depth: int) -> None:
    kind, inputs, outputs, inside = "", [], [], _Graph()
    for field, value in fields(data):
        if field == 1:
            inputs.append(text(value))
        elif field == 2:
            outputs.append(text(value))
        elif field == 4:
            kind = text(value)
        elif field == 5:
            for part, held in fields(message(value)):
                if part in (6, 11):  # a graph, such as a branch or the body of a loop
                    _read_graph(message(held), inside, depth + 1)
                elif part in (5, 10):  # a tensor, such as a constant
                    _read_weights(message(held), into)
    into.external |= inside.external
    inputs += [name for _, taken, _ in inside.nodes for name in taken]
    into.nodes += [(name, [], []) for name, *_ in inside.nodes]
    into.nodes.append((kind, inputs, outputs))


def _read_weights(data: memoryview, into: _Graph) -> str:
    """Note the file of a TensorProto's values, if they lie in one; returns its name."""
    name = ""
    for field, value in fields(data):
        if field == 8:
            name = text(value)
        elif field == 13:
            entry = dict(fields(message(value)))
            if text(entry.get(1, b"")) == "location":
                into.external.add(text(entry.get(2, b"")))
    return name


def _read_tensor(data: memoryview) -> Tensor:
    """A ValueInfoProto."""
    name, kind = "", 0
    shape: list[int | None] = []
    for field, value in fields(data):
        if field == 1:
            name = text(value)
        for part, tensor in fields(message(value)) if field == 2 else ():
            for item, held in fields(message(tensor)) if part == 1 else ():
                if item == 1:
                    kind = number(held)
                for each, side in fields(message(held)) if item == 2 else ():
                    if each == 1:
                        said = dict(fields(message(side))).get(1)
                        shape.append(said if isinstance(said, int) and said > 0 else None)
    return Tensor(name, kind, tuple(shape))


def _names(tensors: list[Tensor]) -> list[str]:
    return [tensor.name for tensor in tensors]


def _shown(shape: tuple[int | None, ...]) -> str:
    return "×".join("?" if side is None else str(side) for side in shape)
