"""float16 rows as float32."""

from typing import Any

import numpy as np

PIECE = 1 << 18  # numbers that a core's cache holds
BETWEEN = 0x7000_0000  # bits between sign and exponent, once float16's are widened to 32 and moved up by 13
SCALE = np.float32(2.0**112)  # between the exponents' origins: 15 in float16, 127 in float32
BEYOND = np.float32(2.0**16)  # what infinity and NaN would become, and no number in float16 reaches


def widened(rows: Any) -> np.ndarray:
    """Rows (n, d) of float32 or float16 as float32: an array as it is, or a copy.

    NumPy's own cast of float16 branches on every number that is zero or tiny. Rows after a ReLU are full of them, and
    the cast took several times as long.
    """
    rows = np.asarray(rows)
    if rows.dtype != np.float16:
        return rows.astype(np.float32, copy=False)
    out = np.empty(rows.shape, np.float32)
    given, wide = np.ascontiguousarray(rows).reshape(-1), out.reshape(-1)
    for start in range(0, len(wide), PIECE):
        here = slice(start, start + PIECE)
        bits, numbers = wide[here].view(np.int32), wide[here]
        np.copyto(bits, given[here].view(np.int16))
        bits <<= 13
        bits &= ~BETWEEN
        numbers *= SCALE
        if max(numbers.max(), -numbers.min()) >= BEYOND:
            numbers[:] = given[here]
    return out
