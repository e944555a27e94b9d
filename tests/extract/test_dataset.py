import os
from pathlib import Path

import numpy as np
import pytest
from tiny import copies, csv, food, photos

from extract.images.dataset import scan
from features import Refused


def test_class_folders(photo_folder: Path) -> None:
    """Guards the first layout: sorted paths, labels by folder name, no split of its own; other files are left out."""
    for stranger in ("class0/notes.txt", "class1/.hidden.png", ".cache/x.png", "loose.png"):
        (photo_folder / stranger).parent.mkdir(exist_ok=True)
        (photo_folder / stranger).write_text("")
    copies(photo_folder, "class2/deeper/z.PNG")
    listing = scan(str(photo_folder))
    kinds = ["png", "jpg"] * 3
    expected = [f"class{label}/{i}.{kind}" for label in range(3) for i, kind in enumerate(kinds)]
    assert listing.paths == [*expected, "class2/deeper/z.PNG"]
    assert listing.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 7
    assert (listing.name, listing.root, listing.split) == ("photos", photo_folder, None)
    assert listing.label_names == ["class0", "class1", "class2"]
    size, mtime_ns = listing.stats()
    assert size[3] == (photo_folder / expected[3]).stat().st_size
    assert mtime_ns[3] == (photo_folder / expected[3]).stat().st_mtime_ns


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "TEST")])
def test_split_folders(tmp_path: Path, names: tuple[str, str, str]) -> None:
    """Guards the second layout: train, val and test folders of class folders, by their usual names."""
    train, val, test = names
    copies(tmp_path, f"{train}/b/1.png", f"{train}/a/2.png", f"{val}/a/3.png", f"{test}/b/4.png")
    listing = scan(str(tmp_path))
    assert listing.paths == [f"{train}/a/2.png", f"{train}/b/1.png", f"{val}/a/3.png", f"{test}/b/4.png"]
    assert listing.labels.tolist() == [0, 1, 0, 1]
    assert listing.split is not None
    assert listing.split.tolist() == [0, 0, 1, 2]


def test_split_folders_that_are_not(tmp_path: Path) -> None:
    """Guards the messages for half a split."""
    copies(tmp_path, "train/a/1.png", "train/b/2.png")
    with pytest.raises(Refused, match="is split, but has no images for train or none for test"):
        scan(str(tmp_path))
    copies(tmp_path, "test/a/1.png", "dogs/b/2.png")
    with pytest.raises(Refused, match="has train/val/test folders and dogs beside them: is that a split or a class"):
        scan(str(tmp_path))


def test_food101(tmp_path: Path) -> None:
    """Guards the third layout: Food-101's id lists decide what is in and where."""
    listing = scan(str(food(tmp_path)))
    assert listing.paths == [
        *("images/pie/0.jpg", "images/pie/1.jpg", "images/soup/0.jpg", "images/soup/2.jpg"),
        *("images/pie/2.jpg", "images/soup/1.jpg"),
    ]
    assert listing.labels.tolist() == [0, 0, 1, 1, 0, 1]
    assert listing.split is not None
    assert listing.split.tolist() == [0, 0, 0, 0, 2, 2]


def test_food101_damaged(tmp_path: Path) -> None:
    """Guards the messages for id lists that are cut short or missing."""
    food(tmp_path)
    with open(tmp_path / "meta" / "train.txt", "a") as file:
        file.write("pie\n")
    with pytest.raises(Refused, match=r"meta/train\.txt line 5: expected class/id, got 'pie'"):
        scan(str(tmp_path))
    (tmp_path / "meta" / "train.txt").unlink()
    with pytest.raises(Refused, match=r"meta/train\.txt cannot be read: No such file or directory"):
        scan(str(tmp_path))


def test_real_food101(shared: Path) -> None:
    """Guards the real dataset's counts and order, and `--classes` on it."""
    listing = scan(str(shared / "data" / "food101-10"))
    assert listing.split is not None
    assert np.bincount(listing.split).tolist() == [3750, 0, 1250]
    assert np.bincount(listing.labels).tolist() == [500] * 10
    train = (shared / "data" / "food101-10" / "meta" / "train.txt").read_text().split()
    assert listing.paths[:3750] == sorted(f"images/{name}.jpg" for name in train)
    two = scan(str(shared / "data" / "food101-10"), classes=2)
    assert two.label_names == ["apple_pie", "baby_back_ribs"]
    assert np.bincount(two.labels).tolist() == [500, 500]


def test_manifest(tmp_path: Path) -> None:
    """Guards the fourth layout: a CSV with quotes, any column order, unlabelled rows and paths beside it."""
    text = 'split,label,path\ntest,"pie, sweet",b.png\ntrain,soup,./a.png\ntrain,,d.png\nval,soup,c.png\n'
    listing = scan(csv(tmp_path, text))
    assert listing.paths == ["a.png", "d.png", "c.png", "b.png"]
    assert listing.label_names == ["pie, sweet", "soup"]
    assert listing.labels.tolist() == [1, -1, 1, 0]
    assert (listing.name, listing.root) == ("list", tmp_path)
    assert listing.split is not None
    assert listing.split.tolist() == [0, 0, 1, 2]


def test_manifest_without_split_and_with_bom(tmp_path: Path) -> None:
    """Guards what Excel writes (a byte order mark and CRLF), and a manifest that leaves the split to us."""
    listing = scan(csv(tmp_path, "path,label\r\na.png,x\r\nb.png,y\r\n", "utf-8-sig"))
    assert listing.paths == ["a.png", "b.png"]
    assert listing.split is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,class\na.png,x\n", r"list\.csv has the columns file, class; expected path,label or path,label,split"),
        ("", r"list\.csv has the columns \(none\); expected path,label"),
        ("path,label\n", r"no images in .*list\.csv\. Expected"),
        ("path,label\na.png,x\nb.png,y\n./a.png,x\n", r"list\.csv line 4: a\.png is there already, on line 2"),
        ("path,label,split\na.png,x,train\nb.png,y,dev\n", "line 3: split 'dev' is none of train, val, test"),
        (
            "path,label\na.png,x\ne.png,x\nf.png,y\n",
            r"names 2 files that are not there: line 3: e\.png, line 4: f\.png",
        ),
        ("path,label\n,x\n", "names 1 files that are not there: line 2: "),
        ("path,label\na.png,x\nb.png,x\n", r"list\.csv has only one class, 'x': a classifier needs two"),
        ("path,label\na.png,\nb.png,\n", "has no labels: a classifier needs two"),
    ],
)
def test_manifest_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    """Guards each message, with the line number where there is one."""
    with pytest.raises(Refused, match=message):
        scan(csv(tmp_path, text))


def test_a_file_that_is_no_manifest(tmp_path: Path) -> None:
    """Guards against a traceback for a photo, a NUL or Latin-1 text where a manifest was expected."""
    copies(tmp_path, "photo.png")
    with pytest.raises(Refused, match=r"photo\.png is no CSV manifest in UTF-8"):
        scan(str(tmp_path / "photo.png"))
    with pytest.raises(Refused, match=r"list\.csv is no CSV manifest in UTF-8"):
        scan(csv(tmp_path, "path,label\na.png,café\n", "latin-1"))
    with pytest.raises(Refused, match=r"list\.csv is no CSV manifest in UTF-8: field larger than field limit"):
        scan(csv(tmp_path, "path,label\na.png," + "x" * 200_000 + "\n"))


def test_classes(photo_folder: Path) -> None:
    """Guards `--classes`: the first so many by name, in every layout the same way; too few or too many are refused."""
    listing = scan(str(photo_folder), classes=2)
    assert listing.label_names == ["class0", "class1"]
    assert len(listing.paths) == 12
    for classes in (-1, 0, 1, 4):
        with pytest.raises(Refused, match=rf"--classes {classes}: .* has 3 classes; give a number from 2 to that"):
            scan(str(photo_folder), classes=classes)


def test_nothing_to_list(tmp_path: Path) -> None:
    """Guards the messages for a missing folder, an empty one, one without images and one with a single class."""
    with pytest.raises(Refused, match=r"no dataset at .*gone: no such folder or manifest .*digits"):
        scan(str(tmp_path / "gone"))
    with pytest.raises(Refused, match=r"no images in .* Expected one folder a class, each with image files in it"):
        scan(str(tmp_path))
    copies(tmp_path, "loose.png")
    with pytest.raises(Refused, match="no images in "):
        scan(str(tmp_path))
    photos(tmp_path, classes=1)
    with pytest.raises(Refused, match="has only one class, 'class0': a classifier needs two"):
        scan(str(tmp_path))


def test_a_name_that_is_not_utf8(photo_folder: Path) -> None:
    """Guards against a UnicodeEncodeError in the middle of the work: HDF5 holds paths, and class names, as UTF-8."""
    (photo_folder / "class0" / "0.png").rename(os.fsdecode(os.fsencode(photo_folder) + b"/class0/caf\xe9.png"))
    listing = scan(str(photo_folder))
    assert listing.nameless == {r"class0/caf\xe9.png"}
    assert r"class0/caf\xe9.png" in listing.paths
    (photo_folder / "class1").rename(os.fsdecode(os.fsencode(photo_folder) + b"/caf\xe9"))
    with pytest.raises(Refused, match=r"1 class names in .* are not UTF-8: caf\\xe9\. Rename these folders"):
        scan(str(photo_folder))


def test_digits_are_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Guards the dataset that needs no download: 1,797 real digits, said on stderr, not rendered a second time."""
    monkeypatch.chdir(tmp_path)
    listing = scan("digits")
    assert len(listing.paths) == 1797
    assert listing.label_names == list("0123456789")
    assert listing.root == tmp_path / "data" / "digits"
    told = capsys.readouterr()
    assert told.out == ""
    assert "rendered scikit-learn's 1797 handwritten digits to data/digits" in told.err
    scan("digits")
    assert capsys.readouterr().err == ""
