"""float16 rows as float32, against NumPy's own cast."""

import numpy as np
import pytest

from features.halves import PIECE, widened


def test_every_float16_is_numpys() -> None:
    """Guards the bits: all 65,536 numbers, with zeros, the tiny ones, infinities and NaN, alone and among others."""
    every = np.arange(1 << 16, dtype="u2").view("f2")
    for rows in (every.reshape(256, 256), np.resize(every, (5, PIECE // 2 + 3)), every.reshape(256, 256)[::3, 1::2]):
        assert np.array_equal(widened(rows).view("u4"), rows.astype("f4").view("u4"))


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_other_types(kind: str) -> None:
    """Guards what is float32 already, which is not copied, and no rows at all."""
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype(kind)
    assert np.array_equal(widened(rows), rows.astype("f4"))
    assert np.shares_memory(widened(rows), rows) == (kind == "f4")
    assert widened(np.empty((0, 5), "f2")).shape == (0, 5)
