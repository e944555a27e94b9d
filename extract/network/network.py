"""The network that makes rows: from pixels, through a frozen base, to the layers at which it is cut."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Self

from extract.backbones import Backbone
from extract.network import cache
from extract.network.base import cut, load_base, weights_identity
from extract.network.convert import FILES, convert, read, write
from extract.network.importing import import_keras, settings
from features.runtime.versions import installed

BUILDERS = ("keras", "tensorflow", "tensorflow-cpu", "openvino")  # packages that decide what a converted network is


class Network:
    """(batch, size, size, 3) uint8 RGB → (batch, h, w, c) float32 of each of its layers.

    Preprocessing is part of it, so pixels travel as bytes. Keras builds it, when it is first asked for. What OpenVINO
    computes was converted from that, and is kept: the next process needs no Keras for it.

    Args:
        size: side of the square input, pixels.
        build: gives the Keras model and the SHA-256 (hex) of its weights.
        key: gives what decides the model, in JSON's types; None while that is not known, as of weights that are not
            downloaded yet.
        pool: what becomes of its outputs, `avg` or `max` over all positions; empty where they are flattened.
    """

    def __init__(
        self,
        size: int,
        build: Callable[[], tuple[Any, str]],
        key: Callable[[], dict[str, Any] | None] = lambda: None,
        pool: str = "",
    ) -> None:
        self.size, self.pool = size, pool
        self._build, self._key = build, key
        self._facts: dict[str, Any] = {}  # of the converted one, if it was kept

    @classmethod
    def named(
        cls, backbone: Backbone, weights: str, size: int, seed: int, layers: Sequence[str], pool: str = ""
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

    @cached_property
    def converted(self) -> Any:
        """OpenVINO's model, for any batch; see `model`."""
        if (key := self._key()) and (found := cache.find(key, FILES)):
            self._facts = found.facts
            return read(*found.contents)
        made = convert(self.model)
        if key := self._key():  # again: the weights may have been downloaded meanwhile
            facts = {"weights_sha256": self.weights_sha256, "output_shapes": [list(s) for s in self._output_shapes]}
            cache.keep(key, facts, lambda folder: write(made, folder))
        return made

    @property
    def weights_sha256(self) -> str:
        """SHA-256 (hex) of the weights' file, of random arrays, or of the formula."""
        return str(self._facts["weights_sha256"] if self._facts else self._built[1])

    @property
    def feature_shapes(self) -> list[tuple[int, ...]]:
        """(h, w, c) of each layer, or (c,) where they are pooled."""
        return [shape[-1:] if self.pool else shape for shape in self._output_shapes]

    @property
    def _output_shapes(self) -> list[tuple[int, ...]]:
        if self._facts:
            return [tuple(shape) for shape in self._facts["output_shapes"]]
        return [tuple(output.shape[1:]) for output in self.model.outputs]


def _from_pixels(base: Any, outputs: Sequence[Any], backbone: Backbone) -> Any:
    """Preprocessing, and a base up to some of its outputs, in inference mode."""
    keras = import_keras()
    pixels = keras.Input(base.input_shape[1:], dtype="uint8")
    values = keras.ops.cast(pixels, "float32")
    if backbone.preprocessing == "unit":
        prepared = values / 255
    else:
        prepared = getattr(keras.applications, backbone.module).preprocess_input(values)
    return keras.Model(pixels, keras.Model(base.input, outputs)(prepared, training=False))
