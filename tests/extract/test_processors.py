"""Each row of the table of image processors against the class itself, as Transformers has it in NumPy and Pillow."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from extract import model_file
from extract.images.decode import FILTERS, framed, resized_first, squash
from extract.processors import EDGE, MOST_SIDE, PROCESSORS, NotKnown, Steps, steps

SIZES = ((137, 90), (90, 137), (64, 64), (300, 200), (31, 47))  # larger and smaller than most squares, odd and even
GENERATOR = np.random.default_rng(0)
IMAGES = [Image.fromarray(GENERATOR.integers(0, 256, (h, w, 3), "u1")) for w, h in SIZES]

# All classes that make no RGB square of any one image, or do not by resizing and cropping alone.
OTHERS = {
    "none of one image": "Auto Base Sequence TimmWrapper Eomt",
    "sound and pages": "AST Clap Clvp Dac Dia Encodec Gemma3nAudio GraniteSpeech KyutaiSpeechToText MCTCT MarkupLM "
    "MusicgenMelody Parakeet Pop2Piano SeamlessM4T Speech2Text SpeechT5 UnivNet Wav2Vec2 Whisper",
    "frames of films": "InstructBlipVideo LlavaNextVideo Tvlt Tvp VideoMAE Vivit",
    "keep proportions": "ConditionalDetr DeformableDetr Deta Detr Emu3 Fuyu GLPN GroundingDino Idefics2 Mask2Former "
    "MaskFormer OneFormer Pixtral Swin2SR TextNet Vilt VitMatte Yolos ZoeDepth",
    "tiles or patches": "Cohere2Vision Glm4v Idefics3 Kosmos2_5 Lfm2Vl Llama4 LlavaNext LlavaOnevision Mllama "
    "PerceptionLM Phi4Multimodal Pix2Struct Qwen2VL Siglip2 SmolVLM",
    "pad": "Aria BridgeTower DeepseekVL DeepseekVLHybrid Donut Janus Nougat Owlv2 Sam Sam2",
    "pairs, points, boxes and grey": "EfficientLoFTR LightGlue SuperGlue SuperPoint VitPose",
    "colours as tokens": "ImageGPT",
    "resize what is normalised already": "DepthPro",
    "have keys of their own": "Idefics",
}
# Descriptions that differ from a class's defaults, beside those that `described` makes of every class.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "Bit": [{"size": 80, "crop_size": [71, 71]}, {"size": {"height": 61, "width": 61}, "do_center_crop": False}],
    "CLIP": [
        {"size": 57, "crop_size": 41, "image_mean": 0.4, "image_std": 0.3},
        {"image_mean": None, "crop_size": None},
    ],
    "ConvNext": [
        {"size": 224, "crop_pct": 0.875},
        {"size": {EDGE: 57}, "crop_pct": 0.8},
        {"size": {EDGE: 57}, "crop_pct": 1.2},
        {"size": {EDGE: 57}, "crop_pct": None},
        {"size": {EDGE: 383}},
    ],
    "DPT": [{"size": 56, "ensure_multiple_of": 14}],
    "DeiT": [{"size": [60, 60], "crop_size": [64, 64]}],
    "EfficientNet": [
        {"size": 57, "rescale_offset": True, "rescale_factor": 1 / 127.5},
        {"size": 57, "include_top": False, "do_center_crop": True, "crop_size": 40},
        {"size": 57, "include_top": True, "do_normalize": False, "image_std": [0.3, 0.4, 0.5]},
        {"size": 57, "resample": 2, "image_std": [0.47853944, 0.4732864, 0.47434163]},
    ],
    "Levit": [{"size": 57, "crop_size": 41}, {"size": {"height": 70, "width": 70}}],
    "MobileViT": [{"size": 288, "crop_size": 256}, {"do_flip_channel_order": False, "image_mean": [0.1, 0.2, 0.3]}],
    "Perceiver": [
        {"size": 57, "crop_size": 64},
        {"size": 57, "crop_size": 57},
        {"size": 57, "crop_size": 40},
        {"size": 57, "do_center_crop": False},
    ],
    "PoolFormer": [
        {"size": 57, "crop_size": 41, "crop_pct": 0.95},
        {"size": 57, "crop_size": 41, "crop_pct": None},
        {"size": {"height": 57, "width": 57}, "crop_size": 57, "crop_pct": 0.8},
    ],
    "RTDetr": [{"do_normalize": True, "size": {"height": 57, "width": 57}}],
    "Siglip": [{"crop_size": 40, "size": {"height": 57, "width": 57}}],
    "ViT": [{"size": 57, "resample": number} for number in range(6)],
}
FAST = ("DINOv3ViT", "BeitFast")  # classes for PyTorch alone
HEIGHT = ("ChineseCLIP",)  # classes that fail on a shortest edge, their own default, in the version that is compared


@pytest.fixture(scope="module")
def transformers() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USE_TF", "0")  # else it imports TensorFlow, and for these classes to no end
        patch.setenv("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
        yield pytest.importorskip("transformers")


def described(name: str) -> Iterator[dict[str, Any]]:
    """Descriptions with other sizes, filters and values; those of `VARIANTS`; the class's name alone."""
    defaults = PROCESSORS[name].defaults
    sizes: list[dict[str, int]] = [] if name == "ConvNext" else [{"height": 57, "width": 57}]
    sizes += [{EDGE: 57}] if isinstance(defaults["size"], dict) and name not in HEIGHT else []
    crop = {"do_center_crop": True, "crop_size": {"height": 41, "width": 41}} if "crop_size" in defaults else {}
    for size in sizes:
        yield {"size": size, **crop, "do_rescale": False, "image_mean": [100, 110, 120], "image_std": [50, 60, 70]}
        factor = {} if name == "LayoutLMv3" else {"rescale_factor": 1 / 127.5}
        yield {"size": size, **crop, **factor, "do_normalize": False, "resample": 2}
    yield from VARIANTS.get(name, ())
    yield from () if name in HEIGHT else ({},)


def made(asked: Steps, image: Image.Image) -> np.ndarray:
    """(3, side, side) float64: what a network would see of an image, by the formula of FORMAT.md."""
    first = resized_first(image.size, asked.resize)
    pixels = squash(framed(image, asked.resize), asked.side, asked.filter, first).astype("f8")
    if asked.order == "bgr":
        pixels = pixels[..., ::-1]
    return ((pixels * asked.scale - asked.mean) / asked.std).transpose(2, 0, 1)


@pytest.mark.parametrize("name", [name for name in PROCESSORS if name not in FAST])
def test_pixels_are_those_of_the_class(transformers: ModuleType, name: str) -> None:
    """Guards every row, its defaults and its rule: no pixel of any image differs by more than rounding."""
    kind = getattr(transformers, f"{name}ImageProcessor")
    for told in described(name):
        its = kind.from_dict(told | ({"apply_ocr": False} if "LayoutLM" in name else {}))
        asked = steps({"image_processor_type": kind.__name__, **told})
        for image in IMAGES if told else IMAGES[1::3]:  # few of the large squares that are the defaults
            given = its(image, return_tensors="np")
            expected = given.get("pixel_values", given.get("pixel_values_images"))[0]
            got = made(asked, image)
            assert got.shape == expected.shape, (told, image.size)
            assert np.abs(got - expected).max() <= 1e-4 * max(1, np.abs(expected).max()), (told, image.size)
    saved = json.loads(kind().to_json_string())
    assert steps(saved) == steps({"image_processor_type": kind.__name__}), saved


def test_a_class_that_resizes_scaled_pixels() -> None:
    """Guards DINOv3, whose class is for PyTorch alone: bilinear on floats, which Pillow's has the same formula for."""
    asked = steps({"image_processor_type": "DINOv3ViTImageProcessorFast", "size": {"height": 57, "width": 57}})
    for image in IMAGES:
        planes = [band.convert("F").resize((57, 57), FILTERS["bilinear"]) for band in image.split()]
        expected = (np.stack(planes) / 255 - np.reshape(asked.mean, (3, 1, 1))) / np.reshape(asked.std, (3, 1, 1))
        assert np.abs((made(asked, image) - expected) * np.reshape(asked.std, (3, 1, 1))).max() <= 1 / 255


def test_a_class_with_two_defaults() -> None:
    """Guards BEiT, whose class for PyTorch crops nothing unless told to."""
    asked = steps({"image_processor_type": "BeitImageProcessorFast"})
    assert asked == steps({"image_processor_type": "BeitImageProcessor", "size": 224, "do_center_crop": False})
    assert asked != steps({"image_processor_type": "BeitImageProcessor"})


def test_a_description_by_transformers_5(transformers: ModuleType, tmp_path: Path) -> None:
    """Guards models of images and texts: Transformers itself writes the image processor's settings inside another's."""
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 10}, crop_size=8, image_mean=[0.5, 0.4, 0.3])
    (tmp_path / "vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    texts = transformers.CLIPTokenizer(tmp_path / "vocab.json", tmp_path / "merges.txt")
    hub = tmp_path / "hub"
    network = hub / "onnx" / "model.onnx"
    transformers.CLIPProcessor(images, texts).save_pretrained(hub, legacy_serialization=False)
    assert not (hub / "preprocessor_config.json").exists()
    nested = model_file.described(network)
    assert nested and (nested.size, nested.resize, nested.values.mean) == (8, "edge10", (0.5, 0.4, 0.3))
    (hub / "processor_config.json").unlink()
    assert model_file.described(network) is None
    images.save_pretrained(hub)
    assert model_file.described(network) == nested


def test_every_class_is_a_row_or_has_a_reason(transformers: ModuleType) -> None:
    """Guards against classes that were overlooked: each that a description can name is a row, or refused by name."""
    name = re.compile(r"(\w+?)(ImageProcessor|ImageProcessorFast|FeatureExtractor)")
    found = [match for each in dir(transformers) if (match := name.fullmatch(each))]
    others = {word for words in OTHERS.values() for word in words.split()}
    rows = {row.removesuffix("Fast") for row in PROCESSORS}
    assert {match[1] for match in found} == rows | others and not rows & others
    for match in found:
        if match[1] in rows:
            steps({"image_processor_type": match[0]})
            assert steps({"feature_extractor_type": match[0]}) == steps({"image_processor_type": match[0]})
        else:
            with pytest.raises(NotKnown, match=f"{match[0]}', expected a class that makes a square"):
                steps({"image_processor_type": match[0]})


def test_the_manual_names_every_row() -> None:
    """Guards the table of docs/modern-backbones.md."""
    page = (Path(__file__).parents[2] / "docs" / "modern-backbones.md").read_text("utf-8")
    lines = re.findall(r"^\| resized[^|]*\| ([^|]*) \|$", page, re.M)
    assert sorted(", ".join(lines).split(", ")) == sorted(row for row in PROCESSORS if row != "BeitFast")


def test_old_names_mean_the_same(transformers: ModuleType) -> None:
    """Guards feature extractors: each is its image processor under another name, so it has that one's row."""
    for name in PROCESSORS:
        if old := getattr(transformers, f"{name}FeatureExtractor", None):
            assert issubclass(old, getattr(transformers, f"{name}ImageProcessor")) and "preprocess" not in vars(old)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({}, "image_processor_type is None, expected a class such as ViTImageProcessor"),
        ({"feature_extractor_type": ["x"]}, r"feature_extractor_type is ['x'], expected a class that makes a square"),
        ({"of": "Sam"}, "image_processor_type is 'SamImageProcessor', expected a class that makes a square"),
        ({"of": "Bit", "do_pad": True}, "do_pad is True, which BitImageProcessor does not read"),
        ({"of": "Bit", "pad\nsize": 7}, r"'pad\nsize' is 7, which"),
        ({"of": "Bit", "k" * 10**6: "v" * 10**6}, f"{'k' * 58}… is '{'v' * 58}…, which BitImageProcessor does not"),
        (
            {"of": "MobileViT", "do_normalize": True},
            "do_normalize is True, which MobileViTImageProcessor does not read",
        ),
        ({"of": "DPT", "keep_aspect_ratio": True}, "keep_aspect_ratio is True"),
        ({"of": "DPT", "ensure_multiple_of": 14}, "size is 384, expected a multiple of 14 px"),
        ({"of": "Bit", "do_center_crop": False}, "expected a square, since nothing is cropped"),
        ({"of": "Bit", "do_resize": False}, "do_resize is False, expected true"),
        ({"of": "Bit", "do_normalize": None}, "do_normalize is None, expected true or false"),
        ({"of": "Bit", "do_rescale": "no"}, "do_rescale is 'no', expected true or false"),
        ({"of": "Bit", "rescale_factor": None}, "rescale_factor is None, expected a number from 1e-06 to 1e+06"),
        ({"of": "Bit", "rescale_factor": -1}, "rescale_factor is -1"),
        ({"of": "LayoutLMv3", "rescale_factor": 1}, "rescale_factor is 1, expected 0.00392156862745098"),
        ({"of": "LayoutLMv2", "do_rescale": True}, "do_rescale is True, expected False"),
        ({"of": "Bit", "resample": [3]}, "resample is [3], expected one of Pillow's 0 to 5"),
        ({"of": "Bit", "resample": 3.0}, "resample is 3.0"),
        ({"of": "Bit", "resample": None}, "resample is None"),
        ({"of": "ConvNext", "size": 224, "crop_pct": "0.9"}, "crop_pct is '0.9', expected a number"),
        (
            {"of": "ConvNext", "size": 224, "crop_pct": 0.01},
            "size is 224, expected an image that is resized to 1 to 4096",
        ),
        (
            {"of": "ConvNext", "size": {EDGE: None}},
            "size is {'shortest_edge': None}, expected a shortest_edge or a square",
        ),
        ({"of": "ConvNext", "size": {"height": 224, "width": 224}}, "expected a shortest_edge"),
        ({"of": "Bit", "size": {EDGE: 224, "longest_edge": 400}}, "'longest_edge': 400}, expected a shortest_edge"),
        ({"of": "ViT", "size": {EDGE: 224}}, "expected a square of 1 to 4096 px"),
        ({"of": "ViT", "size": {"height": 224, "width": 448}}, "expected a square"),
        ({"of": "ViT", "size": 10**30}, "size is 1000000000000000000000000000000, expected a square"),
        ({"of": "ViT", "size": True}, "size is True"),
        ({"of": "ViT", "size": [224]}, "size is [224]"),
        ({"of": "CLIP", "crop_size": -224}, "crop_size is -224, expected a square"),
        ({"of": "ViT", "image_mean": [None] * 3}, "image_mean is [None, None, None], expected one number or three"),
        ({"of": "ViT", "image_mean": ["a", 1, 2]}, "image_mean is ['a', 1, 2]"),
        ({"of": "ViT", "image_mean": "0.5"}, "image_mean is '0.5'"),
        ({"of": "ViT", "image_std": [0.5]}, "image_std is [0.5]"),
        ({"of": "ViT", "image_std": [0, 1, 1]}, "image_std is [0, 1, 1]"),
        ({"of": "ViT", "image_std": [float("nan")] * 3}, "image_std is [nan, nan, nan]"),
    ],
)
def test_what_is_not_understood_is_named(told: dict[str, Any], message: str) -> None:
    """Guards against other pixels than a network was trained on: key, its value, and what is expected, in one line."""
    named = {"image_processor_type": f"{told['of']}ImageProcessor"} if "of" in told else {}
    with pytest.raises(NotKnown, match=re.escape(message)) as error:
        steps(named | {key: value for key, value in told.items() if key != "of"})
    assert "\n" not in str(error.value)


NUMBERS = st.integers(-5, 500) | st.integers() | st.floats() | st.sampled_from([224, 0.875, 1 / 255])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["height", "width", EDGE, "longest_edge", "x"]), inner, max_size=2)
    ),
    max_leaves=5,
)
KEYS = sorted({key for row in PROCESSORS.values() for key in row.defaults} | {"do_pad", "format", "x", "\n"})


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from([*(f"{row}ImageProcessor" for row in PROCESSORS), "ImageGPTImageProcessor", 3, ["x"], {}]),
    told=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4),
)
def test_any_description_gives_steps_or_names_what_it_cannot_take(name: Any, told: dict[str, Any]) -> None:
    """Guards against any other exception, and against steps that no image could go through."""
    try:
        asked = steps({"image_processor_type": name, **told})
    except NotKnown as error:
        assert str(error).isprintable()
        return
    assert 1 <= asked.side <= MOST_SIDE and asked.filter in FILTERS
    assert np.isfinite([asked.scale, *asked.mean, *asked.std]).all() and min(asked.scale, *asked.std) > 0
    if asked.side <= 250:
        assert made(asked, IMAGES[4]).shape == (3, asked.side, asked.side)


LIKELY: dict[str, list[Any]] = {
    "size": [30, 57, {EDGE: 57}, {EDGE: 33}, {"height": 57, "width": 57}, [40, 40], {EDGE: 57, "longest_edge": 80}],
    "crop_size": [30, 57, 64, {"height": 41, "width": 41}, [40, 40], None],
    "resample": [*range(6), None],
    "image_mean": [0.5, [0.4, 0.5, 0.6], None, [0.5]],
    "image_std": [0.5, [0.4, 0.5, 0.6], None, 0],
    "rescale_factor": [1 / 255, 1 / 127.5, 1, None],
    "crop_pct": [0.5, 0.875, 1, 1.3, None],
    "ensure_multiple_of": [1, 14, 19],
}


def likely(name: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """A class, and some of the keys that it reads."""
    keys = PROCESSORS[name].defaults.keys() - {"size", "do_resize"}
    optional = {key: st.sampled_from(LIKELY.get(key, [True, False])) for key in sorted(keys)}
    return st.tuples(st.just(name), st.fixed_dictionaries({"size": st.sampled_from(LIKELY["size"])}, optional=optional))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([name for name in PROCESSORS if name not in FAST]).flatmap(likely))
def test_what_is_taken_gives_the_pixels_of_the_class(
    transformers: ModuleType, described: tuple[str, dict[str, Any]]
) -> None:
    """Guards keys together: whatever a description says, it is refused, or its pixels are those of the class."""
    name, told = described
    kind = getattr(transformers, f"{name}ImageProcessor")
    try:
        asked = steps({"image_processor_type": kind.__name__, **told})
    except NotKnown:
        return
    its = kind.from_dict(told | ({"apply_ocr": False} if "LayoutLM" in name else {}))
    for image in IMAGES[1::3]:
        try:
            given = its(image, return_tensors="np")
        except (KeyError, ValueError):
            continue  # it fails on this itself, so there are no other pixels
        expected = given.get("pixel_values", given.get("pixel_values_images"))[0]
        assert np.abs(made(asked, image) - expected).max() <= 1e-4 * max(1, np.abs(expected).max()), asked
