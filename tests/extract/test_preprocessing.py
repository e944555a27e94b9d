"""What a model file's description asks for, against Pillow and the published processors' own steps."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from extract.images.decode import FILTERS, resized_first, squash
from extract.images.views import view_of
from extract.preprocessing import PRESETS, Preprocessing, Values, presets
from features import Refused

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 137, 3), "u1"))
DINO: dict[str, Any] = {  # as published with DINOv2
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "BitImageProcessor",
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 256},
}
SIGLIP: dict[str, Any] = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "SiglipImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "processor_class": "SiglipProcessor",
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 224, "width": 224},
}
OLD_CLIP: dict[str, Any] = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}


def config(folder: Path, told: Any) -> Path:
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(told))
    return file


CONVNEXT = SIGLIP | {"image_processor_type": "ConvNextImageProcessor"}
VIT = SIGLIP | {"image_processor_type": "ViTImageProcessor", "resample": 2}
LARGER = SIGLIP | {"size": {"height": 256, "width": 256}, "crop_size": {"height": 224, "width": 224}}
DEIT = LARGER | {"image_processor_type": "DeiTImageProcessor"}
LEVIT = DINO | {"image_processor_type": "LevitImageProcessor", "size": {"shortest_edge": 224}}


@pytest.mark.parametrize(
    ("told", "geometry"),
    [
        (DINO, (224, "edge256", "bicubic")),
        (SIGLIP, (224, "squash", "bicubic")),
        (OLD_CLIP, (224, "edge224", "bicubic")),
        (LARGER, (256, "squash", "bicubic")),  # its class crops nothing
        (DEIT, (224, "squash256", "bicubic")),
        (LEVIT, (224, "edge256", "bicubic")),
        (DINO | {"crop_size": 300}, (300, "edge256", "bicubic")),
        ({key: value for key, value in DINO.items() if key != "resample"}, (224, "edge256", "bicubic")),
        (CONVNEXT | {"size": {"shortest_edge": 224}}, (224, "edge256", "bicubic")),
        (CONVNEXT | {"size": {"shortest_edge": 384}}, (384, "squash", "bicubic")),
        (VIT | {"size": 384}, (384, "squash", "bilinear")),
    ],
)
def test_published_descriptions(tmp_path: Path, told: dict[str, Any], geometry: tuple[int, str, str]) -> None:
    """Guards the pixels of published models: sizes, crops and filters as their processors have them."""
    got = Preprocessing.of_config(config(tmp_path, told))
    assert (got.size, got.resize, got.filter) == geometry
    assert got.values == Values("rgb", 1 / 255, tuple(told["image_mean"]), tuple(told["image_std"]))
    assert Values.of(str(got.values)) == got.values


@pytest.mark.parametrize(
    ("told", "named"),
    [
        (
            json.dumps(DINO | {"do_pad": True}),
            "preprocessor_config.json: do_pad is True, which BitImageProcessor does not",
        ),
        (
            json.dumps(SIGLIP | {"size": [[]]}),
            "preprocessor_config.json: size is [[]], expected a square of 1 to 4096 px",
        ),
        (json.dumps(SIGLIP | {"image_processor_type": None}), "image_processor_type is None, expected a class such as"),
        ("[1, 2]", "preprocessor_config.json holds no JSON object"),
        ("text", "preprocessor_config.json is no JSON file (Expecting value"),
        ("[" * 10**5, "preprocessor_config.json is no JSON file (maximum recursion depth"),
        ('{"size": 1' + "0" * 5000 + "}", "preprocessor_config.json is no JSON file (Exceeds the limit (4300 digits)"),
        (
            '{"image_processor_type": "\\ud800ImageProcessor"}',
            r"image_processor_type is '\ud800ImageProcessor', expected",
        ),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, told: str, named: str) -> None:
    """Guards the message: the file, what it says, what is expected, and the way on, in one line."""
    file = tmp_path / "preprocessor_config.json"
    file.write_text(told)
    with pytest.raises(Refused, match=re.escape(named)) as error:
        Preprocessing.of_config(file)
    assert str(error.value).isprintable() and f". Give --preprocess instead. {presets()}" in str(error.value)


@pytest.mark.parametrize("image", [NOISE, NOISE.transpose(Image.Transpose.TRANSPOSE)])
@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
def test_the_middle_is_that_of_the_resized_image(image: Image.Image, filter: str) -> None:
    """Guards the crop: the shortest edge becomes 64 pixels, or both do, and the middle 56 are taken."""
    short = min(image.size)
    for resize, size in (("edge64", tuple(64 * length // short for length in image.size)), ("squash64", (64, 64))):
        whole = image.resize(size, FILTERS[filter])
        left, top = (whole.width - 56) // 2, (whole.height - 56) // 2
        expected = np.asarray(whole.crop((left, top, left + 56, top + 56)))
        assert np.array_equal(squash(image, 56, filter, resized_first(image.size, resize)), expected)
    assert resized_first(image.size, "squash") is None
    view = view_of(image, 56, "photo", 0, np.zeros(32, "u1"), 1, filter, resized_first(image.size, "edge64"))
    assert view.shape == (56, 56, 3)


def test_settings_by_hand() -> None:
    """Guards `--preprocess`: presets at the network's side, settings that change them, and BGR's mean in its order."""
    got = Preprocessing.parsed("imagenet filter=bicubic", 384)
    assert (got.size, got.resize, got.filter) == (384, "edge439", "bicubic")
    assert Preprocessing.parsed("mean=0.5 std=0.5 size=256 crop=224", None).resize == "edge256"
    assert Preprocessing.parsed("mean=0.5 std=0.5", None).size is None
    assert str(Preprocessing.parsed("caffe", 32).values) == "bgr scale=1.0 mean=103.939,116.779,123.68 std=1.0,1.0,1.0"
    for name in PRESETS:
        assert Preprocessing.parsed(name, None).size == 224


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("imagnet", "Did you mean imagenet"),
        ("mean=0.5", "std is missing"),
        ("mean=0.5 std=0", "std=0 – 1 or 3 positive numbers"),
        ("mean=0.5,0.5 std=1", "mean=0.5,0.5"),
        ("clip colour=1", "'colour=1' is no setting"),
        ("clip filter=near", "filter one of"),
        ("clip size=100 crop=224", "224 px is cropped from 100"),
        ("mean=nan std=1", "mean=nan"),
        ("clip size=0.5", "size=0.5 – a whole number of 1 to 4096 pixels"),
        ("clip size=1e9", "size=1e9 – a whole number"),
        ("clip crop=99999999999", "crop=99999999999 – a whole number"),
        ("", "mean and std is missing"),
    ],
)
def test_bad_settings(line: str, named: str) -> None:
    """Guards the message of each mistake in `--preprocess`."""
    with pytest.raises(Refused, match=named):
        Preprocessing.parsed(line, None)
