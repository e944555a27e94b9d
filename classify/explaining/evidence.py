"""What each place of an image says for a class: decisions taken apart into the places of a feature map."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from classify.answers import SavedModel
from classify.classical.answering import Kernel, Landmarks, Linear
from classify.explaining.gradients import dense_gradient, kernel_gradient, shap
from classify.rows import unit_rows

EXACT = "exact: all places and a constant add up to the decision"
GRADIENT = "gradient × input: how the decision changes with each place, to first order"
ACTIVATION = "class activation: the gradient of each channel, spread over the places where the channel is active"
SHAPLEY = "SHAP values of each channel, spread over the places where the channel is active"
FLAT = "rows without positions have no maps"
APART = "its stacks see different parts of a photo, so their maps do not lie over each other"


class Evidence(NamedTuple):
    """Evidence for some classes in some images.

    Attributes:
        kind: what the numbers are, one of the sentences above.
        maps: (k, m, h, w) float64 of k images and m classes each; positive speaks for the class.
        rest: (k, m) what lies in no place: the intercept, class tokens.
    """

    kind: str
    maps: np.ndarray
    rest: np.ndarray


def kind_of(model: SavedModel) -> tuple[str, str]:
    """What a model's evidence is, or the empty string and why it has none."""
    if model.pool == "cls" or not all(map(_places, model.shapes)):
        return "", FLAT
    if len(set(map(_part, model.recipes))) > 1:
        return "", APART
    if isinstance(model.estimator, Linear):
        return EXACT, ""
    if isinstance(model.estimator, Kernel | Landmarks):
        return GRADIENT, ""
    if model.model.takes == "rows" and model.model.network and model.pool != "flatten":
        return ACTIVATION, ""
    if model.model.saved_as == "ubj" and model.pool != "flatten":
        return SHAPLEY, ""
    return "", f"{model.model.title} has no maps"


def evidence(model: SavedModel, parts: Sequence[np.ndarray], classes: np.ndarray) -> Evidence | None:
    """Take decisions apart.

    Args:
        model: saved.
        parts: (k, width) float32 rows of each of its stacks, as stage one gives them.
        classes: (k, m) int64 indices of `label_names`; one that the model does not know has no evidence.

    Returns:
        None where there are no maps; `kind_of` says why.
    """
    kind, _ = kind_of(model)
    if not kind:
        return None
    codes = np.searchsorted(model.classes, classes).clip(0, len(model.classes) - 1)
    known = model.classes[codes] == classes
    rows, scales = _joined(model, parts)
    if kind == SHAPLEY:
        shares, rest = shap(model.estimator, rows, codes)
        maps = [_spread(model, parts, share, i) for i, share in enumerate(shares)]
        outside = np.zeros(classes.shape)
    else:
        slopes, rest = _slopes(model, rows, codes)
        maps, outside = _placed(model, parts, slopes, scales)
    return Evidence(kind, np.stack(maps) * known[..., None, None], (rest + outside) * known)


def _joined(model: SavedModel, parts: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """(k, d) rows as the model takes them, float64, and what each part's numbers were multiplied by, (k,) each."""
    joined = np.asarray(model._joined(parts), np.float64)
    scales = [np.ones(len(joined)) for _ in parts]
    if model.pool == "flatten" and len(parts) > 1:
        lengths = [np.linalg.norm(part.astype("f8"), axis=1) for part in parts]
        scales = [np.sqrt(w) / np.where(n == 0, 1, n) for n, w in zip(lengths, model.weights, strict=True)]
    if model.model.network or model.model.takes == "rows":
        return joined, scales
    whole = np.linalg.norm(joined, axis=1)
    whole = np.where(whole == 0, 1, whole)
    return np.asarray(unit_rows(joined), np.float64), [scale / whole for scale in scales]


def _slopes(model: SavedModel, rows: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k, m, d) slopes of each class's decision along the joined row, and (k, m) constants."""
    answering = model.estimator
    if isinstance(answering, Linear):
        if len(answering.coef) == 1:  # of two classes the decision is the second's
            sign = np.where(codes == 0, -1.0, 1.0)
            return sign[..., None] * answering.coef[0], sign * answering.intercept[0]
        return answering.coef[codes], answering.intercept[codes]
    if isinstance(answering, Kernel | Landmarks):
        return kernel_gradient(answering, rows, codes), np.zeros(codes.shape)
    return dense_gradient(answering.model_, rows, codes), np.zeros(codes.shape)


def _placed(
    model: SavedModel, parts: Sequence[np.ndarray], slopes: np.ndarray, scales: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Maps (m, h, w) of each image, and (k, m) what lies in no place."""
    maps: list[np.ndarray] = []
    outside = np.zeros(slopes.shape[:2])
    for i in range(len(slopes)):
        first, layers = 0, []
        for part, shape, scale in zip(parts, model.shapes, scales, strict=True):
            x = part[i].astype(np.float64).reshape(-1, shape[-1]) * scale[i]
            width = x.size if model.pool == "flatten" else shape[-1]
            slope = slopes[i][:, first : first + width]
            before = len(x) - _places(shape)
            if model.pool == "flatten":
                each = np.einsum("mpc,pc->mp", slope.reshape(len(slope), *x.shape), x)
                outside[i] += each[:, :before].sum(axis=1)
                each = each[:, before:]
            elif model.pool == "avg":
                each = slope @ x[before:].T / _places(shape)
            else:  # the maximum of a channel lies in one place
                patches, c = x[before:], np.arange(shape[-1])
                at = patches.argmax(axis=0)
                each = np.zeros((len(slope), len(patches)))
                np.add.at(each.T, at, (slope * patches[at, c]).T)
            layers.append(each.reshape(len(slope), *_grid(shape)))
            first += width
        maps.append(_together(layers))
    return maps, outside


def _spread(model: SavedModel, parts: Sequence[np.ndarray], given: np.ndarray, i: int) -> np.ndarray:
    """(m, h, w): what each channel says (m, channels of all), at the places where the channel is active."""
    first, layers = 0, []
    for part, shape in zip(parts, model.shapes, strict=True):
        active = np.abs(part[i].astype(np.float64).reshape(-1, shape[-1])[-_places(shape) :])
        total = active.sum(axis=0)
        share = np.where(total > 0, active / np.where(total > 0, total, 1), 1 / len(active))
        layers.append((given[:, first : first + shape[-1]] @ share.T).reshape(len(given), *_grid(shape)))
        first += shape[-1]
    return _together(layers)


def _together(layers: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of maps (m, h, w) of several grids, on the finest grid that all divide. What a place says is shared."""
    height, width = (math.lcm(*(layer.shape[side] for layer in layers)) for side in (1, 2))

    def fine(layer: np.ndarray) -> np.ndarray:
        down, right = height // layer.shape[1], width // layer.shape[2]
        return np.asarray(layer.repeat(down, axis=1).repeat(right, axis=2) / (down * right))

    return np.asarray(sum(map(fine, layers)))


def _part(made: Mapping[str, Any]) -> tuple[str, int]:
    """Which part of a photo rows see: after a first resize that depends on the size of the square."""
    return str(made["resize"]), int(made["input_size"]) if any(map(str.isdigit, str(made["resize"]))) else 0


def _places(shape: tuple[int, ...]) -> int:
    """How many places a row of this shape has; 0 where it has none."""
    if len(shape) == 3:
        return shape[0] * shape[1]
    return math.isqrt(shape[0]) ** 2 if len(shape) == 2 else 0


def _grid(shape: tuple[int, ...]) -> tuple[int, int]:
    return (shape[0], shape[1]) if len(shape) == 3 else (math.isqrt(shape[0]),) * 2
