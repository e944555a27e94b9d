"""Slopes of decisions along a row, of models whose decisions are not linear in it."""

from typing import Any

import numpy as np

from classify.classical.answering import Kernel, Landmarks
from classify.classical.nystrom import kernels
from classify.rows import row_chunks, unit_rows


def kernel_gradient(machine: Kernel | Landmarks, rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Of ∑ α exp(−γ|x − s|²) over the support rows s, along x.

    A class's decision is the mean of those against each other class.

    Args:
        machine: fitted.
        rows: (k, d) float64 of unit length.
        codes: (k, m) int64 class indices.

    Returns:
        (k, m, d) float64.
    """
    support = machine.rows if not isinstance(machine.rows, np.ndarray) else np.asarray(machine.rows)
    near = np.concatenate(list(kernels(support, rows.astype("f4"), machine.gamma))).T.astype(np.float64)  # (k, s)
    weights = np.stack([[_alpha(machine, code) for code in each] for each in codes.tolist()]) * near[:, None, :]
    slope, first = np.zeros((*codes.shape, rows.shape[1])), 0
    for piece in row_chunks(support):
        slope += weights[..., first : first + len(piece)] @ unit_rows(piece).astype(np.float64)
        first += len(piece)
    return np.asarray(2 * machine.gamma * (slope - weights.sum(axis=-1)[..., None] * rows[:, None, :]))


def _alpha(machine: Kernel | Landmarks, code: int) -> np.ndarray:
    """(s,) what each support row counts in the decision for a class."""
    classes = len(machine.classes)
    if isinstance(machine, Landmarks):
        return np.asarray(machine.coef[0] * (1 if code else -1) if len(machine.coef) == 1 else machine.coef[code])
    if classes == 2:
        return np.asarray(machine.dual[0] * (1 if code else -1))
    ends = np.cumsum(machine.counts)
    own = [slice(end - count, end) for end, count in zip(ends, machine.counts, strict=True)]
    alpha = np.zeros(machine.dual.shape[1])
    for other in range(classes):
        if other == code:
            continue
        first, second, sign = (code, other, 1) if code < other else (other, code, -1)
        alpha[own[first]] += sign * machine.dual[second - 1, own[first]]
        alpha[own[second]] += sign * machine.dual[first, own[second]]
    return alpha / (classes - 1)


def dense_gradient(network: Any, rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Of a dense head's scores before its softmax, along the row: `dense_head` taken backwards.

    Where a number is zero, its signed root has no slope; it is nothing to show either.

    Args:
        network: of `dense_head`.
        rows: (k, d) float64.
        codes: (k, m) int64 class indices.

    Returns:
        (k, m, d) float64.
    """
    by_kind: dict[str, list[Any]] = {}
    for layer in network.layers:
        by_kind.setdefault(type(layer).__name__, []).append(layer)
    has_roots = "Sqrt" in {type(each).__name__ for each in network.operations}
    x, is_scaled = rows, "Normalization" in by_kind
    if is_scaled:
        (centre,) = by_kind["Normalization"]
        mean, deviation = (np.asarray(each, np.float64).reshape(-1) for each in (centre.mean, centre.variance))
        deviation = np.sqrt(deviation)
        root = np.sign(rows) * np.sqrt(np.abs(rows)) if has_roots else rows
        length = np.linalg.norm(root, axis=1, keepdims=True)
        unit = root / np.where(length == 0, 1, length)
        x = (unit - mean) / deviation
    weights = [[np.asarray(part, np.float64) for part in layer.get_weights()] for layer in by_kind["Dense"]]
    active = []
    for kernel, bias in weights[:-1]:
        x = x @ kernel + bias
        active.append(x > 0)
        x = np.maximum(x, 0)
    slope = weights[-1][0].T[codes]  # (k, m, units)
    for (kernel, _), on in zip(weights[-2::-1], active[::-1], strict=True):
        slope = (slope * on[:, None, :]) @ kernel.T
    if not is_scaled:
        return np.asarray(slope)
    slope = slope / deviation
    along = np.einsum("kmd,kd->km", slope, unit)[..., None] * unit[:, None, :]  # scaling to unit length takes it away
    slope = (slope - along) / np.where(length == 0, 1, length)[:, None, :]
    if not has_roots:
        return np.asarray(slope)
    by_root = np.where(rows != 0, 0.5 / np.sqrt(np.where(rows != 0, np.abs(rows), 1)), 0)
    return np.asarray(slope * by_root[:, None, :])


def shap(estimator: Any, rows: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """XGBoost's own SHAP values (Lundberg et al., 2020): (k, m, d) of each number of a row, and (k, m) the constant.

    Args:
        estimator: `XGBClassifier`.
        rows: (k, d).
        codes: (k, m) int64 class indices.
    """
    from xgboost import DMatrix

    given = np.asarray(estimator.get_booster().predict(DMatrix(rows.astype("f4")), pred_contribs=True), np.float64)
    if given.ndim == 2:  # two classes: the second's
        given = np.stack([-given, given], axis=1)
    picked = np.take_along_axis(given, codes[..., None], axis=1)
    return picked[..., :-1], picked[..., -1]
