"""The audit: against cleanlab and scikit-learn on the same folds, with labels flipped on purpose, and in a browser."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from browser import browser
from PIL import Image, ImageFilter
from sklearn.linear_model import LogisticRegression
from tiny import contents, photos, run, stack

from classify import audit
from classify.auditing.findings import audit_images
from classify.auditing.issues import label_issues, overlaps
from classify.auditing.out_of_fold import merged, out_of_fold
from classify.auditing.pixels import measure
from classify.folds import folds, source_groups
from classify.models import MODELS
from extract import extract
from features import Refused, Stack, open_stack
from features.archive import open_source
from features.nearest import unit_pieces, unit_rows


def noisy(n: int = 400, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, a tenth of which are wrong, probabilities, and which are wrong."""
    random = np.random.default_rng(seed)
    shows = random.integers(0, classes, n)
    wrong = random.random(n) < 0.1
    y = np.where(wrong, (shows + random.integers(1, classes, n)) % classes, shows)
    scores = 2.5 * np.eye(classes)[shows] + random.gumbel(size=(n, classes))
    return y, np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True), wrong


@pytest.mark.parametrize("seed", range(4))
def test_issues_are_cleanlabs(seed: int) -> None:
    """Guards confident learning: the joint of cleanlab, but for its rounding, and its issues in the same order."""
    from cleanlab.count import compute_confident_joint
    from cleanlab.filter import find_label_issues

    y, proba, _ = noisy(seed=seed)
    found = label_issues(y, proba)
    assert np.abs(found.joint - compute_confident_joint(y, proba)).max() <= 1
    same = find_label_issues(y, proba, filter_by="confident_learning", return_indices_ranked_by="self_confidence")
    assert [i for i in found.order if found.sure[i]] == same.tolist()


def test_overlaps() -> None:
    """Guards the pairs: each once, by the share of both classes' images, and none that do not overlap."""
    joint = np.array([[8.0, 2, 0], [4, 6, 0], [0, 0, 10]])
    assert overlaps(joint) == [(0, 1, 0.3)]


def synthetic(path: Path, flipped: int = 0, n: int = 300, classes: int = 5) -> tuple[Stack, np.ndarray]:
    """A stack of clouds, one a class, and which labels were flipped."""
    random, held = np.random.default_rng(0), contents(n, classes=classes)
    wrong = random.permutation(n)[:flipped]
    centres = 3 * random.standard_normal((classes, 24))
    held["features"] = (centres[held["labels"]] + random.standard_normal((n, 24))).astype("f4")
    held["labels"][wrong] = (held["labels"][wrong] + 1) % classes
    return open_stack(stack(path, held)), wrong


def test_out_of_fold_is_scikit_learns(tmp_path: Path) -> None:
    """Guards the shared axes: the probabilities of plain logistic regressions on the same folds, nearly."""
    images, _ = synthetic(tmp_path / "a.h5", flipped=15)
    units = np.concatenate(list(unit_pieces(images, "flatten")))
    found = out_of_fold(images, units, [])
    model = MODELS["logreg"].build(0)
    C = model.c / (1 - np.square(units.mean(axis=0)).sum())
    expected = np.zeros_like(found.proba)
    for train, held in folds(images, images.y):
        plain = LogisticRegression(C=C, tol=1e-8, max_iter=5000).fit(units[train], images.y[train])
        expected[held] = plain.predict_proba(units[held])
    assert np.array_equal(found.rows, np.arange(300))
    assert (found.proba.argmax(1) == expected.argmax(1)).mean() > 0.99 and np.abs(found.proba - expected).mean() < 0.01


def test_many_rows_are_judged_in_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the path of many rows: about the same probabilities without inner products of all pairs."""
    images, _ = synthetic(tmp_path / "a.h5", flipped=15)
    units = np.concatenate(list(unit_pieces(images, "flatten")))
    few = out_of_fold(images, units, [])
    monkeypatch.setattr("classify.across.feature_set.MOST_SHARED", 10)
    many = out_of_fold(images, units, [])
    assert (few.proba.argmax(1) == many.proba.argmax(1)).mean() > 0.98
    assert np.abs(few.proba - many.proba).mean() < 0.02


def test_copies_and_lone_classes(tmp_path: Path) -> None:
    """Guards the folds: near copies never straddle, and a class with one image is not judged, nor the others harmed."""
    images, _ = synthetic(tmp_path / "a.h5")
    assert merged(np.array([0, 1, 2, 3, 3]), [np.array([0, 4]), np.array([1, 2])]).tolist() == [0, 1, 1, 0, 0]
    groups = merged(source_groups(images), [np.array([0, 5, 10])])
    for train, held in folds(images, images.y, groups=groups):
        assert not set(groups[train]) & set(groups[held])
    few = images.take(np.r_[np.flatnonzero(images.y < 2), np.flatnonzero(images.y == 2)[:1]])
    found = out_of_fold(few, np.concatenate(list(unit_pieces(few, "flatten"))), [])
    assert len(found.rows) == len(few) - 1 and (found.proba[:, 2:] == 0).all()
    with pytest.raises(Refused, match="fewer than two classes have two images"):
        out_of_fold(images.take(images.y == 0), unit_rows(np.ones((60, 4), "f4")), [])


def test_flipped_labels_come_first(tmp_path: Path) -> None:
    """Guards the ranking, and what is sure."""
    images, wrong = synthetic(tmp_path / "a.h5", flipped=15)
    found = audit_images(images, None)
    first = found.judged.rows[found.issues.order[:15]]
    assert len(set(first) & set(wrong)) >= 14
    sure = {each.row for each in found.findings() if each.sure}
    assert len(sure & set(wrong)) >= 13 and len(sure) <= 20


@pytest.mark.slow
def test_flipped_digits_come_first(digits_stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the figure in docs/clean-labels.md: at least three quarters of the first 5 % were flipped."""
    monkeypatch.chdir(digits_stack.parents[2])
    before = open_stack(digits_stack)
    train = np.flatnonzero(before.split != 2)
    random = np.random.default_rng(0)
    wrong = random.permutation(train)[: len(train) // 20]
    labels = (before.y[wrong] + random.integers(1, 10, len(wrong))) % 10
    flipped = [f"{before.paths[i]},{label}" for i, label in zip(wrong, labels, strict=True)]
    (tmp_path / "flipped.csv").write_text("\n".join(["path,label", *flipped]))
    mine = shutil.copy(digits_stack, tmp_path / "a.h5")
    extract("digits", backbone="scattering", size=32, corrections=str(tmp_path / "flipped.csv"), out=str(mine))
    page = audit(str(mine), csv=True, out=str(tmp_path / "audit"))
    with open(page, newline="") as file:
        found = [line for line in csv.DictReader(file) if line["kind"] == "label"][: len(wrong)]
    right = {before.paths[i]: before.label_names[before.y[i]] for i in wrong}
    caught = [line for line in found if line["path"] in right]
    assert len(caught) / len(wrong) >= 0.75
    assert np.mean([line["suggested"] == right[line["path"]] for line in caught]) > 0.9


def test_photos_that_show_little(tmp_path: Path) -> None:
    """Guards each kind: black, white and blurred photos are found, sharp ones are not, and missing ones are named."""
    root = photos(tmp_path / "photos", classes=2, each=20, side=80)
    smooth = Image.open(root / "class0" / "0.png").filter(ImageFilter.GaussianBlur(4))
    smooth.save(root / "class0" / "blurred.png")
    for name, grey in (("black", 8), ("white", 250)):
        Image.new("RGB", (80, 80), (grey,) * 3).save(root / "class0" / f"{name}.png")
    paths = sorted(str(path.relative_to(root)) for path in root.rglob("*.*"))
    source = open_source(root)
    sha256 = np.stack([source.read(path).sha256 for path in paths])
    (root / "class1" / "0.png").unlink()
    (root / "class1" / "2.png").write_bytes((root / "class1" / "4.png").read_bytes())
    found = measure(source, paths, sha256, {})
    empty, blurred = found.findings()
    assert [paths[i] for i in empty] == ["class0/black.png", "class0/white.png"]
    assert [paths[i] for i in blurred] == ["class0/blurred.png"]
    told = {paths[i]: why for i, why in found.unread.items()}
    assert told == {"class1/0.png": "No such file or directory", "class1/2.png": "another file by now"}


# Names that would be markup or script, if anything on the page took them for that.
HOSTILE = ("<b>bold</b>", '"><script>window.bad = 1</script>', 'quote\' & "comma", =1')


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos in classes whose names are hostile, two of them the same, one of them gone since."""
    folder = tmp_path_factory.mktemp("hostile")
    root = photos(folder / "photos", classes=3, each=12)
    for i, name in enumerate(HOSTILE):
        (root / f"class{i}").rename(root / name.replace("/", "\u2215"))
    first = next(path for path in sorted(root.iterdir()))
    shutil.copy(first / "0.png", first / "copy.png")
    extract(str(root), backbone="scattering", size=32, out=str(folder / "a.h5"))
    (first / "1.jpg").rename(folder / "away.jpg")
    return folder


@pytest.mark.slow
def test_the_page_corrects(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the page in a browser: open, correct three, leave one out, undo one, save, apply, look again."""
    monkeypatch.chdir(hostile)
    page = audit("a.h5", most=20)
    before = open_stack("a.h5")
    with browser() as seen:
        seen.open(page)
        assert seen.run("document.querySelector('script:not([type])').textContent.length > 1000")
        assert seen.run("window.bad") is None and seen.run("document.querySelectorAll('b').length") == 0
        assert set(seen.run("cards.map((card) => card.dataset.label)")) <= set(before.label_names)
        paths = seen.run("cards.map((card) => card.dataset.path)")
        seen.press("j", "2", "1", "x", "0", "2", "u", "k", "j")
        assert seen.run("document.getElementById('count').textContent") == "2 corrected, 1 left out, 1 right"
        seen.press("2")
        other = "cards[6].querySelector('input')"
        seen.run(f"{other}.value = 'new, class'; {other}.dispatchEvent(new Event('change'))")
        assert seen.run("document.getElementById('new').textContent") == "New classes: new, class. Add --new-classes."
        seen.run("document.getElementById('save').click()")
        saved = shutil.copy(seen.saved("corrections.csv"), hostile)
        wanted = seen.run("[...decided]")
        assert [path for path, _ in wanted[:5]] == paths[:5]
        assert seen.run("document.querySelectorAll('.missing').length") == paths.count(gone(hostile))
        seen.open(page)  # what was decided outlives the tab, and can be undone
        assert seen.run("document.getElementById('count').textContent") == "4 corrected, 1 left out, 1 right"
        seen.press("u")
        assert seen.run("document.getElementById('count').textContent") == "3 corrected, 1 left out, 1 right"
        assert not seen.errors
    (hostile / "away.jpg").rename(hostile / "photos" / gone(hostile))
    command = ["extract", "photos", "--backbone", "scattering", "--size", 32, "--out", "a.h5"]
    done = run(*command, "--corrections", saved, "--new-classes", cwd=hostile)
    assert done.returncode in (0, 3), done.stderr
    after = open_stack("a.h5")
    got = {path: after.label_names[label] for path, label in zip(after.paths, after.y, strict=True)}
    assert {path: got.get(path, "-") for path, _ in wanted} == {path: label for path, (label, _) in wanted}
    again = json.loads(audit("a.h5", most=5).with_name("audit.json").read_text())
    assert again["checked"] == 1
    with browser() as seen:  # corrections that were made before stand in the next file too
        seen.open(hostile / "classify" / "runs" / "a" / "audit" / "audit.html")
        seen.run("document.getElementById('save').click()")
        assert seen.saved("corrections.csv").read_text().count("\n") == 7


def gone(folder: Path) -> str:
    """The photo that was deleted."""
    return next(path for path in open_stack(folder / "a.h5").paths if not (folder / "photos" / path).exists())


@pytest.mark.slow
def test_digits_are_their_own_keys(digits_stack: Path, tmp_path: Path) -> None:
    """Guards classes that are called 0 to 9: the key 7 means the class 7, wherever it stands."""
    page = audit(str(digits_stack), out=str(tmp_path / "audit"), data=str(digits_stack.parents[2] / "data" / "digits"))
    with browser() as seen:
        seen.open(page)
        seen.press("j", "7", "4")
        assert [label for _, (label, _) in seen.run("[...decided]")] == ["7", "4"]
