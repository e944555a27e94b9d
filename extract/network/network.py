"""The network that makes rows: from pixels, through a frozen base, to the layers at which it is cut."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np

from extract.backbones import Backbone
from extract.model_file import ModelFile
from extract.network import cache
from extract.network.base import cut, load_base, weights_identity
from extract.network.convert import FILES, convert, output_shapes, read, write
from extract.network.importing import import_keras, settings
from extract.preprocessing import Values
from features import Refused
from features.runtime.versions import installed

BUILDERS = ("keras", "tensorflow", "tensorflow-cpu", "openvino")  # packages that decide what a converted network is


class Network:
    """(batch, size, size, 3) uint8 RGB → (batch, h, w, c), tokens (batch, t, c) or (batch, c) float32 of each layer.

    Preprocessing is part of it, so pixels travel as bytes. What OpenVINO computes was converted, and is kept: the next
    process needs no Keras for it.

    Args:
        size: side of the square input, pixels.
        pool: what becomes of its outputs, a name in `POOLINGS`; empty where they are flattened.
    """

    def __init__(self, size: int, pool: str = "") -> None:
        self.size, self.pool = size, pool
        self._facts: dict[str, Any] = {}  # of the converted one, if it was kept

    def _key(self) -> dict[str, Any] | None:
        """What decides the converted model, in JSON's types; None while that is not known."""
        raise NotImplementedError

    def _convert(self) -> Any:
        """OpenVINO's model, for any batch."""
        raise NotImplementedError

    @property
    def _identity(self) -> str:
        """SHA-256 (hex) of the weights."""
        raise NotImplementedError

    @property
    def _shapes(self) -> list[tuple[int, ...]]:
        """Of each layer, for one image."""
        raise NotImplementedError

    @cached_property
    def converted(self) -> Any:
        """OpenVINO's model, for any batch.

        Raises:
            Failed, Refused: the network cannot be built.
        """
        if (key := self._key()) and (found := cache.find(key, FILES)):
            self._facts = found.facts
            return read(*found.contents)
        made = self._convert()
        if key := self._key():  # again: the weights may have been downloaded meanwhile
            facts = {"weights_sha256": self._identity, "output_shapes": [list(s) for s in output_shapes(made)]}
            cache.keep(key, facts, lambda folder: write(made, folder))
        return made

    @property
    def weights_sha256(self) -> str:
        """SHA-256 (hex) of the weights' file, of random arrays, or of the formula."""
        return str(self._facts["weights_sha256"] if self._facts else self._identity)

    @property
    def output_shapes(self) -> list[tuple[int, ...]]:
        """(h, w, c), (t, c) or (c,) of each layer."""
        return [tuple(shape) for shape in self._facts["output_shapes"]] if self._facts else self._shapes

    @property
    def feature_shapes(self) -> list[tuple[int, ...]]:
        """Of a row of each layer: `output_shapes`, or (c,) where they are pooled.

        Raises:
            Refused: there is nothing to pool.
        """
        if self.pool and any(len(shape) == 1 for shape in self.output_shapes):
            raise Refused(f"--pool {self.pool}: the layer gives vectors, with no positions to pool over")
        return [shape[-1:] if self.pool else shape for shape in self.output_shapes]


class KerasNetwork(Network):
    """See `Network`. Keras builds it, when it is first asked for.

    Args:
        size: side of the square input, pixels.
        build: gives the Keras model and the SHA-256 (hex) of its weights.
        key: gives what decides the model; see `Network._key`.
        pool: see `Network`.
    """

    def __init__(
        self,
        size: int,
        build: Callable[[], tuple[Any, str]],
        key: Callable[[], dict[str, Any] | None] = lambda: None,
        pool: str = "",
    ) -> None:
        super().__init__(size, pool)
        self._build, self._made_from = build, key

    @classmethod
    def named(
        cls, backbone: Backbone | ModelFile, weights: str, size: int, seed: int, layers: Sequence[str], pool: str = ""
    ) -> Self:
        """The network of a backbone, cut at these layers; weights, size, seed: see `load_base`."""

        def build() -> tuple[Any, str]:
            base, sha256 = load_base(backbone, weights, size, seed)
            return _from_pixels(base, [cut(base, layer).output for layer in layers], backbone), sha256

        def key() -> dict[str, Any] | None:
            identity = weights_identity(backbone, weights, seed)
            if identity == {"weights": "imagenet"}:
                return None
            made = {"backbone": backbone.name, "layers": list(layers), "size": size, "keras": settings()}
            return made | identity | {"preprocessing": backbone.preprocessing, "versions": installed(BUILDERS)}

        return cls(size, build, key, pool)

    @classmethod
    def around(cls, base: Any, backbone: Backbone) -> Self:
        """The network of a base that is built already, with a backbone's preprocessing."""
        return cls(base.input_shape[1], lambda: (_from_pixels(base, base.outputs, backbone), ""))

    @cached_property
    def _built(self) -> tuple[Any, str]:
        return self._build()

    @property
    def model(self) -> Any:
        """The Keras model; it gives a list with the output of each layer.

        Raises:
            Failed, Refused: see `load_base` and `cut`.
        """
        return self._built[0]

    def _key(self) -> dict[str, Any] | None:
        return self._made_from()

    def _convert(self) -> Any:
        return convert(self.model)

    @property
    def _identity(self) -> str:
        return self._built[1]

    @property
    def _shapes(self) -> list[tuple[int, ...]]:
        return [tuple(output.shape[1:]) for output in self.model.outputs]


def _from_pixels(base: Any, outputs: Sequence[Any], backbone: Backbone | ModelFile) -> Any:
    """Preprocessing, and a base up to some of its outputs, in inference mode."""
    keras = import_keras()
    pixels = keras.Input(base.input_shape[1:], dtype="uint8")
    values = keras.ops.cast(pixels, "float32")
    if isinstance(backbone, ModelFile):
        done = Values.of(backbone.preprocessing)
        in_order = values if done.order == "rgb" else keras.ops.flip(values, axis=-1)
        mean, std = (np.array(each, np.float32) for each in (done.mean, done.std))
        prepared = (in_order * done.scale - mean) / std
    elif backbone.preprocessing == "unit":
        prepared = values / 255
    else:
        prepared = getattr(keras.applications, backbone.module).preprocess_input(values)
    return keras.Model(pixels, keras.Model(base.input, outputs)(prepared, training=False))
