"""Faults 18–24: what is wrong with a dataset although its files can be read: refused, or said each time it is used."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import contents, csv, food, photos, stack

from extract.images.dataset import scan
from extract.stack.changes import Recorded
from extract.stack.leakage import LEAKED
from extract.stack.warnings import warnings_about
from features import Refused, open_stack, verify
from features.source import file_sha256


def with_split(root: Path) -> Path:
    """train/ and test/ of two classes, six and three images each."""
    photos(root / "train", classes=2, each=6, seed=1)
    photos(root / "test", classes=2, each=3, seed=2)
    return root


def warnings(text: str) -> list[str]:
    return [line.removeprefix("warning: ") for line in text.splitlines() if line.startswith("warning: ")]


@pytest.mark.slow
def test_class_names_that_differ_only_by_case(tmp_path: Path, extracted) -> None:
    """19: two classes all the same (letters have both), but said; a mistyped label would halve a class in silence."""
    data = photos(tmp_path / "photos", classes=2, each=4)
    (data / "class1").rename(data / "Class0")
    told = extracted(data)
    if len(scan(str(data)).label_names) < 2:
        pytest.skip("this file system ignores case itself")
    assert told.code == 0
    assert warnings(told.err) == ["class names that differ only by case or accents are kept apart: Class0 and class0"]


@pytest.mark.slow
def test_the_same_image_in_train_and_test(tmp_path: Path, extracted) -> None:
    """20: counted, listed and said on every run; `--no-leakage` drops the train copies, and the two are not mixed."""
    data = with_split(tmp_path / "photos")
    shutil.copy(data / "test" / "class0" / "0.png", data / "train" / "class0" / "copy.png")
    shutil.copy(data / "test" / "class1" / "1.jpg", data / "train" / "class1" / "copy.jpg")
    twins = [
        ("train/class0/copy.png", "test/class0/0.png"),
        ("train/class1/copy.jpg", "test/class1/1.jpg"),
    ]
    line = (
        "2 train images are in test too, so scores there are too high: "
        + ", ".join(f"{path} = {twin}" for path, twin in twins)
        + ". --no-leakage leaves the train copies out."
    )
    for _ in range(2):
        told = extracted(data)
        assert (told.code, warnings(told.err)) == (0, [line])
    told = extracted(data, "--no-leakage")
    assert told.code == 2
    assert "2 train copies of test images: in the stack, left out with --no-leakage: train/class0/copy.png" in told.err

    (tmp_path / "a.h5").unlink()
    for _ in range(2):
        told = extracted(data, "--no-leakage")
        assert (told.code, warnings(told.err)) == (3, [])
        for path, twin in twins:
            assert f"rejected {path}: {LEAKED}{twin}\n" in told.err
    opened = open_stack(tmp_path / "a.h5")
    assert len(opened) == 18
    assert not {path for path, _ in twins} & set(opened.paths)
    assert verify(str(tmp_path / "a.h5"))["images"] == 18
    told = extracted(data)
    assert told.code == 2
    assert "2 train copies of test images: left out of the stack, kept without --no-leakage" in told.err


@pytest.mark.slow
def test_views_of_a_train_copy_leave_with_it(tmp_path: Path, extracted) -> None:
    """20: with views, all rows of a train copy go; nobody else's do."""
    data = with_split(tmp_path / "photos")
    shutil.copy(data / "test" / "class0" / "0.png", data / "train" / "class0" / "copy.png")
    assert extracted(data, "--no-leakage", "--views", 2).code == 3
    opened = open_stack(tmp_path / "a.h5")
    assert "train/class0/copy.png" not in opened.paths
    assert len(opened) == 12 * 3 + 6


def test_the_two_pairs_of_food101(shared: Path) -> None:
    """20, on real photos: food101-10 has two train images that are in test too."""
    root = shared / "data" / "food101-10"
    listing = scan(str(root))
    assert listing.split is not None
    sha256 = np.array([np.frombuffer(file_sha256(root / path) or b"", "u1") for path in listing.paths])
    size, mtime_ns = listing.stats()
    images = Recorded(listing.paths, listing.label_names, listing.labels, listing.split, size, mtime_ns, sha256, {})
    assert warnings_about(images)[0].startswith("2 train images are in test too")


@pytest.mark.slow
def test_the_same_image_under_two_labels(tmp_path: Path, extracted) -> None:
    """21: one of the labels is wrong; both files are named. Both rows stay, on the same side of the split."""
    data = photos(tmp_path / "photos", classes=2, each=5)
    shutil.copy(data / "class0" / "2.png", data / "class1" / "twin.png")
    told = extracted(data)
    assert told.code == 0
    assert warnings(told.err) == [
        "1 images are there under two labels, one of which is wrong: class0/2.png = class1/twin.png"
    ]
    opened = open_stack(tmp_path / "a.h5")
    one, other = (opened.paths.index(path) for path in ("class0/2.png", "class1/twin.png"))
    assert opened.split[one] == opened.split[other]


@pytest.mark.slow
def test_a_class_only_in_test(tmp_path: Path, extracted, command) -> None:
    """22: said by both stages, and all models still fit."""
    data = with_split(tmp_path / "photos")
    photos(tmp_path / "more", classes=1, each=3, seed=5)
    shutil.move(tmp_path / "more" / "class0", data / "test" / "stranger")
    told = extracted(data)
    assert told.code == 0
    assert warnings(told.err) == ["1 classes have no train images, so nothing can learn them: stranger"]
    fitted = command("classify", "fit", tmp_path / "a.h5", "--model", "logreg", "--out", tmp_path / "logreg")
    assert fitted.code == 0
    assert "classes without train rows, no model can be right about these test rows: stranger" in fitted.err


def test_a_thousand_to_one(tmp_path: Path, command) -> None:
    """23: the imbalance is said with both counts; a model fits, and balanced accuracy shows what accuracy hides."""
    held = contents(rows=1340, shape=(2,), classes=2)
    held["labels"] = (np.arange(1340) >= 1337).astype("i8")
    held["split"] = np.where(np.arange(1340) % 4 == 3, 2, 0).astype("u1")
    held["labels"][1336:1340] = [0, 1, 0, 1]
    opened = open_stack(stack(tmp_path / "a.h5", held))
    (line,) = warnings_about(Recorded.of(opened))
    assert line.startswith("classes are uneven: 1004 train images of class0, 1 of class1. Read balanced accuracy")
    told = command("classify", "fit", tmp_path / "a.h5", "--model", "linearsvm", "--out", tmp_path / "m")
    assert told.code == 0
    assert told.out.split()[1] == "bal.acc", "balanced accuracy leads the table"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,split\na.png,x\nb.png,y,test\n", r"line 2: expected 3 fields \(path, label, split\)"),
        ("path,label\na.png\nb.png,y\n", r"line 2: expected 2 fields \(path, label\), as in the first line"),
        ("path,label\na.png,x\nb, c.png,y\n", r"line 3: expected 2 fields \(path, label\)"),
    ],
)
def test_a_manifest_with_fields_missing_or_too_many(tmp_path: Path, text: str, message: str) -> None:
    """24: a field short would be an unlabelled image in silence, and an unquoted comma another file's name."""
    with pytest.raises(Refused, match=message):
        scan(csv(tmp_path, text))


def test_an_image_that_is_listed_twice(tmp_path: Path) -> None:
    """24, in Food-101's layout: the same id in train and in test, with both lines."""
    food(tmp_path)
    with open(tmp_path / "meta" / "test.txt", "a") as file:
        file.write("soup/0\n")
    with pytest.raises(Refused, match=r"meta/test\.txt line 3: soup/0 is there already, in train\.txt line 1"):
        scan(str(tmp_path))


def test_files_that_a_list_spells_otherwise(tmp_path: Path) -> None:
    """104, in Food-101's layout: a suffix in capitals is the same file, and said; else the class would be rejected."""
    food(tmp_path)
    for file in (tmp_path / "images" / "soup").iterdir():
        file.rename(file.with_suffix(".JPG"))
    listing = scan(str(tmp_path))
    assert "images/soup/0.JPG" in listing.paths and len(listing.paths) == 6 and (listing.stats()[0] > 0).all()
    assert listing.notes[0].startswith("3 names match but for case or the encoding of accents: images/soup/0.JPG")


def test_hidden_folders_are_no_classes(tmp_path: Path) -> None:
    """What tools leave beside photos (thumbnails, notebooks' checkpoints) are no images of the class."""
    data = photos(tmp_path / "photos", classes=2, each=3)
    (data / "class0" / ".thumbnails").mkdir()
    Image.new("RGB", (4, 4)).save(data / "class0" / ".thumbnails" / "0.png")
    assert len(scan(str(data)).paths) == 6
