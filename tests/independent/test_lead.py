"""What a comparison says of the score that leads it: by enumeration, by scikit-learn, and by simulation."""

import json
from collections import Counter
from fractions import Fraction
from itertools import product
from math import comb
from pathlib import Path

import numpy as np
import pytest
from evidence import record
from scipy.stats import permutation_test
from sklearn import metrics

from classify.across.cells import Answers
from classify.across.page import verdict as page_verdict
from classify.across.scoring import Entry, judged
from classify.across.splits import Split
from classify.comparison.judge import judge
from classify.comparison.resampling import difference_error
from classify.comparison.scores import scores
from classify.comparison.statistics import mcnemar
from classify.comparison.wording import verdict


def enumerated(only_a: list[int], only_b: list[int], rows: list[int]) -> float:
    """P-value of the difference of mean shares: all tosses of a coin for each row that only one model got right."""
    seen = abs(sum(Fraction(a - b, n) for a, b, n in zip(only_a, only_b, rows, strict=True)))
    chances: Counter[Fraction] = Counter()
    tosses = [a + b for a, b in zip(only_a, only_b, strict=True)]
    for heads in product(*(range(count + 1) for count in tosses)):
        total = sum(Fraction(2 * h - m, n) for h, m, n in zip(heads, tosses, rows, strict=True))
        ways = np.prod([comb(m, h) for m, h in zip(tosses, heads, strict=True)], dtype=object)
        chances[abs(total)] += Fraction(int(ways), 2 ** sum(tosses))
    return float(sum(chance for total, chance in chances.items() if total >= seen))


def rows_of(only_a: list[int], only_b: list[int], rows: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(a right, b right, class) of test rows of which the others are right with both."""
    of = np.repeat(np.arange(len(rows)), rows)
    place = np.concatenate([np.arange(n) for n in rows])
    first, second = np.array(only_a)[of], np.array(only_b)[of]
    return ~((place >= first) & (place < first + second)), place >= first, of


TABLES = [
    ([3, 0, 2], [1, 4, 0], [12, 30, 7]),
    ([5, 9], [1, 2], [11, 300]),
    ([0, 0, 1], [0, 3, 2], [4, 9, 25]),
    ([2, 2, 2], [1, 5, 1], [10, 10, 10]),
    ([7], [2], [40]),
    ([0, 0], [0, 0], [5, 9]),
]


@pytest.mark.parametrize("table", TABLES)
def test_mcnemar_within_classes_is_the_enumeration(table: tuple[list[int], list[int], list[int]]) -> None:
    """Guards the grid that sums are rounded to: classes of sizes without a common measure, and of one size."""
    assert mcnemar(*rows_of(*table)) == pytest.approx(enumerated(*table), abs=1e-12)


def test_mcnemar_within_classes_is_scipys_permutation_test() -> None:
    """Too many rows to enumerate: SciPy swaps the two models' answers at random."""
    random = np.random.default_rng(0)
    of = np.repeat(np.arange(12), np.geomspace(5, 300, 12).astype(int))
    a, b = random.random(len(of)) < 0.9, random.random(len(of)) < 0.86
    weight = 1 / np.bincount(of)[of]
    swapped = permutation_test(
        (a * weight, b * weight), lambda x, y: x.sum() - y.sum(), permutation_type="samples", n_resamples=1999, rng=1
    )
    assert mcnemar(a, b, of) == pytest.approx(swapped.pvalue, abs=0.03)


@pytest.mark.soak
def test_mcnemar_within_classes_everywhere() -> None:
    """Random tables against the enumeration; and no test of equal models rejects more often than it says."""
    random = np.random.default_rng(0)
    off = [0.0]
    for _ in range(300):
        rows = random.integers(3, 60, random.integers(1, 5))
        only = [[int(random.integers(0, min(6, n // 2 + 1))) for n in rows] for _ in range(2)]
        off.append(mcnemar(*rows_of(*only, rows.tolist())) - enumerated(*only, rows.tolist()))
    record(
        "p-value of McNemar's test within classes",
        "300 random tables, all outcomes enumerated",
        f"{max(off):.1g} too large at most, never too small",
    )
    assert min(off) > -1e-9 and max(off) < 0.002
    of = np.repeat(np.arange(6), [60, 40, 20, 10, 5, 5])
    told = [mcnemar(random.random(140) < 0.85, random.random(140) < 0.85, of) for _ in range(4000)]
    low = float(np.mean(np.array(told) < 0.05))
    record("the same, of models that are equally good", "4,000 simulated test sets", f"p < 0.05 in {100 * low:.1f} %")
    assert low < 0.055


def two_classifiers() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Labels of 300 and of 20 rows, and what a plain and a balanced classifier say: the plain one is right more often
    by 28 rows, and the balanced one has twice the share of the rare class."""
    y = np.repeat([0, 1], [300, 20])
    plain = np.where(np.arange(320) < 300, 0, np.arange(320) % 2)
    balanced = np.concatenate([np.arange(300) % 8 == 0, np.ones(20, bool)]).astype(int)
    return y, np.column_stack([plain, balanced]), ["common", "rare"]


def test_headline_difference_and_test_are_of_balanced_accuracy(tmp_path: Path) -> None:
    """Both reports: the best by balanced accuracy, which McNemar's test over all rows calls worse, leads by as much."""
    y, said, names = two_classifiers()
    a, b = y == said.T
    assert mcnemar(a, b) < 0.001 and a.sum() > b.sum()  # over all rows, the plain one is far ahead
    ahead = metrics.balanced_accuracy_score(y, said[:, 1]) - metrics.balanced_accuracy_score(y, said[:, 0])
    assert ahead > 0.15
    for name, column in zip(("plain", "balanced"), said.T, strict=True):
        (tmp_path / name).mkdir()
        result = {"model": name, "title": name, "label_names": names, "leads_by": "balanced_accuracy", "n_test": 320}
        (tmp_path / name / "result.json").write_text(json.dumps(result))
        lines = [
            f"{i}.jpg,{names[label]},{names[guess]}" for i, (label, guess) in enumerate(zip(y, column, strict=True))
        ]
        (tmp_path / name / "predictions.csv").write_text("\n".join(["path,label,predicted", *lines]) + "\n")
    rows, _ = judge({name: tmp_path / name for name in ("plain", "balanced")})
    assert [row["model"] for row in rows] == ["balanced", "plain"]
    assert rows[0]["difference"] == pytest.approx(ahead) and rows[0]["difference_interval"][0] > 0
    p = enumerated([38, 0], [0, 10], [300, 20])
    assert rows[0]["mcnemar_p"] == pytest.approx(p, abs=1e-9) and not rows[1]["tied"]
    told = " ".join(verdict(rows)).replace("\u202f", " ")
    assert told.startswith("Balanced is right on 93.7 % of a class’s test images, averaged over classes")
    assert "Against plain that is +18.7 points" in told and "a significant difference" in told

    split = Split(None, np.arange(320), np.arange(320), [], np.zeros(320, "u1"))
    entries = [Entry("stack", name, name, {}) for name in ("plain", "balanced")]
    for entry, column in zip(entries, said.T, strict=True):
        entry.add(Answers(column, None, np.empty(0, int), None, {}), y, 2)
    across = judged(entries, [split], "balanced_accuracy")
    assert [row["model"] for row in across] == ["balanced", "plain"]
    assert across[1]["difference"] == pytest.approx(-ahead) and across[1]["difference_interval"][1] < 0
    assert across[1]["p"] == pytest.approx(p, abs=1e-9) and not across[1]["tied"]
    assert page_verdict(across, "balanced_accuracy")[2] == "Every other one is significantly worse."


@pytest.mark.parametrize(("apart", "ahead"), [(0.2, 0.2), (0.6, 0.6), (0.3, 0.1), (0.1, 0.0)])
def test_the_floor_of_a_difference_is_its_error(apart: float, ahead: float) -> None:
    """Simulated: the difference on 500 images, of models of which one is right alone on so many."""
    random = np.random.default_rng(0)
    one, other = (apart + ahead) / 2, (apart - ahead) / 2
    drawn = random.multinomial(500, [one, other, 1 - one - other], 20_000)
    simulated = ((drawn[:, 0] - drawn[:, 1]) / 500).std()
    assert difference_error([apart], [ahead], [500]) == pytest.approx(simulated, rel=0.03)


def test_the_floor_of_a_difference_of_balanced_accuracy_is_its_error() -> None:
    """A class of few images has the most part in it."""
    random = np.random.default_rng(0)
    n, one, other = np.array([400, 30]), np.array([0.1, 0.3]), np.array([0.05, 0.1])
    drawn = [random.multinomial(m, [p, q, 1 - p - q], 20_000) for m, p, q in zip(n, one, other, strict=True)]
    simulated = np.mean([(each[:, 0] - each[:, 1]) / m for each, m in zip(drawn, n, strict=True)], axis=0).std()
    assert difference_error(one + other, one - other, n) == pytest.approx(simulated, rel=0.03)


def test_macro_f1_is_scikit_learns_where_a_class_is_predicted_and_absent() -> None:
    """A class without test rows that is predicted has an F1 of 0, and counts."""
    y, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 2, 1, 2, 2])
    found = scores(y, predicted, 4)
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(y, predicted, average="macro"))
    assert found["macro_f1"] < metrics.f1_score(y, predicted, labels=[0, 1], average="macro")
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, predicted, adjusted=False))
