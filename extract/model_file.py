"""A backbone that is a file: ONNX, or Keras's own format."""

import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from extract.network.keras_file import read_keras
from extract.network.onnx_file import OnnxFile, read_onnx
from extract.preprocessing import Preprocessing, presets
from features import Refused
from features.open import STACKS
from features.runtime.log import log

ENDINGS = (".onnx", ".keras")
IN_FOLDER = (  # as model hubs lay them out; of models of images and texts, the half that sees
    *("vision_model.onnx", "onnx/vision_model.onnx", "model.onnx", "onnx/model.onnx", "model.keras"),
)
CONFIG, NESTED = "preprocessor_config.json", "processor_config.json"  # the second by Transformers 5
GENERIC = ("model", "onnx", "")  # names that say nothing
PREFERRED = ("image_embeds",)  # the output of models of images and texts that their makers compare
QUANTISED = "quantised"  # the precision that a stack of such a file records
CLASSES = (1000, 1001, 21841, 21843)  # of ImageNet


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """A frozen network in a file, and how it wants its images. It stands where a `Backbone` does.

    Attributes:
        file: the `.onnx` or `.keras` file.
        name: what a stack records: the folder's or the file's, with the ending.
        preprocessing: `extract.preprocessing.Values` as text.
        size: side of its square input unless another is asked for, pixels.
        resize, filter: how an image becomes that square, see `Preprocessing`.
        layer: its output, unless another tensor is asked for.
        axes: what an ONNX file's graph does not say of its tensors; see `extract.network.onnx_file.parsed_axes`.
        is_quantised: whether it computes with numbers of at most eight bits.
    """

    file: Path
    name: str
    preprocessing: str
    size: int
    resize: str
    filter: str
    layer: str
    axes: str = ""
    is_quantised: bool = False

    @classmethod
    def at(cls, path: Path, preprocess: str | None, size: int | None, axes: str | None = None) -> Self:
        """The model at a path: a file, or a folder in the layout of model hubs.

        Args:
            path: of the file or folder.
            preprocess: see `Preprocessing.parsed`; None for the folder's own description.
            size: side of the square input; None for what the file or its description says.
            axes: see above.

        Raises:
            Refused, Failed: there is none, it cannot be taken (`read_onnx`), or nothing says how it wants its images.
        """
        file = found(path).absolute()  # workers of a cluster have other folders
        if axes and file.suffix != ".onnx":
            raise Refused(f"--axes {axes}: it is for ONNX files, and {file} is none")
        inside = read_onnx(file, axes or "") if file.suffix == ".onnx" else read_keras(file)
        said = _preprocessing(file, preprocess, size or inside.side)
        if size and said.size and size != said.size and said.resize != "squash":
            raise Refused(
                f"--size {size}: its preprocessing crops to {said.size} px; give --preprocess with crop={size}"
            )
        own = said.size or inside.side or size
        if own is None:
            raise Refused(f"{file} takes images of any size: give --size, or size=… in --preprocess")
        if inside.side not in (None, size or own):
            raise Refused(f"{file} takes images of {inside.side} px, and {size or own} px are asked for")
        made = cls(file, _name(file), str(said.values), own, said.resize, said.filter, "")
        if not isinstance(inside, OnnxFile):
            return dataclasses.replace(made, layer=inside.layer)
        if inside.quantised:
            log.warning(f"{file} is quantised ({', '.join(inside.quantised)}): so are its rows, and the stack says so")
        is_quantised = bool(inside.quantised)
        return dataclasses.replace(made, layer=default_layer(inside), axes=axes or "", is_quantised=is_quantised)

    @classmethod
    def recorded(cls, attrs: Mapping[str, Any], file: Path) -> Self:
        """The model that a stack with these root attributes was made by, and where its file is now."""
        made = (attrs[name] for name in ("backbone", "preprocessing", "input_size", "resize", "resize_filter", "layer"))
        more = {"axes": attrs.get("tensor_axes", ""), "is_quantised": attrs["precision"] == QUANTISED}
        return cls(file, *made, **more)

    @property
    def is_onnx(self) -> bool:
        """Whether Keras has no part in it."""
        return self.file.suffix == ".onnx"

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the file, and of weights beside it; see `OnnxFile.sha256`."""
        return read_onnx(self.file, self.axes).sha256 if self.is_onnx else read_keras(self.file).sha256

    @property
    def weights(self) -> str:
        """The file: a network in a file has no other weights."""
        return str(self.file)

    def layer_at(self, size: int) -> str:
        """Its layer unless another is asked for."""
        return self.layer


def saved_model(backbone: Any) -> str:
    """A backbone's name, or the path of its file. A Keras model is saved for that; the file is named by its hash."""
    if isinstance(backbone, str | os.PathLike):
        return os.fspath(backbone)
    digest = hashlib.sha256(backbone.to_json().encode())
    for array in backbone.get_weights():
        digest.update(array.tobytes())
    file = STACKS / f"{backbone.name}-{digest.hexdigest()[:12]}.keras"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        whole = file.with_name(f"{os.getpid()}-{file.name}")
        backbone.save(whole)
        whole.replace(file)
    return str(file)


def is_model_file(backbone: str) -> bool:
    """Whether a backbone's name is that of a file or a folder, or of a stack that such a one made."""
    return backbone.endswith(ENDINGS) or "/" in backbone or Path(backbone).is_dir()


def default_layer(onnx: OnnxFile) -> str:
    """The first output that the image alone decides, or the one that texts are compared with."""
    layer = next((name for name in PREFERRED if name in onnx.of_image), onnx.of_image[0])
    shape = next(tensor.shape for tensor in onnx.outputs if tensor.name == layer)
    if onnx.probabilities or "logits" in layer or (len(shape) == 2 and shape[1] in CLASSES):
        count = f" over {shape[-1]:,} classes" if shape and shape[-1] else ""
        log.warning(
            f"{layer} looks like logits{count}, not features: python -m extract --layers {onnx.path} lists others"
        )
    elif len(onnx.of_image) > 1:
        log.info(f"layer: {layer}, of the outputs {', '.join(onnx.of_image)}; --layer takes any of them")
    return layer


def found(path: Path) -> Path:
    """The file of a model at a path: itself, or what a folder holds.

    Raises:
        Refused: there is none.
    """
    if path.is_file() and path.suffix in ENDINGS:
        return path
    inside = [path / name for name in IN_FOLDER if (path / name).is_file()]
    if inside:
        return inside[0]
    if path.is_dir():
        raise Refused(f"{path} holds no model: {', '.join(IN_FOLDER)} are looked for")
    if path.exists():
        raise Refused(
            f"{path} is no model: a file that ends in {' or '.join(ENDINGS)} is expected, or a folder with one"
        )
    raise Refused(f"there is no model at {path}")


def described(file: Path) -> Preprocessing | None:
    """What a description beside a model says, or in the folder above it; None where there is none."""
    folders = (file.parent, file.parent.parent) if file.parent.name == "onnx" else (file.parent,)
    files = (folder / name for name in (CONFIG, NESTED) for folder in folders)
    config = next((each for each in files if each.is_file()), None)
    return Preprocessing.of_config(config) if config else None


def _preprocessing(file: Path, given: str | None, side: int | None) -> Preprocessing:
    """As given; else as described."""
    if given:
        return Preprocessing.parsed(given, side)
    if said := described(file):
        return said
    raise Refused(
        f"nothing says how {file} wants its images: there is no {CONFIG} beside it. Give --preprocess. {presets()}"
    )


def _name(file: Path) -> str:
    """The first of the file's and its folders' names that says something, with the file's ending."""
    whole = file.absolute()  # not what a link points to: hubs keep files under their hash
    names = (whole.stem, whole.parent.name, whole.parent.parent.name)
    name = next((each for each in names if each not in GENERIC), "model")
    return re.sub(r"[^\w.-]+", "-", name) + file.suffix
