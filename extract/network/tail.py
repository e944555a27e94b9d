"""The upper part of a base, to be trained on rows that were cut just below it."""

from typing import Any

import numpy as np

from extract.network.importing import import_keras
from features import Refused

TRAINED_SHARE = 1 / 2


def default_layers(base: Any) -> int:
    """How many of the last layers to train: the fewest that hold half of the base's parameters.

    In MobileNetV2 that is from block_15 up, 20 layers; its last two hold next to nothing. On food101-10 these gave
    77.3 % on validation rows inside train, and the 11 from block_16 up 76.1 %.
    """
    keras = import_keras()
    counts = [
        0 if isinstance(layer, keras.layers.BatchNormalization) else layer.count_params()
        for layer in reversed(base.layers[1:])
    ]
    return int(np.searchsorted(np.cumsum(counts), TRAINED_SHARE * sum(counts))) + 1


def cut_below(base: Any, layers: int) -> str:
    """Name of the layer to cut at, so that the last `layers` layers can be trained from there.

    That is the layer below them, or the nearest one further down through which everything flows: what jumps past a
    cut, as a residual connection does, would be missing above it.

    Args:
        base: Keras model.
        layers: how many of its last layers are to be trained.

    Raises:
        Refused: the base has fewer layers than that.
    """
    names = [layer.name for layer in base.layers]
    if not 1 <= layers < len(names):
        raise Refused(f"--layers {layers}: {base.name} has {len(names) - 1} layers up to {names[-1]!r}; give 1 to that")
    below = len(names) - layers
    return [name for name in bottlenecks(base) if names.index(name) < below][-1]


def bottlenecks(base: Any) -> list[str]:
    """The layers that every path from input to output passes, first to last.

    In topological order, these are the layers that no connection jumps over. Operations count too: where ConvNeXt adds,
    there is no layer.
    """
    keras = import_keras()
    steps, layers = base.operations, {layer.name for layer in base.layers}
    place = {id(step.output): i for i, step in enumerate(steps)}
    reach = [0] * len(steps)  # the furthest step that takes this one's output
    for i, step in enumerate(steps[1:], 1):
        for tensor in keras.tree.flatten(step.input):
            reach[place[id(tensor)]] = i
    before = np.maximum.accumulate([0, *reach])  # … and that takes the output of any step before
    return [step.name for i, step in enumerate(steps) if before[i] <= i and step.name in layers]


def tail_of(base: Any, cut: str, layers: int) -> Any:
    """The base above a cut, with its last `layers` layers trainable.

    BatchNormalization stays as it is, statistics and all (inference mode, which Keras ties to `trainable`): those of a
    small training set are worse than those that the base was trained with.

    Args:
        base: Keras model.
        cut: a layer through which everything flows, see `cut_below`.
        layers: how many are trained; what lies between the cut and them stays frozen.

    Returns:
        the Keras model, (batch, h, w, c) at the cut → (batch, h, w, c) of the base.
    """
    keras = import_keras()
    for i, layer in enumerate(reversed(base.layers)):
        layer.trainable = i < layers and not isinstance(layer, keras.layers.BatchNormalization)
    return keras.Model(base.get_layer(cut).output, base.output, name="tail")
