"""The networks against the sources' way, which runs the whole frozen base again for every batch of every epoch.

    python -m benchmarks.neural PHOTOS

VGG16 at 224 px on seeded random weights (its speed does not depend on them), the sources' head 4096-1072, batches of
64, float32. Measured turn about in one process, each step right after another of its kind:

- stage one's forward pass, seconds an image, up to the last layer and up to the cut below the two trained ones;
- the sources' step: plain Keras on preprocessed pixels in memory, base frozen, or frozen but for its last two layers;
- our step: the head, or the last two layers and the head, from a stack on disk, by the loop that `train` runs.

The rest is arithmetic: 3,750 train rows, 50 epochs, steps on the 85 % of them that are not held out. It counts neither
validation, which would cost the sources one more pass through the base for each held-out image of every epoch, nor
decoding photos, which stage one does at the same time.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.results import manifest, row
from classify.folds import VALIDATION_SHARE
from classify.networks.adam import adam
from classify.networks.dense import dense_head
from classify.networks.finetune import join
from classify.networks.training import _epoch
from classify.rows import BATCH, batches
from extract import extract
from extract.backbones import backbone_named
from extract.images.decode import decode, squash
from extract.network.base import cut, load_base
from extract.network.forward import choose_device, compile_forward
from extract.network.importing import import_keras
from extract.network.network import KerasNetwork
from extract.network.tail import cut_below, tail_of
from features import open_stack

ROUNDS, FORWARD, LAYERS = 3, 32, 2  # FORWARD: stage one's batch
CLASSES, WIDTHS, DROPOUT = 10, (4096, 1072), 0.2
TRAIN, EPOCHS = 3750, 50
STEPS = EPOCHS * -(-round((1 - VALIDATION_SHARE) * TRAIN) // BATCH)


class Measured:
    """Every timing by its name; a round's timings stand at the same place in each list."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def add(self, name: str, seconds: float) -> None:
        self.seconds.setdefault(name, []).append(seconds)

    def __getitem__(self, name: str) -> np.ndarray:
        return np.array(self.seconds[name])


def top(width: int) -> Any:
    return dense_head(width, CLASSES, WIDTHS, DROPOUT, None)


def fresh_base() -> Any:
    backbone = backbone_named("vgg16")
    return load_base(backbone, "random", backbone.size, seed=0)[0]


def sources(layers: int, rate: float, jit: bool) -> Any:
    """Plain Keras: the whole base, its last layers trainable, and the head."""
    keras = import_keras()
    base = fresh_base()
    for i, layer in enumerate(reversed(base.layers)):
        layer.trainable = i < layers
    flat = keras.layers.Flatten()(base.output)
    net = keras.Model(base.input, top(flat.shape[1])(flat))
    net.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=jit)
    return net


def ours(layers: int, rate: float) -> Any:
    """What `train` is given, compiled as it does: the head, or the last layers and the head."""
    base = fresh_base()
    net = top(int(np.prod(base.output_shape[1:])))
    if layers:
        net = join(tail_of(base, cut_below(base, layers), layers), "flatten", net)
    net.compile(adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=only_jit())
    return net


def only_jit() -> bool:
    """JAX cannot do without XLA; TensorFlow's convolutions on the CPU are slower with it, for both ways."""
    return bool(import_keras().backend.backend() == "jax")


def measure(layers: int, rate: float, photos: Path, folder: Path, found: Measured) -> None:
    """One kind of training, turn about: stage one's forward, the sources' step, our step."""
    keras, backbone, device = import_keras(), backbone_named("vgg16"), choose_device("auto")
    theirs, mine = sources(layers, rate, jit=device == "gpu" or only_jit()), ours(layers, rate)
    base = fresh_base()
    layer = cut_below(base, layers) if layers else base.layers[-1].name
    forward = compile_forward(KerasNetwork.around(cut(base, layer), backbone), FORWARD, device)
    path = extract(str(manifest(photos, BATCH, folder)), weights="random", layer=layer, out=str(folder / f"{layer}.h5"))
    stack, labels, rows = open_stack(path), np.arange(BATCH) % CLASSES, np.arange(BATCH)
    files = sorted(photos.rglob("*.jpg"))[:BATCH]
    images = np.stack([squash(decode(file.read_bytes()), backbone.size) for file in files])
    pixels = getattr(keras.applications, backbone.module).preprocess_input(images.astype("f4"))
    name = "fine-tuning" if layers else "dense head"
    rng = np.random.default_rng(0)
    for turn in range(1, ROUNDS + 1):
        seconds = [
            second(lambda: forward(images[: forward.batch])) / forward.batch,
            second(lambda: float(theirs.train_on_batch(pixels, labels, return_dict=True)["loss"])),
            second(lambda: _epoch(mine, batches(stack, labels, rows, rng), None, rng)),
        ]
        found.add(f"our forward pass up to {layer}, an image", seconds[0])
        found.add(f"sources' step, {name}", seconds[1])
        found.add(f"our step, {name}", seconds[2])
        print(f"{name}, round {turn}: {np.round(seconds, 3).tolist()} s", file=sys.stderr)


def second(step: Callable[[], Any]) -> float:
    """Seconds that a step takes right after another of its kind, as it does in a training."""
    step()
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def main(photos: Path) -> None:
    found = Measured()
    with tempfile.TemporaryDirectory() as folder:
        for layers, rate in ((0, 1e-3), (LAYERS, 1e-4)):
            measure(layers, rate, photos, Path(folder), found)
    print(
        f"{import_keras().backend.backend()} on the {choose_device('auto')}, median of {ROUNDS} rounds:",
        file=sys.stderr,
    )
    for name, seconds in found.seconds.items():
        print(f"  {name}: {median(seconds):.4g} s", file=sys.stderr)
    top_rows, cut_rows = (
        TRAIN * found[f"our forward pass up to {layer}, an image"] for layer in ("block5_pool", "block5_conv2")
    )
    alone, tuned = (STEPS * found[f"our step, {name}"] for name in ("dense head", "fine-tuning"))
    theirs = STEPS * found["sources' step, dense head"]
    cost("dense head, 50 epochs and its stack", theirs, top_rows + alone, "10×")
    theirs = STEPS * found["sources' step, fine-tuning"]
    mine = cut_rows + alone + tuned
    cost("fine-tuning, 50 epochs of the head, 50 of both, and the cut stack", theirs, mine, "6×")
    cost("the same, and the stack it starts from", theirs, top_rows + mine, "")


def cost(what: str, theirs: np.ndarray, mine: np.ndarray, bar: str) -> None:
    figure = f"{median(mine):,.0f} against {median(theirs):,.0f} s: {median(theirs / mine):.1f}×"
    row(f"{what}, against 50 epochs through the frozen base (steps × their number)", figure, bar)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
