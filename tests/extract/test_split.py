import hashlib

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from extract.images.split import seeded_split
from features.schema import SPLITS

TEST = 2


def hashes(images: list[int]) -> np.ndarray:
    """(rows, 32) uint8: a hash for each image number; equal numbers are identical images."""
    digests = [hashlib.sha256(str(image).encode()).digest() for image in images]
    return np.array([np.frombuffer(digest, "u1") for digest in digests]).reshape(-1, 32)


# (label, image) of every row: few image numbers, so that copies are common, within a class and across two
ROWS = st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 60)), min_size=1, max_size=120)
SEEDS = st.integers(-3, 10)
FEW = settings(max_examples=60, deadline=None, derandomize=True)


def split(rows: list[tuple[int, int]], seed: int) -> np.ndarray:
    labels, images = zip(*rows, strict=True)
    return seeded_split(np.array(labels, "i8"), hashes(list(images)), seed)


@FEW
@given(ROWS, SEEDS)
def test_identical_images_stay_together(rows: list[tuple[int, int]], seed: int) -> None:
    """Guards test rows against copies of themselves in train, even under another label."""
    places: dict[int, set[int]] = {}
    for (_, image), place in zip(rows, split(rows, seed).tolist(), strict=True):
        places.setdefault(image, set()).add(place)
    assert all(len(found) == 1 for found in places.values())


@FEW
@given(ROWS.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(range(len(rows))))), SEEDS)
@example(([(0, 0), (1, 0), (0, 1), (1, 2), (1, 3), (1, 4), (1, 5), (1, 6)], [1, 0, 2, 3, 4, 5, 6, 7]), 0)
@example(([(0, 0), (1, 0), (0, 1), (1, 2), (1, 3), (1, 4), (1, 5), (1, 6)], [1, 0, 2, 3, 4, 5, 6, 7]), 1)
@example(([(0, 0), (1, 0), (0, 1), (1, 2), (1, 3), (1, 4), (1, 5), (1, 6)], [1, 0, 2, 3, 4, 5, 6, 7]), 2)
def test_order_does_not_matter(given_rows: tuple[list[tuple[int, int]], list[int]], seed: int) -> None:
    """Guards against a split that follows names: reordered rows keep their places, even an image under two labels."""
    rows, order = given_rows
    assert split([rows[i] for i in order], seed).tolist() == split(rows, seed)[order].tolist()


@FEW
@given(st.lists(st.integers(1, 60), min_size=1, max_size=5), SEEDS)
def test_a_quarter_of_each_class(sizes: list[int], seed: int) -> None:
    """Guards the share: a quarter of each class to the nearest image, at least one where there are two."""
    rows = [(label, 1000 * label + i) for label, size in enumerate(sizes) for i in range(size)]
    places = split(rows, seed)
    for label, size in enumerate(sizes):
        count = int((places[[row[0] == label for row in rows]] == TEST).sum())
        assert abs(count - size / 4) <= 0.5 or (count == 1 and size > 1)
        assert count >= (size > 1)
        assert count < size or size == 0


@FEW
@given(st.sets(st.integers(0, 99)), st.sets(st.integers(100, 199), min_size=1), st.sets(st.integers(200, 299)), SEEDS)
def test_other_classes_do_not_matter(first: set[int], second: set[int], more: set[int], seed: int) -> None:
    """Guards stability: images added to one class, or a whole new class, leave the split of the others alone."""
    rows = [(0, i) for i in sorted(first)] + [(1, i) for i in sorted(second)]
    before = split(rows, seed)[len(first) :]
    grown = [(0, i) for i in sorted(first | more)] + [(1, i) for i in sorted(second)] + [(2, 777)]
    assert split(grown, seed)[len(first | more) : -1].tolist() == before.tolist()


def test_unlabelled_rows_are_train() -> None:
    """Guards test scores: nothing can be scored on a row without a label."""
    assert set(split([(-1, i) for i in range(20)], 0).tolist()) == {0}


def test_the_seed_matters() -> None:
    """Guards against a split that ignores its seed; the same seed gives the same split."""
    rows = [(i % 2, i) for i in range(80)]
    assert split(rows, 1).tolist() == split(rows, 1).tolist() != split(rows, 2).tolist()


def grouped(count: int = 400, size: int = 7) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images in five classes and in groups of `size` that lie across classes; every tenth belongs to nothing."""
    sha256 = np.random.default_rng(1).integers(0, 256, (count, 32), "u1")
    return np.arange(count) % 5, sha256, ["" if i % 10 == 0 else f"plant {i // size}" for i in range(count)]


def test_groups_stay_together() -> None:
    """Guards patients, plants and sites: none on both sides, a quarter of each class in test, whatever the order."""
    labels, sha256, groups = grouped()
    split = seeded_split(labels, sha256, 0, groups=groups)
    for group in set(groups) - {""}:
        assert len({s for s, g in zip(split.tolist(), groups, strict=True) if g == group}) == 1
    for label in range(5):
        assert 0.2 <= (split[labels == label] == SPLITS["test"]).mean() <= 0.3
    order = np.random.default_rng(2).permutation(len(labels))
    shuffled = seeded_split(labels[order], sha256[order], 0, groups=[groups[i] for i in order])
    assert np.array_equal(shuffled, split[order])
    assert not np.array_equal(seeded_split(labels, sha256, 1, groups=groups), split)


def test_groups_that_share_an_image_are_one() -> None:
    """Guards the same photo under two patients: both go to one side."""
    labels, sha256, groups = grouped()
    sha256[3] = sha256[393]
    for seed in range(8):
        split = seeded_split(labels, sha256, seed, groups=groups)
        both = [g in (groups[3], groups[393]) for g in groups]
        assert len(set(split[both])) == 1


def test_groups_keep_a_known_split() -> None:
    """Guards growth; a group that a known split divides, since groups came later, is put on one side."""
    labels, sha256, groups = grouped()
    known = {sha256[1].tobytes(): SPLITS["test"], sha256[8].tobytes(): SPLITS["test"], sha256[9].tobytes(): 0}
    split = seeded_split(labels, sha256, 0, known=known, groups=groups)
    assert set(split[[i for i, g in enumerate(groups) if g == groups[1]]]) == {SPLITS["test"]}
    assert len(set(split[[i for i, g in enumerate(groups) if g == groups[8]]])) == 1


@FEW
@given(st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=9), min_size=1, max_size=4), SEEDS)
def test_every_class_of_two_groups_is_in_test_and_in_train(classes: list[list[int]], seed: int) -> None:
    """Guards the share where groups are large: as near to a quarter as they allow, and rows of each class on both
    sides."""
    labels = [label for label, sizes in enumerate(classes) for size in sizes for _ in range(size)]
    groups = [
        f"{label}-{i}" for label, sizes in enumerate(classes) for i, size in enumerate(sizes) for _ in range(size)
    ]
    places = seeded_split(np.array(labels, "i8"), hashes(list(range(len(labels)))), seed, groups=groups)
    for label, sizes in enumerate(classes):
        count = int((places[np.array(labels) == label] == TEST).sum())
        assert 0 < count < sum(sizes)
        assert abs(count - sum(sizes) / 4) <= max(sizes)


def test_a_class_that_lies_in_one_group_stays_in_train() -> None:
    """Guards a rare class: its only group is not set aside, whatever that would do for the other classes."""
    labels = np.array([0] * 20 + [1] * 20 + [2] * 3)
    groups = [f"p{i % 8}" for i in range(40)] + ["p0"] * 3
    for seed in range(40):
        assert set(seeded_split(labels, hashes(list(range(43))), seed, groups=groups)[-3:].tolist()) == {0}


def test_two_groups() -> None:
    """Guards the smallest case: one of them is the test rows."""
    split = seeded_split(np.arange(8) % 2, np.arange(256, dtype="u1").reshape(8, 32), 0, groups=["a"] * 4 + ["b"] * 4)
    assert sorted([len(set(split[:4])), len(set(split[4:]))]) == [1, 1] and split[0] != split[4]
