"""The report: one HTML file that needs nothing else, whatever was compared."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from tiny import contents, stack

from classify.comparison.drawing import ticks
from classify.comparison.judge import judge
from classify.comparison.photos import thumbnail
from classify.comparison.report import axis, learning, write_report
from classify.comparison.wording import natural, points, seconds, verdict
from features import open_stack
from features.source import Source

VOID = {"meta", "input", "img", "br", "hr", "link"}


class Page(HTMLParser):
    """Elements, with their attributes, and the text of a page; an element that is not closed is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.found, self.text = [], [], ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


def answered(folder, opened, model, error, proba=True, **more):
    """A model's folder: right but for a share `error` of the test rows, by a seeded draw."""
    test, random = opened.select("test"), np.random.default_rng(len(model))
    names, k = opened.label_names, len(opened.label_names)
    predicted = np.where(random.random(len(test)) < error, random.integers(0, k, len(test)), test.y)
    shares = random.dirichlet(np.ones(k), len(test)) / 2 + np.eye(k)[predicted] / 2
    lines = [",".join(["path", "label", "predicted", *(names if proba else [])])]
    for path, y, guess, share in zip(test.paths, test.y, predicted, shares.tolist(), strict=True):
        lines.append(",".join([path, names[y], names[guess], *(map(repr, share) if proba else [])]))
    result = {
        "model": model, "title": f"the {model} model", "label_names": names, "n_train": 7, "n_test": len(test),
        "extract_seconds": 1.0, "fit_seconds": 75.0, "predict_seconds": 0.1, "model_bytes": 10, "command": "c",
        "pool": "flatten", "views": 0, "params": {"C": 1.0}, "stack": str(opened.path), **more,
    }  # fmt: skip
    (folder / model).mkdir()
    (folder / model / "predictions.csv").write_text("\n".join(lines) + "\n")
    (folder / model / "result.json").write_text(json.dumps(result))
    return folder / model


def written(folder, opened, folders, failed=()):
    rows, said = judge(folders)
    path = write_report(folder / "report.html", rows, list(failed), said, opened.select("test"), 0)
    return Page(path.read_text()), path


def sha256(path):
    return np.frombuffer(hashlib.sha256(path.read_bytes()).digest(), "u1")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A stack of 120 rows in three classes, one of them with a name to escape, and its photos."""
    root = tmp_path_factory.mktemp("photos")
    held = contents(rows=120, classes=3)
    held["label_names"] = ["apple_pie", "b<i>&", "plain"]
    random = np.random.default_rng(0)
    for path in held["paths"]:
        (root / path).parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (50, 300, 3), "u1")).save(root / path)
    held["sha256"] = np.stack([sha256(root / path) for path in held["paths"]])
    return open_stack(stack(root / "a.h5", held, dataset_root=str(root), versions='{"keras": "3"}'))


def test_the_page_stands_alone(opened, tmp_path):
    """Nothing to load, every photo inside, every model named, failures with their reasons, all pictures described."""
    losses, accuracies = [2.0, 1.0, 1.5], [0.4, 0.5, 0.6]
    history = {"loss": losses, "val_loss": losses, "accuracy": accuracies, "val_accuracy": accuracies}
    folders = {
        "dense": answered(tmp_path, opened, "dense", 0.5, history=history),
        "svm": answered(tmp_path, opened, "svm", 0.3),
        "linearsvm": answered(tmp_path, opened, "linearsvm", 0.4, proba=False),
    }
    lost = {"model": "scratch", "title": "CNN from scratch", "failed": "no photos <here>"}
    page, path = written(tmp_path, opened, folders, [lost])
    source = path.read_text()
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|@import|<script|<link", source)
    assert path.stat().st_size < 3e6
    for model in folders:
        assert f"The {model} model" in page.text
    assert "CNN from scratch is not in the comparison: no photos <here>" in page.text
    assert "linearsvm: no probabilities." in page.text
    assert "Epoch 2 of 3" in page.text
    assert "Apple pie" in page.text
    assert "b<i>&" in page.text
    photos = page.all("img")
    assert len(photos) > 4
    assert all(photo["src"].startswith("data:image/jpeg") and "taken for" in photo["alt"] for photo in photos)
    outer = [attrs for attrs in page.all("svg") if attrs.get("class") and "preserveaspectratio" not in attrs]
    assert all(attrs["aria-label"] for attrs in outer)
    assert len([attrs for attrs in outer if attrs["class"] == "heatmap"]) == 3
    assert len([attrs for attrs in outer if attrs["class"] == "reliability"]) == 2
    assert len([attrs for attrs in outer if attrs["class"] == "curves"]) == 2


def test_the_page_is_the_same_every_time(opened, tmp_path):
    folders = {"svm": answered(tmp_path, opened, "svm", 0.3)}
    first = written(tmp_path, opened, folders)[1].read_bytes()
    assert written(tmp_path, opened, folders)[1].read_bytes() == first


def test_two_test_images_say_little_and_no_line_is_cut(tmp_path):
    """Both models are right on both images: wide intervals in words, and drawn to their ends."""
    few = open_stack(stack(tmp_path / "a.h5", contents(rows=8)))
    page, _ = written(tmp_path, few, {name: answered(tmp_path, few, name, 0) for name in ("dense", "svm")})
    assert "interval 34.2" in page.text and "−65.8 to +65.8" in page.text
    lines = [attrs for attrs in page.all("line") if attrs["class"] == "whisker"]
    assert len(lines) == 3  # two accuracies, one difference
    assert all(float(attrs["x1"].rstrip("%")) > 0 for attrs in lines)


def test_one_flawless_model_without_photos_or_map(tmp_path):
    """No errors, no baseline, rows too few for a map: the page leaves out what it has nothing to say of."""
    few = open_stack(stack(tmp_path / "few.h5", contents(rows=12)))
    page, _ = written(tmp_path, few, {"svm": answered(tmp_path, few, "svm", 0)})
    assert "It was compared with no other model" in page.text
    assert "What gets mistaken" not in page.text
    assert "A map of" not in page.text


def test_missing_photos_are_said_to_be_missing(tmp_path):
    lost = open_stack(stack(tmp_path / "lost.h5", contents(rows=40)))
    page, _ = written(tmp_path, lost, {"svm": answered(tmp_path, lost, "svm", 0.9)})
    assert page.all("img") == []
    assert "none could be read from /nowhere" in page.text


def test_a_hundred_classes_and_seven_models_stay_small(tmp_path):
    wide = open_stack(stack(tmp_path / "wide.h5", contents(rows=1212, classes=101)))
    names = ("dense", "a", "bb", "ccc", "dddd", "eeeeee", "fffffff")
    page, path = written(tmp_path, wide, {name: answered(tmp_path, wide, name, 0.8) for name in names})
    assert "The 101 classes are in the order of their names" in page.text
    assert path.stat().st_size < 1e6


def test_thumbnails_show_what_the_base_saw(tmp_path):
    """Whatever stage one reads: alpha on white, 16-bit grey not clipped, EXIF data that cannot be written anew."""
    Image.new("P", (40, 400)).save(tmp_path / "a.gif", transparency=0)
    Image.fromarray(np.full((40, 60), 30_000, "u2")).save(tmp_path / "b.png")
    odd = Image.Exif()
    odd[0x0112], odd[0x010F] = 6, "maker"
    Image.new("RGB", (60, 40), "gray").save(tmp_path / "c.jpg", exif=odd)
    data = (tmp_path / "c.jpg").read_bytes()
    (tmp_path / "c.jpg").write_bytes(data.replace(b"\x01\x0f\x00\x02", b"\x01\x00\x00\x02"))  # a text for the width
    for name, grey in (("a.gif", 255), ("b.png", 117), ("c.jpg", 128)):
        image = thumbnail(Source(tmp_path), name, sha256(tmp_path / name), {})
        square = Image.open(io.BytesIO(base64.b64decode(image.removeprefix("data:image/jpeg;base64,"))))
        assert (square.size, square.getpixel((80, 80))) == ((160, 160), (grey,) * 3), name


def test_no_thumbnail_of_what_is_no_photo_or_no_longer_the_one(tmp_path):
    """A page that is sent around shows the photos of its stack, and not whatever lies at their paths now."""
    (tmp_path / "b.jpg").write_bytes(b"no image")
    assert thumbnail(Source(tmp_path), "b.jpg", sha256(tmp_path / "b.jpg"), {}) is None
    assert thumbnail(Source(tmp_path), "c.jpg", np.zeros(32, "u1"), {}) is None
    Image.new("RGB", (60, 40)).save(tmp_path / "d.png")
    assert thumbnail(Source(tmp_path), "d.png", sha256(tmp_path / "d.png"), {})
    assert thumbnail(Source(tmp_path), "d.png", np.zeros(32, "u1"), {}) is None


def row(model, accuracy, difference=None, p=None):
    around = [accuracy - 0.02, accuracy + 0.02]
    return {
        "model": model, "title": f"{model} model", "n_test": 1250, "leads_by": "accuracy", "baseline": "dense",
        "accuracy": accuracy, "accuracy_interval": around, "difference": difference, "mcnemar_holm_p": p,
        "difference_interval": difference and [difference - 0.01, difference + 0.01],
    }  # fmt: skip


def test_the_verdict_says_what_is_significant():
    rows = [
        row("svm", 0.81, 0.03, 0.002),
        row("logreg", 0.79, 0.01, 0.3),
        row("dense", 0.78),
        row("cnn", 0.5, -0.28, 0),
    ]
    headline, around, rest = (text.replace("\u202f", " ") for text in verdict(rows))
    assert (headline, around) == ("Svm model is right on 81.0 % of 1,250 test images", "95 % interval 79.0 % to 83.0 %")
    assert "Against dense that is +3.0 points (interval +2.0 to +4.0), a significant difference (p = 0.002)." in rest
    assert "Of the others, cnn is significantly worse; logreg is not significantly different." in rest


def test_the_verdict_of_uneven_classes_is_of_balanced_accuracy():
    """The headline and the difference are of the same score."""
    best = row("svm", 0.75, 0.05, 0.002) | {"balanced_accuracy": 0.8, "balanced_accuracy_interval": [0.7, 0.9]}
    rows = [each | {"leads_by": "balanced_accuracy"} for each in (best, row("dense", 0.8), row("cnn", 0.5, -0.3, 0))]
    headline, _, rest = (text.replace("\u202f", " ") for text in verdict(rows))
    assert headline == "Svm model is right on 80.0 % of a class’s test images, averaged over classes"
    assert rest.startswith("Against dense that is +5.0 points")
    assert "Of the others, cnn is significantly worse." in rest


def test_the_verdict_when_the_baseline_is_best():
    rest = verdict([row("dense", 0.8), row("svm", 0.79, -0.01, 0.5), row("knn", 0.79, -0.01, 0.5)])[2]
    assert "It is also the baseline" in rest
    assert "svm and knn are not significantly different." in rest


@pytest.mark.parametrize(("low", "high"), [(0.752, 0.813), (0, 0), (-0.338, 0.024), (0.5, 1), (3, 4100)])
def test_ticks_hold_what_they_must(low, high):
    marks = ticks(low, high)
    assert marks[0] <= low
    assert marks[-1] >= high
    assert 2 <= len(marks) <= 8 or low == high


def test_an_axis_is_not_squashed_by_one_model_far_off():
    """Guards the figure's width; whoever is on the axis is on it with its whole interval."""
    far = axis([(0.75, 0.77, 0.8), (0.41, 0.43, 0.45)])
    assert far["ticks"][0] == pytest.approx(0.65)
    assert far["at"](0.43) < 0
    assert axis([(0.0, 0.79, 0.92)])["ticks"][0] == 0  # the best model's own line is never cut off
    assert axis([(0.0, 0.0, 0.0), (-0.35, -0.3, -0.2), (-0.01, 0.01, 0.02)])["ticks"][0] == pytest.approx(-0.15)
    spans = [(0.7, 0.8, 0.9), (0.5, 0.7, 0.8), (0.44, 0.55, 0.6), (0.1, 0.2, 0.3)]
    marks = axis(spans)["ticks"]
    assert marks[0] <= 0.44 and all(low >= marks[0] for low, value, _ in spans if value >= marks[0])


def test_names_are_in_natural_order():
    """Guards class folders 1, 2, 10, as people count them."""
    names = ["1", "10", "2", "b10", "b9", "a", "b", "10 euro", "9 euro"]
    assert sorted(names, key=natural) == ["1", "2", "9 euro", "10", "10 euro", "a", "b", "b9", "b10"]


def test_learning_curves_without_validation_rows():
    """A network that held nothing out, of too few images, has empty lists there; its train curve remains."""
    history = {"loss": [2.0, 1.0], "accuracy": [0.5, 0.6], "val_loss": [], "val_accuracy": []}
    loss, _, best = learning(history)
    assert best == 1
    assert "train" in loss
    assert "nan" not in loss
    assert "validation" not in loss


def test_numbers_as_people_read_them():
    assert [seconds(s).replace("\u202f", " ") for s in (0.084, 9.04, 66, 215, 4210)] == [
        "0.084 s", "9.0 s", "66 s", "3 min 35 s", "1 h 10 min"
    ]  # fmt: skip
    assert [points(d) for d in (0.0149, -0.0004, -0.02)] == ["+1.5", "0.0", "−2.0"]


def test_prediction_sets_are_shown(opened, tmp_path):
    """Of the models that have scores, and no section where none has."""
    sets = {"asked": 0.9, "covered": 0.917, "size": 1.264, "empty": 0.011, "single": 0.735}
    folders = {
        "dense": answered(tmp_path, opened, "dense", 0.5),
        "svm": answered(tmp_path, opened, "svm", 0.3, sets=sets),
    }
    page, _ = written(tmp_path, opened, folders)
    section = page.text.split("When not to answer")[1].split("Extraction is done once")[0]
    assert "Asked for 90\u202f% coverage, predict --coverage 0.9 gives" in section
    assert "The svm model91.7\u202f%1.2673.5\u202f%1.1\u202f%" in "".join(section.split("\n")).replace("  ", "")
    assert "The dense model" not in section
    page, _ = written(tmp_path, opened, {"dense": tmp_path / "dense"})
    assert "When not to answer" not in page.text
