"""How a model file wants its images: which part of each, how large, and on which scale.

It is read from `preprocessor_config.json`, which model hubs publish beside a model, or from a line given by hand. What
is not understood is refused: a network that sees other pixels than it was trained on gives rows that look right.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from extract.images.decode import FILTERS
from features import Refused
from features.runtime.errors import nearest

SIDE = 224  # of presets, where the file fixes none
Three = tuple[float, float, float]


class Values(NamedTuple):
    """RGB 0–255 → (value · scale − mean) / std of each channel.

    Attributes:
        order: of the channels, `rgb` or `bgr`; mean and std are in it.
        scale: 1/255, or 1 where mean and std are on the scale of 0–255.
        mean, std: of each channel.
    """

    order: str
    scale: float
    mean: Three
    std: Three

    @classmethod
    def of(cls, recorded: str) -> Self:
        """Values as a stack records them, as `str` gives them."""
        order, *settings = recorded.split()
        told = dict(word.split("=") for word in settings)
        mean, std = (_three(name, told[name]) for name in ("mean", "std"))
        return cls(order, float(told["scale"]), mean, std)

    def __str__(self) -> str:
        mean, std = (",".join(map(repr, each)) for each in (self.mean, self.std))
        return f"{self.order} scale={self.scale!r} mean={mean} std={std}"


class Preprocessing(NamedTuple):
    """What is done to an image before a network sees it.

    Attributes:
        values: what becomes of each pixel.
        size: side of the square that the network sees, pixels; None where that is left to the network.
        resize: how an image becomes that square: `squash`, or see `extract.images.decode.resized_first`.
        filter: a name in `FILTERS`.
    """

    values: Values
    size: int | None
    resize: str
    filter: str

    @classmethod
    def parsed(cls, line: str, side: int | None) -> Self:
        """`--preprocess`: a preset's name, settings such as `mean=0.5 std=0.5 size=256 crop=224`, or both.

        Args:
            line: settings are mean and std (one number, or three with commas), scale, order, size, crop and filter.
                With crop, the shortest edge becomes `size` and the middle is taken; else all is squashed to `size`.
            side: of the network's input, where it is fixed.

        Raises:
            Refused: a setting or a preset is unknown, or is no number.
        """
        words = line.split()
        settings: dict[str, str] = {}
        if words and "=" not in words[0]:
            name = words.pop(0)
            if name not in PRESETS:
                raise Refused(f"no preprocessing is called {name!r}.{nearest(name, list(PRESETS))} {presets()}")
            settings |= PRESETS[name](side or SIDE)
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or name not in ("mean", "std", "scale", "order", "size", "crop", "filter"):
                raise Refused(f"--preprocess: {word!r} is no setting. {presets()}")
            settings[name] = value
        if missing := {"mean", "std"} - settings.keys():
            raise Refused(f"--preprocess: {' and '.join(sorted(missing))} is missing. {presets()}")
        order, filter = settings.get("order", "rgb"), settings.get("filter", "bilinear")
        if order not in ("rgb", "bgr") or filter not in FILTERS:
            raise Refused(f"--preprocess: order is rgb or bgr, and filter one of {', '.join(FILTERS)}")
        scale = _numbers("scale", settings.get("scale", repr(1 / 255)), 1)[0]
        values = Values(order, scale, _three("mean", settings["mean"]), _three("std", settings["std"]))
        sides = {name: int(_numbers(name, settings[name], 1)[0]) for name in ("size", "crop") if name in settings}
        resize = "squash"
        if "crop" in sides:
            resize = _cropped("edge", sides.get("size", sides["crop"]), sides["crop"])
        return cls(values, sides.get("crop", sides.get("size")), resize, filter)

    @classmethod
    def of_config(cls, file: Path) -> Self:
        """A `preprocessor_config.json`, as Hugging Face's image processors write it.

        Raises:
            Refused: it holds something that changes pixels and is not known here.
        """
        try:
            told = json.loads(file.read_text("utf-8"))
            told = dict(told)
        except (OSError, ValueError, TypeError) as error:
            raise Refused(f"{file} is not a JSON object ({error}). Give --preprocess instead. {presets()}") from None
        return cls(*_Config(file, told).read())


class _Config:
    """The keys of one `preprocessor_config.json`."""

    def __init__(self, file: Path, told: Mapping[str, Any]) -> None:
        self._file, self._told = file, told
        self._kind = str(told.get("image_processor_type") or told.get("feature_extractor_type") or "")

    def read(self) -> tuple[Values, int, str, str]:
        """The parts of a `Preprocessing`."""
        told = self._told
        if unknown := sorted(name for name in told.keys() - KNOWN - IGNORED if told[name] not in (None, False)):
            raise self._refused(f"{', '.join(f'{name}: {told[name]!r}' for name in unknown)} is not known here")
        if not told.get("do_resize", True):
            raise self._refused("do_resize is false, and images of all sizes are given")
        scale = float(told.get("rescale_factor", 1 / 255)) if told.get("do_rescale", True) else 1.0
        mean, std = (0.0,) * 3, (1.0,) * 3
        if told.get("do_normalize", True):
            if not told.get("image_mean") or not told.get("image_std"):
                raise self._refused("do_normalize is true, and image_mean or image_std is missing")
            mean, std = (self._three(name) for name in ("image_mean", "image_std"))
        order = "bgr" if told.get("do_flip_channel_order") else "rgb"
        return (Values(order, scale, mean, std), *self._geometry(), self._filter())

    def _geometry(self) -> tuple[int, str]:
        """Side of the network's input, and how an image becomes that square."""
        told, size = self._told, self._told.get("size")
        crop = None
        if told.get("do_center_crop", "crop_size" in told):
            crop = self._square("crop_size", told.get("crop_size"))
        if isinstance(size, int):
            if not re.match("CLIP|Chinese|ViT|DeiT|BEiT|Beit|Siglip|SigLIP", self._kind):
                raise self._refused(f"size is {size}, and {self._kind or 'no type'} does not say of which edge")
            size = {"shortest_edge": size} if "CLIP" in self._kind else {"height": size, "width": size}
        if isinstance(size, dict) and set(size) == {"shortest_edge"}:
            edge = int(size["shortest_edge"])
            if self._kind.startswith("ConvNext"):  # below 384 px it resizes to more and takes the middle
                share = told.get("crop_pct") or 224 / 256
                return (edge, "squash") if edge >= 384 else (edge, _cropped("edge", int(edge / share), edge))
            if told.get("crop_pct"):
                raise self._refused(f"crop_pct: {told['crop_pct']!r} is not known of {self._kind}")
            if crop is None:
                raise self._refused("the shortest edge is resized and nothing cropped, so that images are no squares")
            return crop, _cropped("edge", edge, crop)
        side = self._square("size", size)
        return (side, "squash") if crop in (None, side) else (crop, _cropped("squash", side, crop))

    def _square(self, name: str, size: Any) -> int:
        if isinstance(size, int):
            return size
        if isinstance(size, dict) and set(size) == {"height", "width"} and size["height"] == size["width"]:
            return int(size["height"])
        raise self._refused(f"{name} is {size!r}, and a square is expected")

    def _three(self, name: str) -> Three:
        values = self._told[name]
        if not isinstance(values, list) or len(values) != 3:
            raise self._refused(f"{name} is {values!r}, and three numbers are expected")
        return float(values[0]), float(values[1]), float(values[2])

    def _filter(self) -> str:
        resample = self._told.get("resample", 2)
        names = {1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}  # Pillow's numbers
        if resample not in names:
            raise self._refused(f"resample is {resample!r}, and Pillow's 1, 2, 3 or 4 are expected")
        return names[resample]

    def _refused(self, why: str) -> Refused:
        return Refused(f"{self._file}: {why}. Give --preprocess instead. {presets()}")


# Keys of `preprocessor_config.json` that are read, and those that change no pixel of a square RGB image.
KNOWN = {
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "crop_pct", "do_rescale", "rescale_factor"),
    *("do_normalize", "image_mean", "image_std", "do_flip_channel_order"),
}
IGNORED = {
    *("image_processor_type", "feature_extractor_type", "processor_class", "do_convert_rgb", "data_format"),
    *("input_data_format", "device", "return_tensors", "default_to_square", "disable_grouping", "model_input_names"),
    *("_processor_class", "_valid_processor_keys", "auto_map", "num_channels"),
}


def _edge(mean: str, std: str, filter: str, share: float) -> Any:
    return lambda side: {
        **{"mean": mean, "std": std, "filter": filter},
        **{"size": str(round(side / share)), "crop": str(side)},
    }


def _squashed(mean: str, std: str, filter: str = "bilinear", **more: str) -> Any:
    return lambda side: {"mean": mean, "std": std, "filter": filter, "size": str(side), **more}


# Name → side of the network's input → settings; as each family was trained.
PRESETS = {
    "imagenet": _edge("0.485,0.456,0.406", "0.229,0.224,0.225", "bilinear", 224 / 256),
    "clip": _edge("0.48145466,0.4578275,0.40821073", "0.26862954,0.26130258,0.27577711", "bicubic", 1),
    "siglip": _squashed("0.5", "0.5", "bicubic"),
    "tf": _squashed("0.5", "0.5"),
    "caffe": _squashed("103.939,116.779,123.68", "1", scale="1", order="bgr"),
    "none": _squashed("0", "1", scale="1"),
}


def presets() -> str:
    """What `--preprocess` takes, as the end of a message."""
    return f"There are {', '.join(PRESETS)}, or mean=… std=… size=… crop=… filter=… scale=… order=…"


def _cropped(kind: str, size: int, crop: int) -> str:
    if crop > size:
        raise Refused(f"preprocessing: a middle of {crop} px is cropped from {size} px")
    return f"{kind}{size}"


def _three(name: str, text: str) -> Three:
    values = _numbers(name, text, 1, 3)
    return (values[0],) * 3 if len(values) == 1 else (values[0], values[1], values[2])


def _numbers(name: str, text: str, *counts: int) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts or not all(map(math.isfinite, values)) or (name != "mean" and min(values) <= 0):
        raise Refused(f"--preprocess: {name}={text} – {' or '.join(map(str, counts))} positive numbers are expected")
    return values
