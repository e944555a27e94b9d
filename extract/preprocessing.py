"""How a model file wants its images: which part of each, how large, and on which scale.

It is read from `preprocessor_config.json`, which model hubs publish beside a model, or from a line given by hand. What
is not understood is refused: a network that sees other pixels than it was trained on gives rows that look right.
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple, Self

from extract.images.decode import FILTERS
from extract.processors import MOST_SIDE, NotKnown, Three, steps
from features import Refused
from features.runtime.errors import check_readable, nearest

SIDE = 224  # of presets, where the file fixes none


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
        size, crop = (_side(name, settings[name]) if name in settings else None for name in ("size", "crop"))
        if crop is None:
            return cls(values, size, "squash", filter)
        if size and crop > size:
            raise Refused(f"--preprocess: a middle of {crop} px is cropped from {size} px")
        return cls(values, crop, f"edge{size or crop}", filter)

    @classmethod
    def of_config(cls, file: Path) -> Self:
        """A `preprocessor_config.json`, as Hugging Face's image processors write it.

        Transformers 5 writes a `processor_config.json` for models of images and texts, with the same inside it.

        Raises:
            Refused: it holds something that changes pixels and is not known here.
            Failed: the system does not let the file be read.
        """
        try:
            told = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            check_readable(file, error)
            raise Refused(f"{file} is no JSON file ({error}). Give --preprocess instead. {presets()}") from None
        told = told.get("image_processor", told) if isinstance(told, dict) else told
        if not isinstance(told, dict):
            raise Refused(f"{file} holds no JSON object. Give --preprocess instead. {presets()}")
        try:
            asked = steps(told)
        except NotKnown as error:
            raise Refused(f"{file}: {error}. Give --preprocess instead. {presets()}") from None
        return cls(Values(*asked[:4]), *asked[4:])


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


def _side(name: str, text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:9]) <= MOST_SIDE:
        raise Refused(f"--preprocess: {name}={text} – a whole number of 1 to {MOST_SIDE} pixels is expected")
    return int(text)


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
