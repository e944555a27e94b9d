"""What a saved model does with rows, as operations of a `Target`: rows → probabilities.

Each function mirrors one of `classify.classical.answering`, whose numbers are float64 here and there; the files' are
float32.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from classify.answers import SavedModel
from classify.classical.answering import Kernel, Landmarks, Linear, Neighbours
from classify.portable.pairs import coupled, margins
from classify.portable.target import Target, Tensor
from classify.rows import unit_rows
from extract.recipe import Recipe
from features import Refused

MOST = 200 << 20  # bytes of rows that a model may bring into its file
NONE = "this model has no probabilities, as a class had a single train image: there is nothing to export"


Rows = tuple[Tensor, tuple[int, ...]]  # (n, *shape), and that shape


def rows_of(target: Target, recipe: Recipe, made: Mapping[str, Any]) -> Rows:
    """The rows of a recipe, as a stack would store them.

    Raises:
        Refused: see `Target.base`.
    """
    x, shape = target.base(recipe, made)
    if recipe.pool:
        x, shape = pooled(target, x, shape, recipe.pool), shape[-1:]
    return (target.halved(x) if recipe.store == "f16" else x), shape


def probabilities(target: Target, saved: SavedModel, parts: Sequence[Rows]) -> Tensor:
    """(n, all classes) probabilities of rows of each of the model's stacks; of pixels for the from-scratch network.

    Raises:
        Refused: the model has none, its rows would make the file too large, or the format cannot hold it.
    """
    model, estimator = saved.model, saved.estimator
    x = _whole(target, saved, parts) if model.takes != "pixels" else target.numbers(target.pixels)
    if model.network:
        given = target.network(estimator.model_, x)
    elif model.saved_as == "ubj":
        given = target.trees(estimator, x)
    else:
        given = HEADS[type(estimator)](target, estimator, x)
    if len(saved.classes) == saved.count:
        return given
    return target.linear(given, np.eye(saved.count)[saved.classes])  # zero for classes that train had none of


def pooled(target: Target, x: Tensor, shape: tuple[int, ...], pool: str) -> Tensor:
    """(n, c) of (n, *shape): see `features.reader.pool_rows`; flattened where there is no pool."""
    if pool in ("", "flatten") or len(shape) == 1:
        return target.shaped(x, (math.prod(shape),))
    x = target.shaped(x, (math.prod(shape[:-1]), shape[-1]))
    before = shape[0] - math.isqrt(shape[0]) ** 2 if len(shape) == 2 else 0
    if pool == "cls":
        return target.shaped(target.part(x, 1, 0, 1), shape[-1:])
    patches = target.part(x, 1, before, math.prod(shape[:-1])) if before else x
    return target.shaped(target.reduced("mean" if pool == "avg" else "max", patches, 1), shape[-1:])


def unit(target: Target, x: Tensor) -> Tensor:
    """Rows scaled to unit length; rows of zeros stay."""
    length = target.each("sqrt", target.reduced("sum", target.both("multiply", x, x), -1))
    is_zero = target.both("subtract", 1.0, target.each("positive", length))
    return target.both("divide", x, target.both("add", length, is_zero))


def _whole(target: Target, saved: SavedModel, parts: Sequence[Rows]) -> Tensor:
    """The rows as the model takes them, (n, width); see `SavedModel`."""
    flat = [pooled(target, x, shape, saved.pool) for x, shape in parts]
    if len(flat) == 1:
        return flat[0]
    if saved.pool == "flatten":
        flat = [target.both("multiply", unit(target, x), w**0.5) for x, w in zip(flat, saved.weights, strict=True)]
    return target.joined(flat)


def _linear(target: Target, fitted: Linear, x: Tensor) -> Tensor:
    decisions = target.linear(unit(target, x), fitted.coef.T, fitted.intercept)
    return _tempered(target, decisions, fitted.temperature, len(fitted.classes))


def _landmarks(target: Target, fitted: Landmarks, x: Tensor) -> Tensor:
    kernel, level = _kernel(target, x, fitted.rows, fitted.gamma)
    decisions = target.linear(kernel, fitted.coef.T, fitted.intercept + level * fitted.coef.sum(axis=1))
    return _tempered(target, decisions, fitted.temperature, len(fitted.classes))


def _machine(target: Target, fitted: Kernel, x: Tensor) -> Tensor:
    count = len(fitted.classes)
    kernel, level = _kernel(target, x, fitted.rows, fitted.gamma)
    if count == 2:
        decision = target.linear(kernel, fitted.dual.T, fitted.intercept + level * fitted.dual.sum(axis=1))
        return _tempered(target, decision, fitted.temperature, count)
    ends = np.cumsum(fitted.counts)
    against = []  # (n, classes − 1) of each class: its rows' part in the decisions against every other
    for own, end in zip(fitted.counts.tolist(), ends.tolist(), strict=True):
        dual = fitted.dual[:, end - own : end]
        against.append(target.linear(target.part(kernel, 1, end - own, end), dual.T, level * dual.sum(axis=1)))
    all_parts = target.joined(against)
    first, second = np.triu_indices(count, 1)
    of_first = target.columns(all_parts, first * (count - 1) + second - 1)
    of_second = target.columns(all_parts, second * (count - 1) + first)
    pairs = target.both("add", target.both("add", of_first, of_second), fitted.intercept)
    if fitted.temperature is None:
        raise Refused(NONE)
    if not fitted.is_coupled:
        return _tempered(target, margins(target, pairs, count), fitted.temperature, count)
    return coupled(target, pairs, count, fitted.temperature)


def _neighbours(target: Target, fitted: Neighbours, x: Tensor) -> Tensor:
    cosines = target.linear(unit(target, x), unit_rows(_held(fitted.rows, "nearest neighbours")).T)
    count = len(fitted.classes)
    table = np.eye(count)[fitted.votes.codes] * fitted.votes.weights[:, None]
    votes = target.rows(table, target.largest(cosines, min(fitted.k, len(fitted.rows))))
    found = target.shaped(target.reduced("sum", votes, 1), (count,))
    shares = target.both("divide", found, target.reduced("sum", found, -1))
    if count == 2:
        shares = target.both("subtract", target.part(shares, 1, 1, 2), target.part(shares, 1, 0, 1))
    return _tempered(target, shares, fitted.temperature, count)


def _kernel(target: Target, x: Tensor, rows: Any, gamma: float) -> tuple[Tensor, float]:
    """(n, s) RBF kernels with support rows (s, d), all scaled to unit length, less a level; and that level.

    Distances are taken from the support rows' mean and kernels from their usual level, so that sums of thousands keep
    as many digits in float32 as they can.
    """
    units = unit_rows(_held(rows, "the kernel machine"))
    mean = units.mean(axis=0)
    x = target.both("subtract", unit(target, x), mean)
    units = units - mean
    squares, own = target.reduced("sum", target.both("multiply", x, x), -1), np.einsum("ij,ij->i", units, units)
    lengths = target.both("add", squares, own)
    distances = target.both("subtract", lengths, target.both("multiply", target.linear(x, units.T), 2.0))
    kernel = target.each("exp", target.both("multiply", target.both("maximum", distances, 0.0), -gamma))
    level = float(np.float32(np.exp(-gamma * 2 * own.mean())))
    return target.both("subtract", kernel, level), level


def _tempered(target: Target, decisions: Tensor, temperature: float | None, classes: int) -> Tensor:
    """softmax(decisions / T); of two classes the decision is one column."""
    if temperature is None:
        raise Refused(NONE)
    if classes == 2:
        decisions = target.joined([target.both("multiply", decisions, -1.0), decisions])
    return target.each("softmax", target.both("divide", decisions, temperature))


def _held(rows: Any, who: str) -> np.ndarray:
    """Rows that a model answers by, (s, d).

    Raises:
        Refused: they are more than a file should hold.
    """
    count, width = rows.shape
    if (size := 4 * count * width) > MOST:
        raise Refused(
            f"{who} answers by {count:,} rows of {width:,} numbers, {size / 2**20:,.0f} MB; at most {MOST >> 20} MB go "
            "into a file. Fit it to pooled rows (--pool avg), or export a linear model (--model logreg)"
        )
    return np.asarray(rows)


HEADS: dict[type, Any] = {Linear: _linear, Landmarks: _landmarks, Kernel: _machine, Neighbours: _neighbours}
