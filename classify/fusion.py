"""Several stacks of the same rows side by side, as if they were one stack of wider rows."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from classify.rows import row_chunks, unit_rows
from features import Refused, Stack
from features.layout import CHUNK_BYTES
from features.schema import recipe_attrs
from features.shards import end_to_end

MOSTLY = 0.5  # share of the images that another stack has too, from which both count as stacks of the same images
SAME = {"sha256": "image", "view": "view", "labels": "label", "split": "split"}  # field → what it is called in messages


@dataclasses.dataclass(frozen=True)
class SideBySide(Stack):
    """Rows of several stacks, each stack's scaled to unit length times the root of its weight, one beside the other.

    The weights sum to one, so that a whole row is again of unit length, and inner products of whole rows are the
    weighted sums of the stacks' cosines: fusing costs no more than adding their Gram matrices. What else is asked of a
    stack (labels, paths, …) the first of them answers.

    Attributes:
        parts: the stacks, the same rows of each.
        weights: of the stacks.
    """

    parts: tuple[Stack, ...] = ()
    weights: tuple[float, ...] = ()

    def take(self, which: np.ndarray) -> "SideBySide":
        """The rows that a boolean mask (n,) or an index picks out of these, in the index's order."""
        return dataclasses.replace(self, rows=self.rows[which], parts=tuple(part.take(which) for part in self.parts))

    def weighted(self, weights: Sequence[float]) -> "SideBySide":
        """The same rows under other weights."""
        return dataclasses.replace(self, weights=tuple(weights))

    @property
    def files(self) -> tuple[Path, ...]:
        """Those of all the stacks."""
        return tuple(file for part in self.parts for file in part.files)

    @cached_property
    def key(self) -> str:
        """SHA-256 (hex) of the stacks' keys, in order."""
        keys = [part.key for part in self.parts]
        if self._split is not None:
            keys.append(hashlib.sha256(self._split.tobytes()).hexdigest())
        return hashlib.sha256(json.dumps(keys).encode()).hexdigest()

    @cached_property
    def extract_seconds(self) -> float:
        """Seconds that stage one worked on all of them."""
        return sum(part.extract_seconds for part in self.parts)

    @property
    def X(self) -> np.ndarray:
        """(n, width) float32, in memory."""
        return np.concatenate([np.empty((0, int(np.prod(self.feature_shape))), "<f4"), *self.chunks()])

    def chunks(self, chunk_bytes: int = CHUNK_BYTES) -> Iterator[np.ndarray]:
        """These rows in order, (k, width) float32 pieces."""
        step = max(1, chunk_bytes // (4 * int(np.prod(self.feature_shape))))
        for start in range(0, len(self), step):
            some = np.arange(start, min(start + step, len(self)))
            yield np.hstack(
                [
                    unit_rows(np.asarray(part.take(some).X)) * np.float32(np.sqrt(weight))
                    for part, weight in zip(self.parts, self.weights, strict=True)
                ]
            )

    def columns(self, start: int, stop: int) -> np.ndarray:
        """Columns start:stop of these rows, (n, stop − start) float32."""
        blocks, first = [], 0
        for part, lengths, weight in zip(self.parts, self._lengths, self.weights, strict=True):
            width = int(np.prod(part.feature_shape))
            low, high = max(start - first, 0), min(stop - first, width)
            if low < high:
                scale = (np.sqrt(weight) / np.where(lengths == 0, 1, lengths)).astype("<f4")
                blocks.append(part.columns(low, high) * scale[:, None])
            first += width
        return np.hstack(blocks)

    def pooled(self, pool: str) -> np.ndarray:
        """Each stack pooled, (n, channels of all) float32, as they are: trees see no scale."""
        return np.hstack([part.pooled(pool) for part in self.parts])

    @cached_property
    def _lengths(self) -> list[np.ndarray]:
        """(n,) float64 lengths of the rows, of each stack."""
        return [
            np.sqrt(np.concatenate([np.einsum("ij,ij->i", p, p, dtype=np.float64) for p in row_chunks(part)]))
            for part in self.parts
        ]


def end_to_end_or_apart(stacks: Sequence[Stack]) -> list[Stack]:
    """Stacks of the same images as they are; those of different images, shards of one dataset, as one.

    Raises:
        Refused: some images are the same and some are not, or the shards do not fit together.
    """
    first = {digest.tobytes() for digest in stacks[0].field("sha256")}
    shares = [np.mean([digest.tobytes() in first for digest in stack.field("sha256")]) for stack in stacks[1:]]
    same_recipe = all(recipe_attrs(stack.attrs) == recipe_attrs(stacks[0].attrs) for stack in stacks)
    if max(shares) < MOSTLY and (same_recipe or max(shares) == 0):
        return [end_to_end(stacks)]
    if same_recipe and min(shares) < MOSTLY:
        told = [f"{stack.path}: {share:.0%}" for stack, share in zip(stacks[1:], shares, strict=True)]
        raise Refused(
            f"some of these stacks are of the images of {stacks[0].path}, and some are not: {', '.join(told)} of their "
            "images are in it. Give stacks of the same images, or shards of different ones. Shards become one stack by "
            "python -m features index SHARD … --out shards.json"
        )
    return list(stacks)


def parts(stack: Stack) -> tuple[Stack, ...]:
    """The stacks that a stack is fused of; alone, the one itself."""
    return stack.parts if isinstance(stack, SideBySide) else (stack,)


def side_by_side(stacks: Sequence[Stack]) -> SideBySide:
    """Stacks of the same rows as one, under equal weights.

    Raises:
        Refused: they are not of the same rows; the message names the first that differs.
    """
    first = stacks[0]
    for other in stacks[1:]:
        if len(other) != len(first):
            raise Refused(f"{other.path} has {len(other)} rows, {first.path} {len(first)}: {ALIKE}")
        if other.label_names != first.label_names:
            raise Refused(f"{other.path} has other class names than {first.path}: {ALIKE}")
        if other.groups != first.groups:
            raise Refused(f"{other.path} has other groups than {first.path}: {ALIKE}")
        differs = {
            what: (first.field(field) != other.field(field)).reshape(len(first), -1).any(axis=1)
            for field, what in SAME.items()
        }
        if (rows := np.flatnonzero(np.any(list(differs.values()), axis=0))).size:
            row = int(rows[0])
            what = next(name for name, there in differs.items() if there[row])
            raise Refused(
                f"row {row} differs in its {what}: {first.paths[row]} in {first.path}, {other.paths[row]} in "
                f"{other.path}: {ALIKE}"
            )
    equal = tuple(1 / len(stacks) for _ in stacks)
    width = sum(int(np.prod(stack.feature_shape)) for stack in stacks)
    known: dict[str, Any] = {f.name: getattr(first, f.name) for f in dataclasses.fields(Stack)}
    return SideBySide(**known | {"feature_shape": (width,)}, parts=tuple(stacks), weights=equal)


def weightings(count: int) -> list[tuple[float, ...]]:
    """Weights to try for a number of stacks: five shares for two; for more, all equal, then each in turn a half."""
    if count == 2:
        return [(w / 10, 1 - w / 10) for w in (1, 3, 5, 7, 9)]
    halves = [tuple(0.5 if i == one else 0.5 / (count - 1) for i in range(count)) for one in range(count)]
    return [tuple(1 / count for _ in range(count)), *halves]


def combined(products: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """`unit_products` of rows side by side, (n, n), from those of each stack."""
    total: np.ndarray = sum(weight * each for weight, each in zip(weights, products, strict=True))  # type: ignore[assignment]
    lengths = np.sqrt(total.diagonal())  # below 1 where a row of some stack is all zeros
    lengths = np.where(lengths == 0, 1, lengths)
    total /= lengths[:, None]
    total /= lengths
    return total


ALIKE = "stacks that are fused must be of the same rows, as one extraction with another BACKBONE= or LAYER= makes them"
