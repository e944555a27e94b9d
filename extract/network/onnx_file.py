"""What an ONNX file says of itself: its inputs and outputs, and where its image has its channels.

The description of a file that was read once is kept among the converted networks (`extract.network.cache`). A process
that finds it there does not import the package `onnx`.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from extract.network import cache
from extract.network.onnx_axes import channel_axes, channels_of_image
from extract.network.onnx_graph import depending, load, locations, quantised, sketch, with_shapes
from features import Failed, Refused
from features.source import hashed

TYPES = {1: "float32", 10: "float16", 2: "uint8"}  # of images, by ONNX's numbers
RGB = 3  # channels
SOME = 2  # images of the batch that shapes are inferred for, where it is free


class Tensor(NamedTuple):
    """An input or output: its name, type (0 where it is not said), and sides; None where a side is free."""

    name: str
    type: int
    shape: tuple[int | None, ...]


class OnnxFile(NamedTuple):
    """An ONNX file's description.

    Attributes:
        path: of the file.
        own_sha256: SHA-256 (hex) of the file alone.
        inputs, outputs: of its graph; what has a value in the file is no input.
        opsets: version of each set of operators, by the set's name; ONNX's own has the empty name.
        external: files with weights beside it, sorted.
        of_image: outputs that the image decides alone, without a text beside it.
        image: the input that takes the image, (batch, side, side, 3) or (batch, 3, side, side).
        probabilities: whether the graph ends in a softmax.
        quantised: operators that compute with numbers of at most eight bits.
        axes: tensor → its axes as `--axes` says them, such as `nhwc`.
    """

    path: Path
    own_sha256: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    opsets: dict[str, int]
    external: tuple[Path, ...]
    of_image: tuple[str, ...]
    image: Tensor
    probabilities: bool
    quantised: tuple[str, ...]
    axes: dict[str, str]

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the file; if weights lie beside it, of `name NUL hash LF` of it and of each of those."""
        if not self.external:
            return self.own_sha256
        hashes = [(self.path.name, self.own_sha256), *((path.name, hashed(path)) for path in self.external)]
        return hashlib.sha256("".join(f"{name}\0{each}\n" for name, each in hashes).encode()).hexdigest()

    @property
    def is_linked(self) -> bool:
        """Whether weights beside it are links, as in a hub's cache."""
        return any(path.is_symlink() for path in self.external)

    @property
    def is_nhwc(self) -> bool:
        """Whether images have their channels last."""
        return self.image.shape[1] != 3

    @property
    def side(self) -> int | None:
        """Side of the square input, where the file fixes it."""
        return self.image.shape[2]

    @property
    def batch(self) -> int | None:
        """Images that it takes at a time, where the file fixes that."""
        return self.image.shape[0]


def read_onnx(path: Path, axes: str = "") -> OnnxFile:
    """Read the description of an ONNX file that takes one image.

    Args:
        path: of the file.
        axes: what its graph does not say, see `parsed_axes`.

    Raises:
        Refused: not ONNX, or a network that cannot be taken: it takes no image or two, needs more than an image, names
            files outside of its folder, or does not say where its channels are.
        Failed: the file is truncated, or weights beside it are missing.
    """
    sha256 = hashed(path)
    key = {"description": path.name, "sha256": sha256}
    if kept := cache.find(key, ()):
        facts = kept.facts
    else:
        facts = _described(path)
        cache.keep(key, facts, lambda folder: None)
    inputs, outputs = (
        tuple(Tensor(name, kind, tuple(shape)) for name, kind, shape in facts[each]) for each in ("inputs", "outputs")
    )
    given = parsed_axes(axes, facts["image"])
    image = _square(path, inputs, facts, given.get(facts["image"], ""))
    external = tuple(_beside(path, name) for name in facts["external"])
    more = (facts["probabilities"], tuple(facts["quantised"]), given)
    return OnnxFile(path, sha256, inputs, outputs, facts["opsets"], external, tuple(facts["of_image"]), image, *more)


def parsed_axes(line: str, image: str) -> dict[str, str]:
    """`--axes`: tensor → its axes in their order.

    Args:
        line: `nhwc` of the image alone, or `tensor=axes`, several with commas; n batch, c channels.
        image: name of the image's input.

    Raises:
        Refused: a word is something else.
    """
    given = {}
    for word in line.split(",") if line else ():
        name, equals, letters = word.rpartition("=")
        if letters not in ("nchw", "nhwc", "nct", "ntc") or (equals and not name):
            raise Refused(
                f"--axes {word}: expected nchw or nhwc for the image, TENSOR=nchw or =nhwc for a map, and =nct or =ntc "
                "for tokens (n batch, c channels, h height, w width, t tokens); several with commas"
            )
        given[name or image] = letters
    return given


def channels_of(model: Any, file: OnnxFile, size: int) -> dict[str, int | None]:
    """Each tensor that the image decides → the axis of its channels; None where nothing says it.

    Args:
        model: of the file, see `extract.network.onnx_graph.load`. It is used up.
        file: its description.
        size: side of the image, pixels.

    Raises:
        Refused: `--axes` contradicts the graph, or names a tensor that the graph lacks.
    """
    sides = (file.batch or SOME, *((size, size, 3) if file.is_nhwc else (3, size, size)))
    sized = with_shapes(sketch(model), {file.image.name: sides})
    beyond = depending(sized.graph, {tensor.name for tensor in file.inputs} - {file.image.name})
    axes = channel_axes(sized, file.image.name, 3 if file.is_nhwc else 1)
    found = {name: axis for name, axis in axes.items() if name not in beyond}
    for name, letters in file.axes.items():
        if name not in found:
            raise Refused(f"--axes {name}={letters}: {file.path} has no tensor of that name which its image decides")
        if found[name] not in (None, letters.index("c")):
            raise Refused(f"--axes {name}={letters}: the graph of {file.path} says that axis {found[name]} is channels")
        found[name] = letters.index("c")
    return found


def _described(path: Path) -> dict[str, Any]:
    """All of a description that its own bytes decide, as JSON can hold it.

    Raises:
        Refused, Failed: see `read_onnx`.
    """
    try:
        return _facts(path, load(path))
    except (Refused, Failed):
        raise
    except Exception as error:  # what a damaged message holds is of any kind
        reason = " ".join(str(error).split())[:200]
        raise Failed(f"{path} is damaged: {reason or type(error).__name__}") from None


def _facts(path: Path, model: Any) -> dict[str, Any]:
    external = locations(model)
    model = sketch(model)
    graph = model.graph
    valued = {each.name for each in graph.initializer} | {each.values.name for each in graph.sparse_initializer}
    inputs, outputs = (list(map(_read, each)) for each in (graph.input, graph.output))
    inputs = [tensor for tensor in inputs if tensor.name not in valued]
    image = _image_of(path, inputs)
    others = depending(graph, {tensor.name for tensor in inputs} - {image.name})
    of_image = [tensor.name for tensor in outputs if tensor.name not in others]
    if not of_image:
        told = ", ".join(tensor.name for tensor in inputs)
        raise Refused(f"{path} needs more than an image for each of its outputs: {told}")
    sides = [image.shape[0] or SOME, *(side or 0 for side in image.shape[1:])]
    sized = with_shapes(model, {image.name: sides})
    axis, _ = channels_of_image(sized, image.name)
    if axis is not None:
        sides[axis] = sides[axis] or RGB
        sized = with_shapes(model, {image.name: sides})
    _, fits = channels_of_image(sized, image.name)
    last = {name: node.op_type for node in graph.node for name in node.output}
    return {
        "inputs": inputs,
        "outputs": outputs,
        "opsets": {each.domain: each.version for each in model.opset_import},
        "external": external,
        "of_image": of_image,
        "image": image.name,
        "channels": [axis, fits],
        "probabilities": last.get(of_image[0]) in ("Softmax", "LogSoftmax"),
        "quantised": quantised(sized, depending(graph, {image.name}) - others),
    }


def _read(value: Any) -> Tensor:
    """A ValueInfoProto; a side of zero or less is free, as some exporters write it."""
    kind = value.type.tensor_type
    return Tensor(
        value.name, kind.elem_type, tuple(dim.dim_value if dim.dim_value > 0 else None for dim in kind.shape.dim)
    )


def _image_of(path: Path, inputs: list[Tensor]) -> Tensor:
    """The one input that takes images."""
    images = [tensor for tensor in inputs if len(tensor.shape) == 4]
    if len(images) != 1:
        raise Refused(f"{path} takes {len(images) or 'no'} images: its inputs are {_told(inputs)}. One is expected")
    if images[0].type not in TYPES:
        raise Refused(f"{path} takes images of ONNX's type {images[0].type}: float32, float16 or uint8 is expected")
    return images[0]


def _square(path: Path, inputs: tuple[Tensor, ...], facts: Mapping[str, Any], letters: str) -> Tensor:
    """The image's input as (batch, side, side, 3) or (batch, 3, side, side): as the graph says, or `--axes`."""
    image = next(tensor for tensor in inputs if tensor.name == facts["image"])
    found, fits = facts["channels"]
    asked = letters.index("c") if letters else None
    axis: int | None = asked if found is None else found
    if axis is None:
        raise Refused(
            f"{path} does not say which axis of its image is channels: its inputs are {_told(inputs)}, and its first "
            "weights do not decide it. Say it: --axes nchw (channels first), or --axes nhwc (channels last)"
        )
    if asked not in (None, axis):
        raise Refused(f"--axes {letters}: the first weights of {path} sum over axis {axis} of its image, its channels")
    if axis not in (1, 3) or image.shape[axis] not in (None, RGB) or not fits:
        raise Refused(
            f"{path} does not take RGB images: its inputs are {_told(inputs)}, and its first weights take other "
            f"channels than 3 on axis {axis if axis in (1, 3) else '1 or 3'}"
        )
    sides = [side for i, side in enumerate(image.shape) if i not in (0, axis)]
    if len(set(sides)) > 1 and None not in sides:
        raise Refused(f"{path} takes images of {_shown(tuple(sides))}: a square is expected")
    batch, side = image.shape[0], next((side for side in sides if side), None)
    return image._replace(shape=(batch, RGB, side, side) if axis == 1 else (batch, side, side, RGB))


def _beside(path: Path, name: str) -> Path:
    """A file of weights in the model's folder, or, where the model is a link, in the folder that it leads to.

    A hub's cache keeps its files under their hashes in one folder, and links to them elsewhere.
    """
    file, folders = path.parent / name, (path.parent.resolve(), path.resolve().parent)
    within = not Path(name).is_absolute() and ".." not in Path(name).parts
    if not name or not within or not any(file.resolve().is_relative_to(folder) for folder in folders):
        raise Refused(f"{path} names weights outside of its folder ({name!r}): nothing there is read")
    if not file.is_file():
        raise Failed(f"{path} has weights in a file of their own, and {file} is not there")
    return file


def _told(inputs: list[Tensor] | tuple[Tensor, ...]) -> str:
    return "; ".join(f"{tensor.name} {_shown(tensor.shape)}" for tensor in inputs) or "none"


def _shown(shape: tuple[int | None, ...]) -> str:
    return "×".join("?" if side is None else str(side) for side in shape)
