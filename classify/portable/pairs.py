"""Decisions between pairs of classes as operations of a `Target`: votes, and coupled probabilities."""

import numpy as np

from classify.portable.target import Target, Tensor

TINY = float(np.finfo(np.float32).tiny)


def margins(target: Target, pairs: Tensor, count: int) -> Tensor:
    """(n, k) votes with confidence below 1, of decisions (n, k(k−1)/2); see `Kernel.decide`."""
    confidence = target.linear(pairs, _sides(count))
    size = target.both("maximum", confidence, target.both("multiply", confidence, -1.0))
    scale = target.both("multiply", target.both("add", size, 1.0), 3.0)
    return target.both("add", _votes(target, pairs, count), target.both("divide", confidence, scale))


def coupled(target: Target, pairs: Tensor, count: int, temperature: float) -> Tensor:
    """(n, k) probabilities from decisions (n, k(k−1)/2); see `classify.classical.coupling.from_pairs`.

    The minimum of pᵀQp under Σp = 1 solves a bordered system there. Here it is p = A⁻¹1 / Σ(A⁻¹1) with A = Q + 11ᵀ: the
    border adds a constant under that condition. Q is singular where the pairs agree perfectly, and A never is, so that
    it can be eliminated without pivots, which no format's graph could choose.
    """
    sure = target.each("sigmoid", target.both("divide", pairs, temperature))
    none = target.both("multiply", target.part(sure, 1, 0, 1), 0.0)
    every = target.joined([sure, target.both("subtract", 1.0, sure), none])
    first, second = np.triu_indices(count, 1)
    place = np.full((count, count), 2 * len(first))
    place[first, second], place[second, first] = np.arange(len(first)), np.arange(len(first)) + len(first)
    r = target.shaped(target.columns(every, place.ravel()), (count, count))
    turned = target.shaped(target.columns(every, place.T.ravel()), (count, count))
    squares = target.reduced("sum", target.both("multiply", turned, turned), -1)
    diagonal = target.both("multiply", squares, np.eye(count))
    system = target.both("add", target.both("subtract", diagonal, target.both("multiply", r, turned)), 1.0)
    solved = target.both("maximum", _solved(target, system, count), TINY)
    found = target.both("divide", solved, target.reduced("sum", solved, -1))
    return _exchanged(target, found, first_largest(target, _votes(target, pairs, count), count), count)


def first_largest(target: Target, x: Tensor, count: int) -> Tensor:
    """(n, k) with 1 at the first largest number of each row, as `argmax` finds it, and 0 elsewhere."""

    def at_top(values: Tensor) -> Tensor:
        below = target.both("subtract", target.reduced("max", values, -1), values)
        return target.both("subtract", 1.0, target.each("positive", below))

    return at_top(target.both("multiply", at_top(x), np.arange(count, 0, -1)))


def _exchanged(target: Target, found: Tensor, label: Tensor, count: int) -> Tensor:
    """The probabilities with those of the label and of the likeliest class in each other's place."""
    likeliest = first_largest(target, found, count)
    own = target.reduced("sum", target.both("multiply", found, label), -1)
    gain = target.both("subtract", target.reduced("max", found, -1), own)
    moved = target.both("multiply", target.both("subtract", label, likeliest), gain)
    return target.both("add", found, moved)


def _solved(target: Target, system: Tensor, count: int) -> Tensor:
    """(n, k) solutions of (n, k, k) x = 1, by Gauss and Jordan."""
    ones = target.both("add", target.both("multiply", target.part(system, 2, 0, 1), 0.0), 1.0)
    work = target.joined([system, ones])
    for i in range(count):
        line = target.part(work, 1, i, i + 1)
        line = target.both("divide", line, target.part(line, 2, i, i + 1))
        others = target.both("subtract", target.part(work, 2, i, i + 1), np.eye(count)[:, i : i + 1])
        work = target.both("subtract", work, target.both("multiply", others, line))
    return target.shaped(target.part(work, 2, count, count + 1), (count,))


def _votes(target: Target, pairs: Tensor, count: int) -> Tensor:
    """(n, k): how many of its pairs each class wins."""
    second = np.triu_indices(count, 1)[1]
    lost_by_all = np.bincount(second, minlength=count)  # what each has if no first class of a pair wins
    return target.linear(target.each("positive", pairs), _sides(count), lost_by_all)


def _sides(count: int) -> np.ndarray:
    """(pairs, k): 1 for the first class of each pair, −1 for the second."""
    first, second = np.triu_indices(count, 1)
    return np.asarray(np.eye(count)[first] - np.eye(count)[second])
