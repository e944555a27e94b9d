"""Hugging Face's image processors: what each class does to an image.

A description (`preprocessor_config.json`) names its class, and often says only what differs from it. So a row of
`PROCESSORS` is a class: all the keys that it reads, with its defaults, and a rule for its geometry. Tests compare each
row with the class itself. What a class does not read changes no pixel in Transformers, and none here.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

Three = tuple[float, float, float]
Square = tuple[int, str]  # side of the network's input, and `Preprocessing.resize`
FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers, as `resample` has them
NEAREST, LANCZOS, BILINEAR, BICUBIC = range(4)
EDGE = "shortest_edge"
MOST_SIDE = 4096  # pixels
LEAST, MOST = 1e-6, 1e6  # of a factor; a mean is no further than that from 0

# Keys of all classes that change no pixel of an image in RGB: names and types, labels, masks, texts, and settings of
# padding and of tiles, which have a switch of their own.
IGNORED = re.compile(
    r"image_processor_type|feature_extractor_type|_?processor_class|_valid_processor_keys|auto_map|model_input_names|"
    r"do_convert_rgb|num_channels|data_format|input_data_format|device|return_tensors|default_to_square|"
    r"disable_grouping|(do_)?reduce_labels|num_labels|ignore_index|format|do_convert_annotations|prompt_scale_to_meter|"
    r"return_codebook_pixels|codebook_\w+|return_image_mask|mask_group_\w+|total_mask_patches|input_size_patches|"
    r"apply_ocr|ocr_lang|tesseract_config|size_divisor|(min|max)_patches|use_covering_area_grid|pan_and_scan_\w+"
)
NULL = ("size", "crop_size", "image_mean", "image_std")  # where it says null, a class takes its default


class NotKnown(ValueError):
    """A description says what no row can do: the key, its value, and what is expected."""

    def __init__(self, key: str, value: Any, why: str) -> None:
        name = _short(key).strip("'") if key.isidentifier() else _short(key)
        super().__init__(f"{name} is {_short(value)}, {why}")


class Steps(NamedTuple):
    """What is done to an image; see `extract.preprocessing.Values` and `Preprocessing`."""

    order: str
    scale: float
    mean: Three
    std: Three
    side: int
    resize: str
    filter: str


class Processor(NamedTuple):
    """One class.

    Attributes:
        square: its geometry.
        defaults: the keys that it reads, as it has them where a description does not say.
    """

    square: Callable[["Told"], Square]
    defaults: Mapping[str, Any]


class Told:
    """What a description says, over the defaults of its class. Its methods raise `NotKnown`."""

    def __init__(self, row: Processor, told: Mapping[str, Any]) -> None:
        self.defaults = row.defaults
        said = {key: value for key, value in told.items() if value is not None or key not in NULL}
        self._told = {**row.defaults, **said}

    def __getitem__(self, key: str) -> Any:
        return self._told[key]

    def flag(self, key: str) -> bool:
        """A switch; off where the class has none."""
        value, default = self._told.get(key, False), self.defaults.get(key, False)
        if not isinstance(value, bool) and (default or value is not None):
            raise NotKnown(key, value, "expected true or false")
        return bool(value)

    def number(self, key: str) -> float:
        """A factor."""
        if not _is_number(self[key], LEAST):
            raise NotKnown(key, self[key], f"expected a number from {LEAST:g} to {MOST:g}")
        return float(self[key])

    def three(self, key: str, least: float = LEAST) -> Three:
        """Of the channels; one number is that of all."""
        values = self[key] if isinstance(self[key], list) else [self[key]] * 3
        if len(values) != 3 or not all(_is_number(value, least) for value in values):
            raise NotKnown(key, self[key], f"expected one number or three, from {least:g} to {MOST:g}")
        return _three(map(float, values))

    def side(self, key: str, expected: str = "a square") -> int:
        """Of a square: one number, [height, width], or both by name."""
        size = self[key]
        if isinstance(size, dict) and size.keys() == {"height", "width"}:
            size = [size["height"], size["width"]]
        sides = size if isinstance(size, list) else [size, size]
        if len(sides) != 2 or not all(map(_is_side, sides)) or sides[0] != sides[1]:
            raise NotKnown(key, self[key], f"expected {expected} of 1 to {MOST_SIDE} px")
        return int(sides[0])

    def size(self) -> tuple[str, int]:
        """`edge` and the shortest edge, or `squash` and both sides. One number is what the class's default is."""
        if isinstance(self.defaults["size"], int):
            return "squash", self.side("size")
        size = {EDGE: self["size"]} if isinstance(self["size"], int) else self["size"]
        if isinstance(size, dict) and size.keys() == {EDGE} and _is_side(size[EDGE]):
            return "edge", size[EDGE]
        return "squash", self.side("size", f"a {EDGE} or a square")

    def cropped(self, kind: str, side: int, crop: int | None = None) -> Square:
        """An image resized as `size` gives it, then its middle, where one is cropped. What that lacks is black."""
        if not _is_side(side):
            raise NotKnown("size", self["size"], f"expected an image that is resized to 1 to {MOST_SIDE} px")
        if crop is None and self.flag("do_center_crop"):
            crop = self.side("crop_size")
        if kind == "squash" and crop in (None, side):
            return side, "squash"
        if crop is None:
            raise NotKnown("size", self["size"], "expected a square, since nothing is cropped")
        return crop, f"{kind}{side}"


def plain(told: Told) -> Square:
    """As most classes do."""
    return told.cropped(*told.size())


def dpt(told: Told) -> Square:
    """Sides are rounded to a multiple."""
    kind, side = told.size()
    if side % told.side("ensure_multiple_of", "a multiple"):
        raise NotKnown("size", told["size"], f"expected a multiple of {told['ensure_multiple_of']} px")
    return told.cropped(kind, side)


def fixed(*keys: str) -> Callable[[Told], Square]:
    """Of keys that only some classes of one name read, in Transformers' versions, just the default is sure."""

    def square(told: Told) -> Square:
        for key in keys:
            if told[key] != told.defaults[key]:
                raise NotKnown(key, told[key], f"expected {told.defaults[key]}")
        return plain(told)

    return square


def levit(told: Told) -> Square:
    """Its shortest edge is that of the middle, in ImageNet's proportion."""
    kind, side = told.size()
    return told.cropped(kind, int(256 / 224 * side) if kind == "edge" else side)


def poolformer(told: Told) -> Square:
    """`crop_pct` of the shortest edge is as long as the size says; null resizes to the size itself."""
    kind, side = told.size()
    if told["crop_pct"] is None:
        return told.cropped(kind, side)
    return told.cropped("edge", int(side / told.number("crop_pct")))


def convnext(told: Told) -> Square:
    """From 384 pixels on all of the image; below, the middle `crop_pct`."""
    kind, side = told.size()
    if kind == "squash":
        raise NotKnown("size", told["size"], f"expected a {EDGE}")
    if side >= 384:
        return told.cropped("squash", side)
    share = 224 / 256 if told["crop_pct"] is None else told.number("crop_pct")
    return told.cropped("edge", int(side / share), crop=side)


def perceiver(told: Told) -> Square:
    """The middle is cropped first, as large a part of the shortest edge as the size is of the crop."""
    side = told.side("size")
    share = side / told.side("crop_size") if told.flag("do_center_crop") else None
    return side, "squash" if share is None else "crop" if share == 1 else f"crop{share!r}"


HALF = [0.5] * 3, [0.5] * 3
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CLIP = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
COLOURLESS = [1.0] * 3, [1.0] * 3


def _row(
    size: int | dict[str, int],
    colours: tuple[list[float], list[float]] | None,
    resample: int,
    square: Callable[[Told], Square] = plain,
    **more: Any,
) -> Processor:
    """A class that resizes, scales to 0–1, subtracts and divides by `colours`, and crops where it has a `crop_size`."""
    defaults: dict[str, Any] = {"do_resize": True, "size": size, "resample": resample, "do_rescale": True}
    defaults |= {"rescale_factor": 1 / 255}
    if colours:
        defaults |= {"do_normalize": True, "image_mean": colours[0], "image_std": colours[1]}
    if "crop_size" in more:
        defaults |= {"do_center_crop": True}
    return Processor(square, defaults | more)


# Class without `ImageProcessor` → row, as Transformers 4.57 has them; those for PyTorch (`Fast`) have a row where their
# defaults differ. Tests hold the list of all other classes, and why each is none of these.
PROCESSORS = {
    "Beit": _row(256, HALF, BICUBIC, crop_size=224),
    "BeitFast": _row(224, HALF, BICUBIC, crop_size=224, do_center_crop=False),
    "Bit": _row({EDGE: 224}, CLIP, BICUBIC, crop_size=224),
    "Blip": _row(384, CLIP, BICUBIC),
    "CLIP": _row({EDGE: 224}, CLIP, BICUBIC, crop_size=224),
    "Chameleon": _row({EDGE: 512}, COLOURLESS, LANCZOS, crop_size=512, rescale_factor=0.0078),
    "ChineseCLIP": _row({EDGE: 224}, CLIP, BICUBIC, crop_size=224),
    "ConvNext": _row({EDGE: 384}, HALF, BILINEAR, convnext, crop_pct=None),
    "DINOv3ViT": _row(224, IMAGENET, BILINEAR),
    "DPT": _row(384, HALF, BICUBIC, dpt, ensure_multiple_of=1),
    "DeiT": _row(256, HALF, BICUBIC, crop_size=224),
    "EfficientFormer": _row(224, IMAGENET, BICUBIC, crop_size=224),
    "EfficientNet": _row(
        346, HALF, NEAREST, crop_size=289, do_center_crop=False, rescale_offset=False, include_top=True
    ),
    "Flava": _row(224, CLIP, BICUBIC, crop_size=224),
    "Gemma3": _row(224, HALF, BILINEAR),
    "GotOcr2": _row(384, CLIP, BICUBIC),
    "LayoutLMv2": _row(
        224, None, BILINEAR, fixed("do_rescale", "do_flip_channel_order"), do_rescale=False, do_flip_channel_order=True
    ),
    "LayoutLMv3": _row(224, HALF, BILINEAR, fixed("rescale_factor")),
    "Levit": _row({EDGE: 224}, IMAGENET, BICUBIC, levit, crop_size=224),
    "Llava": _row({EDGE: 224}, CLIP, BICUBIC, crop_size=224),
    "MobileNetV1": _row({EDGE: 256}, HALF, BILINEAR, crop_size=224),
    "MobileNetV2": _row({EDGE: 256}, HALF, BILINEAR, crop_size=224),
    "MobileViT": _row({EDGE: 224}, None, BILINEAR, crop_size=256, do_flip_channel_order=True),
    "Ovis2": _row(384, CLIP, BICUBIC),
    "OwlViT": _row(768, CLIP, BICUBIC, crop_size=768, do_center_crop=False),
    "Perceiver": _row(224, IMAGENET, BICUBIC, perceiver, crop_size=256),
    "PoolFormer": _row({EDGE: 224}, IMAGENET, BICUBIC, poolformer, crop_size=224, crop_pct=0.9),
    "PromptDepthAnything": _row(384, HALF, BICUBIC, dpt, ensure_multiple_of=1),
    "Pvt": _row(224, IMAGENET, BILINEAR),
    "RTDetr": _row(640, IMAGENET, BILINEAR, do_normalize=False),
    "SegGpt": _row(448, IMAGENET, BICUBIC),
    "Segformer": _row(512, IMAGENET, BILINEAR),
    "Siglip": _row(224, HALF, BICUBIC),
    "ViT": _row(224, HALF, BILINEAR),
    "ViTHybrid": _row({EDGE: 224}, CLIP, BICUBIC, crop_size=224),
    "VideoLlava": _row({EDGE: 224}, CLIP, BICUBIC, crop_size=224),
}
SETTINGS = {key for row in PROCESSORS.values() for key, value in row.defaults.items() if not isinstance(value, bool)}


def steps(told: Mapping[str, Any]) -> Steps:
    """What a description asks for.

    Args:
        told: the JSON object.

    Raises:
        NotKnown: its class makes no square, or is none of `PROCESSORS`; or a value is none that its class can take.
    """
    name, row = _row_named(told)
    for key, value in told.items():
        # A setting that the class does not read does nothing without its switch, and the switch is refused.
        known = key in row.defaults or key in SETTINGS or IGNORED.fullmatch(key)
        if not known and value is not None and value is not False:
            raise NotKnown(key, value, f"which {name} does not read")
    here = Told(row, told)
    if not here.flag("do_resize"):
        raise NotKnown("do_resize", here["do_resize"], "expected true: images of all sizes are given")
    resample = here["resample"]
    if type(resample) is not int or not 0 <= resample < len(FILTERS):
        raise NotKnown("resample", resample, f"expected one of Pillow's 0 to {len(FILTERS) - 1}")
    order = "bgr" if here.flag("do_flip_channel_order") else "rgb"
    return Steps(order, *_values(here), *row.square(here), FILTERS[resample])


def _row_named(told: Mapping[str, Any]) -> tuple[str, Processor]:
    """The class that a description names, and its row; older ones name a feature extractor, which did the same."""
    key = "image_processor_type" if told.get("image_processor_type") else "feature_extractor_type"
    name = told.get(key)
    if not name:
        raise NotKnown("image_processor_type", name, "expected a class such as ViTImageProcessor")
    found = re.fullmatch(r"(\w+?)(?:ImageProcessor(Fast|Pil)?|FeatureExtractor)", str(name))
    kinds = (f"{found[1]}{found[2] or ''}", found[1]) if found else ()
    for kind in kinds:
        if kind in PROCESSORS:
            return str(name), PROCESSORS[kind]
    raise NotKnown(key, name, "expected a class that makes a square of any image by resizing and cropping")


def _values(told: Told) -> tuple[float, Three, Three]:
    """Scale, mean and deviation that do all that a class does to values."""
    scale, offset = 1.0, 0.0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if told.flag("do_rescale"):
        scale, offset = told.number("rescale_factor"), float(told.flag("rescale_offset"))
    if told.flag("do_normalize"):
        mean, std = told.three("image_mean", -MOST), told.three("image_std")
    if told.flag("include_top"):  # EfficientNet divides by it once more
        std = _three(each * again for each, again in zip(std, told.three("image_std"), strict=True))
    return scale, _three(each + offset for each in mean), std


def _three(values: Iterable[float]) -> Three:
    first, second, third = values
    return first, second, third


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_SIDE


def _is_number(value: Any, least: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= MOST


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
