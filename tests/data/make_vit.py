"""Make vit-torchscript.onnx, vit-dynamo.onnx and vit.npz: a small vision transformer as both exporters of PyTorch write
it, and what PyTorch itself computes.

    pip install torch onnx onnxscript && python tests/data/make_vit.py
"""

import io
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

SIDE, PATCH, WIDTH, HEADS, REGISTERS = 56, 14, 32, 4, 4
HERE = Path(__file__).parent


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, t, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, t, c))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    """Class token, registers, 4 × 4 patches; gives the tokens, and the class token through a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.first = nn.Parameter(torch.randn(1, 1 + REGISTERS, WIDTH) * 0.5)
        self.places = nn.Parameter(torch.randn(1, (SIDE // PATCH) ** 2, WIDTH) * 0.5)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.norm, self.pooler = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        patches = self.patches(pixel_values).flatten(2).transpose(1, 2) + self.places
        x = torch.cat([self.first.expand(pixel_values.shape[0], -1, -1), patches], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x, torch.tanh(self.pooler(x[:, 0]))


def main() -> None:
    torch.manual_seed(0)
    model = Vit().eval()
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), "u1")
    values = (pixels.astype("f4") / 255 - np.float32(0.5)) / np.float32(0.5)
    given = torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))
    with torch.inference_mode():
        tokens, pooled = (rows.numpy() for rows in model(given))
    np.savez_compressed(HERE / "vit.npz", pixels=pixels, tokens=tokens, pooled=pooled)
    names = {"input_names": ["pixel_values"], "output_names": ["last_hidden_state", "pooler_output"]}
    free = {"dynamic_axes": {name: {0: "batch"} for name in (*names["input_names"], *names["output_names"])}}
    held = io.BytesIO()
    torch.onnx.export(model, (given,), held, opset_version=17, dynamo=False, **names, **free)
    onnx.save(onnx.load_from_string(held.getvalue()), HERE / "vit-torchscript.onnx")
    shapes = {"pixel_values": {0: torch.export.Dim("batch")}}
    made = torch.onnx.export(model, (given,), dynamo=True, dynamic_shapes=shapes, external_data=False, **names)
    made.save(str(HERE / "vit-dynamo.onnx"), external_data=False)


if __name__ == "__main__":
    main()
