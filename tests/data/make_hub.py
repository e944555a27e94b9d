"""Add to hub.zip: tiny networks with random weights as model hubs publish them, and the rows that their makers give.

    pip install torch optimum-onnx onnx onnxscript && python tests/data/make_hub.py torch
    python tests/data/make_hub.py keras

For each name there are NAME/model.onnx, and NAME/rows.npz with the side of `drawn` images and PyTorch's or Keras's own
rows of them, by output.
"""

import io
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HUB = Path(__file__).with_name("hub.zip")
SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
AXES = {0: "batch_size", 1: "num_channels", 2: "height", 3: "width"}  # as optimum and many hubs name them


def add(name: str, model: bytes, pixels: np.ndarray, rows: dict[str, np.ndarray]) -> None:
    """Write a network and its rows into the archive."""
    held = io.BytesIO()
    np.savez_compressed(held, side=len(pixels[0]), **rows)
    with zipfile.ZipFile(HUB, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as hub:
        hub.writestr(f"{name}/model.onnx", model)
        hub.writestr(f"{name}/rows.npz", held.getvalue())
    print(name, len(model))


def drawn(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Three images, and their values from −1 to 1."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), "u1")
    return pixels, (pixels.astype("f4") / 255 - np.float32(0.5)) / np.float32(0.5)


def of_torch() -> None:
    """By optimum, and by PyTorch's exporter with the axes that optimum names, and with a batch of one."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    import transformers as t
    from optimum.exporters.onnx import main_export

    vision, text = (
        {"image_size": 16, "patch_size": 8, **SMALL},
        {"vocab_size": 9, "max_position_embeddings": 16, **SMALL},
    )
    levit = {"hidden_sizes": [8, 8, 8], "depths": [1, 1, 1], "key_dim": [4, 4, 4], "num_attention_heads": [1, 2, 2]}
    convnext = {"hidden_sizes": [4, 8], "depths": [1, 1], "num_stages": 2}
    swin = {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 4}
    made: dict[str, tuple[Any, int, str]] = {
        "vit": (t.ViTModel(t.ViTConfig(**vision)), 16, "feature-extraction"),
        "convnext": (t.ConvNextModel(t.ConvNextConfig(**convnext)), 32, "feature-extraction"),
        "levit": (t.LevitModel(t.LevitConfig(image_size=64, **levit)), 64, "feature-extraction"),
        "beit": (t.BeitModel(t.BeitConfig(**vision)), 16, "feature-extraction"),
        "swin": (t.SwinModel(t.SwinConfig(**swin)), 16, "feature-extraction"),
        "siglip-vision": (t.SiglipVisionModel(t.SiglipVisionConfig(**vision)), 16, "feature-extraction"),
        "clip": (
            t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)),
            *(16, "zero-shot-image-classification"),
        ),
    }
    for name, (model, side, task) in made.items():
        pixels, values = drawn(side)
        given = torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            model.eval().save_pretrained(f"{folder}/in")
            main_export(f"{folder}/in", output=f"{folder}/out", task=task, opset=17, do_validation=False)
            if name == "clip":
                rows = {"image_embeds": model.get_image_features(pixel_values=given)}
                rows["image_embeds"] = rows["image_embeds"] / rows["image_embeds"].norm(dim=-1, keepdim=True)
            else:
                rows = {"last_hidden_state": model(pixel_values=given).last_hidden_state}
            add(name, Path(folder, "out", "model.onnx").read_bytes(), pixels, {k: v.numpy() for k, v in rows.items()})
    dinov2 = t.Dinov2Model(t.Dinov2Config(**vision)).eval()
    wrapped = _outputs(torch, dinov2)
    pixels, values = drawn(16)
    given = torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))
    with torch.inference_mode():
        rows = dict(zip(("last_hidden_state", "pooler_output"), (each.numpy() for each in wrapped(given)), strict=True))
    for name, example, axes in (
        ("dinov2", given, {"pixel_values": AXES, **{each: {0: "batch_size"} for each in rows}}),
        ("dinov2-of-one", given[:1], None),
    ):
        held = io.BytesIO()
        names = {"input_names": ["pixel_values"], "output_names": list(rows)}
        torch.onnx.export(wrapped, (example,), held, dynamo=False, opset_version=17, dynamic_axes=axes, **names)
        add(name, held.getvalue(), pixels, rows)


def _outputs(torch: Any, model: Any) -> Any:
    class Outputs(torch.nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: Any) -> Any:
            made = self.model(pixel_values=pixel_values)
            return made.last_hidden_state, made.pooler_output

    return Outputs().eval()


def of_keras() -> None:
    """By tf2onnx: channels last, channels first outside, and patches that are cut by a reshape."""
    import keras
    import tensorflow as tf
    import tf2onnx

    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.ReLU(6)(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    squeezed = layers.Conv2D(8, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    convolutions = keras.Model(image, layers.Conv2D(5, 1)(layers.Multiply()([x, squeezed])))
    x = layers.Reshape((2, 8, 2, 8, 3))(image)
    x = layers.Dense(12)(layers.Reshape((4, 192))(layers.Permute((1, 3, 2, 4, 5))(x)))
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
    patches = keras.Model(image, x)
    spec = [tf.TensorSpec((None, 16, 16, 3), tf.float32, name="image")]
    pixels, values = drawn(16)
    first: dict[str, list[str]] = {"inputs_as_nchw": ["image"]}
    for name, model, how in (
        ("keras", convolutions, {}),
        ("keras-nchw-in", convolutions, first),
        ("keras-nchw", convolutions, first | {"outputs_as_nchw": ["Identity:0"]}),
        ("keras-patches", patches, {}),
    ):
        answer: Callable[[Any], Any] = tf.function(lambda given, model=model: model(given, training=False))
        made, _ = tf2onnx.convert.from_function(answer, input_signature=spec, opset=17, **how)
        add(name, made.SerializeToString(), pixels, {"Identity:0": np.asarray(model(values))})


if __name__ == "__main__":
    {"torch": of_torch, "keras": of_keras}[sys.argv[1]]()
