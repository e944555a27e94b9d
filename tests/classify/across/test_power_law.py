"""Learning curves that are known are extrapolated within their band."""

import numpy as np
import pytest

from classify.across.power_law import expected

SIZES = [5, 10, 20, 50, 100, 200, 375]


def test_a_curve_without_noise_is_found_again() -> None:
    errors = np.array([0.1 + 0.9 * size**-0.5 for size in SIZES])
    found = expected(SIZES, 1 - errors[None], 750)
    assert found.accuracy == pytest.approx(1 - (0.1 + 0.9 * 750**-0.5), abs=0.01)
    assert found.low <= found.accuracy <= found.high


def test_the_band_holds_what_is_to_come() -> None:
    """Of 60 simulated curves with the noise of 1,250 test rows, at least nine in ten."""
    random = np.random.default_rng(1)
    held = 0
    for _ in range(60):
        a, b, c = random.uniform(0.4, 1.2), random.uniform(0.2, 0.8), random.uniform(0, 0.25)
        truth = np.clip([c + a * size**-b for size in SIZES], 0, 1)
        noise = 0.15 / np.sqrt(10 * np.array(SIZES))
        seen = [random.binomial(1250, truth) / 1250 + random.normal(0, noise) for _ in range(5)]
        found = expected(SIZES, 1 - np.array(seen), 750)
        held += found.low <= 1 - (c + a * 750**-b) <= found.high
    assert held >= 54


def test_too_few_sizes_promise_nothing() -> None:
    assert expected([5, 10], np.ones((5, 2)), 20) is None
    assert expected([5, 10, 20], np.ones((1, 3)), 40).high == 1.0
