"""Members of an ensemble: chosen by rows held out, as long as one helps."""

import numpy as np

from classify.across.cells import Answers
from classify.across.ensemble import chosen, ensemble

Y = np.arange(400) % 2


def says(seed: int, sure: float = 0.4) -> np.ndarray:
    """Probabilities that are right more often than not, with errors of their own."""
    share = np.clip(0.5 + sure / 4 + np.random.default_rng(seed).normal(0, sure, 400), 0.05, 0.95)
    return np.where(Y[:, None] == [0, 1], share[:, None], 1 - share[:, None])


def test_models_with_errors_of_their_own_help_and_a_copy_does_not() -> None:
    one, two = says(1), says(2)
    assert set(chosen({("a", "x"): one, ("b", "x"): two}, Y)) == {("a", "x"), ("b", "x")}
    assert len(chosen({("a", "x"): one, ("b", "x"): one.copy()}, Y)) == 1


def test_a_model_that_guesses_is_left_out() -> None:
    guess = np.full((400, 2), 0.5)
    assert chosen({("a", "x"): says(1, 0.1), ("b", "x"): guess}, Y) == [("a", "x")]


def test_the_mean_is_of_the_members_and_test_rows_decide_nothing() -> None:
    held, test = np.arange(300), np.arange(300, 400)
    cells = {}
    for i in (1, 2, 3):
        p = says(i)
        cells["set", f"m{i}"] = Answers(p[test].argmax(1), p[test], held, p[held].astype("f4"), {})
    cells["set", "trees"] = Answers(Y[test], says(4)[test], np.empty(0, int), None, {})
    found = ensemble(cells, Y)
    assert ("set", "trees") not in found.members
    mean = np.mean([cells[name].probabilities for name in found.members], axis=0)
    assert np.array_equal(found.answers.probabilities, mean)
    reversed_test = {name: each._replace(probabilities=each.probabilities[:, ::-1]) for name, each in cells.items()}
    assert ensemble(reversed_test, Y).members == found.members
    assert ensemble({("set", "trees"): cells["set", "trees"]}, Y) is None
