import dataclasses
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tiny import copies, csv, food, photos

from extract.images.dataset import scan
from extract.images.folders import image_files
from extract.images.shard import shard_of
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
    copies(tmp_path, "test/a/1.png", "test/b/2.png")
    with pytest.raises(Refused, match=r"is split, but has no images for train\. Call the images to learn from train"):
        scan(str(tmp_path))
    copies(tmp_path, "train/a/1.png", "dogs/b/2.png")
    with pytest.raises(Refused, match=r"has train/val/test folders and dogs beside them\. If these are classes, give"):
        scan(str(tmp_path))
    copies(tmp_path / "flat", "train/1.png", "test/2.png")
    with pytest.raises(Refused, match=r"has split folders without class folders in them\. Expected train/<class>"):
        scan(str(tmp_path / "flat"))


def test_validation_images_stand_in_for_test(tmp_path: Path) -> None:
    """Guards ImageNet's own layout, and a manifest's: `val` is scored on, and train alone is split by the seed."""
    copies(tmp_path / "a", "train/a/1.png", "train/b/2.png", "val/a/3.png", "val/b/4.png")
    listing = scan(str(tmp_path / "a"))
    assert listing.split is not None and listing.split.tolist() == [0, 0, 2, 2]
    assert listing.notes[0].startswith("there are no test images: the validation images are the test rows")
    assert listing.paths[2:] == ["val/a/3.png", "val/b/4.png"]
    listing = scan(csv(tmp_path, "path,label,split\na.png,x,train\nb.png,y,val\nc.png,x,val\nd.png,y,train\n"))
    assert listing.split is not None and listing.split.tolist() == [0, 0, 2, 2]
    copies(tmp_path / "b", "train/a/1.png", "train/b/2.png")
    listing = scan(str(tmp_path / "b"))
    assert listing.split is None and "a seeded quarter of each class is set aside" in listing.notes[0]


def test_system_folders_are_skipped(photo_folder: Path) -> None:
    """Guards against thumbnails of a NAS and what systems leave behind as classes, at any depth; named once."""
    before = scan(str(photo_folder))
    for folder in (
        "@eaDir/class0",
        "class1/@eaDir",
        "lost+found",
        "$RECYCLE.BIN/S-1",
        ".Trash-1000",
        "class0/#recycle",
    ):
        copies(photo_folder / folder, "thumb.png")
    after = scan(str(photo_folder))
    assert (after.paths, after.label_names) == (before.paths, before.label_names)
    assert after.notes == ("system folders were skipped: #recycle, $RECYCLE.BIN, @eaDir and 1 more",)
    assert not [path for path in image_files(photo_folder) if path.name == "thumb.png"]


def test_files_that_are_left_out_are_counted(tmp_path: Path) -> None:
    """Guards a class whose files nobody can read here, loose images, and every format that is decoded."""
    copies(tmp_path, *(f"cats/{i}.png" for i in range(3)), "dogs/1.bmp", "loose.png")
    for name in ("scans/1.xcf", "scans/2.xcf", "cats/1.xmp", "notes"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no image")
    listing = scan(str(tmp_path))
    assert listing.label_names == ["cats", "dogs"] and listing.notes == (
        "4 files are not images that can be read here: 2 .xcf, 1 .xmp, 1 without suffix",
        "1 images lie beside the class folders and are left out: loose.png",
        "1 class folders have no images, so they are no classes: scans",
    )
    suffixes = [
        ".jpg",
        ".mpo",
        ".jp2",
        ".j2k",
        ".apng",
        ".dib",
        ".pfm",
        ".pnm",
        ".psd",
        ".ico",
        ".dds",
        ".avif",
        ".heic",
    ]
    copied = tmp_path / "more" / "birds"
    for i, suffix in enumerate(suffixes):
        copied.mkdir(parents=True, exist_ok=True)
        (copied / f"{i}{suffix}").write_bytes(b"listed by its name, and opened later")
    assert len(list(image_files(copied))) == len(suffixes)


def test_images_without_classes(tmp_path: Path) -> None:
    """Guards people who want features and have no labels: every image, label -1, no split, and a note."""
    listing = scan(str(copies(tmp_path, "1.png", "2.png")))
    assert (listing.paths, listing.labels.tolist(), listing.label_names) == (["1.png", "2.png"], [-1, -1], [])
    assert listing.split is None and "its images are unlabelled" in listing.notes[0]
    with pytest.raises(Refused, match="--classes 2: .* has 0 classes"):
        scan(str(tmp_path), classes=2)


def test_classes_one_folder_too_deep(tmp_path: Path) -> None:
    """Guards the way on for a folder that holds the dataset's folder."""
    copies(tmp_path, "pets/cats/1.png", "pets/dogs/2.png")
    with pytest.raises(Refused, match="has only one class, 'pets': .* look like classes: give DATA=.*/pets"):
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
        ("photo,kind\na.png,x\n", r"list\.csv has the columns photo, kind; expected .* --columns path=NAME,label=NAME"),
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
        *(
            (
                "path,label\n" + "".join(f"{i}.png,{i / 3}\n" for i in range(30)),
                "look like a measurement: 30 different",
            ),
            ("path,label\n" + "".join(f"{i}.png,{i}\n" for i in range(30)), "look like a measurement: 30 different"),
        ),
    ],
)
def test_manifest_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    """Guards each message, with the line number where there is one."""
    copies(tmp_path, *(f"{i}.png" for i in range(30)))
    with pytest.raises(Refused, match=message):
        scan(csv(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "columns", "note"),
    [
        ("path;label\r\na.png;x\r\nb.png;y,z\r\n", None, ""),
        ("path\tlabel\na.png\tx\nb.png\ty,z\n", None, ""),
        ('filename,class\na.png,x\nb.png,"y,z"\n', None, "took the column filename as path and class as label"),
        ('image,label\na.png,x\nb.png,"y,z"\n', None, "took the column image as path"),
        ('image_id,category\na,x\nb,"y,z"\n', None, "took the column image_id as path and category as label"),
        ("photo;kind\na.png;x\nb.png;y,z\n", "path=photo,label=kind", ""),
        ('Path, Label\na.png, x\nb.png," y,z"\n', None, ""),
        (
            'id,path,label\n1,a.png,x\n2,b.png,"y,z"\n',
            None,
            "did not use the columns id. If images with the same",
        ),
    ],
)
def test_manifests_of_others(tmp_path: Path, text: str, columns: str | None, note: str) -> None:
    """Guards what spreadsheets and other tools write: their delimiters, line ends and names of columns."""
    listing = scan(csv(tmp_path, text), columns=columns)
    assert (listing.paths, listing.label_names) == (["a.png", "b.png"], ["x", "y,z"])
    assert [note in line for line in listing.notes] == ([True] if note else [])


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    """Guards the messages of `--columns` and `--group`."""
    manifest = csv(tmp_path, "path,label\na.png,x\nb.png,y\n")
    with pytest.raises(Refused, match=r"--columns where=path: expected path=NAME,label=NAME"):
        scan(manifest, columns="where=path")
    with pytest.raises(Refused, match=r"list\.csv has no column 'patient'; it has path, label"):
        scan(manifest, group="patient")
    with pytest.raises(Refused, match=r"--columns and --group are for CSV manifests, and .* is none"):
        scan(str(tmp_path), group="patient")


def test_groups(tmp_path: Path) -> None:
    """Guards a manifest's groups: its own column, or one that is named; a split that divides one is named."""
    text = "path,label,group,split\na.png,x,g,train\nb.png,y,h,train\nc.png,x,g,test\nd.png,y,,test\n"
    listing = scan(csv(tmp_path, text))
    assert listing.groups == ["g", "h", "g", ""]
    assert listing.notes == ("1 of 1 groups in test are in train too, so scores there are too high: g",)
    listing = scan(csv(tmp_path, text.replace("group", "plant")), group="plant")
    assert listing.groups == ["g", "h", "g", ""]
    assert scan(csv(tmp_path, text.replace("group", "plant"))).groups is None


def test_odd_labels_are_said(tmp_path: Path) -> None:
    """Guards labels that are several in one, and grades, which are classes."""
    listing = scan(csv(tmp_path, "path,label\na.png,rust;spot\nb.png,rust\nc.png,spot\n"))
    assert len(listing.label_names) == 3
    assert listing.notes[0].startswith(
        "1 labels look like several labels in one: rust;spot. Each combination is a class"
    )
    copies(tmp_path, *(f"{i}.png" for i in range(30)))
    lines = "".join(f"{i}.png,{i % 10}\n" for i in range(30))
    assert scan(csv(tmp_path, "path,label\n" + lines)).notes == ()


def test_a_file_that_is_no_manifest(tmp_path: Path) -> None:
    """Guards against a traceback for a photo, a NUL or Latin-1 text where a manifest was expected."""
    copies(tmp_path, "photo.png")
    with pytest.raises(Refused, match=r"photo\.png is no CSV manifest in UTF-8"):
        scan(str(tmp_path / "photo.png"))
    with pytest.raises(Refused, match=r"list\.csv is no CSV manifest in UTF-8"):
        scan(csv(tmp_path, "path,label\na.png,café\n", "latin-1"))
    with pytest.raises(Refused, match=r"list\.csv is no CSV file: field larger than field limit"):
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
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(Refused, match=r"no images in .*\(1 files are not images that can be read here: 1 \.txt\.\)"):
        scan(str(tmp_path))
    photos(tmp_path, classes=1)
    with pytest.raises(Refused, match="has only one class, 'class0': a classifier needs two"):
        scan(str(tmp_path))


def test_the_way_on_from_a_single_class(tmp_path: Path) -> None:
    """18: what the message names gives the same images, without labels: of a folder, a split one, a list, a zip."""
    copies(tmp_path / "one", "cat/1.png", "cat/2.png")
    copies(tmp_path / "split", "train/cat/1.png", "test/cat/2.png")
    for name, folder in (("one", "cat"), ("split", "train/cat")):
        with pytest.raises(
            Refused, match=r"needs two\. Expected one folder a class, .*\. For features without"
        ) as told:
            scan(str(tmp_path / name))
        place = str(told.value).rpartition("DATA=")[2]
        assert place == f"{tmp_path}/{name}/{folder}"
        assert scan(place).label_names == [] and "1.png" in scan(place).paths
    listed = csv(tmp_path, "path,label\na.png,x\nb.png,x\n")
    with pytest.raises(Refused, match=r"give --columns label= \(FIELDS=label=\)$"):
        scan(listed)
    assert scan(listed, columns="label=").label_names == []
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as file:
        file.write(tmp_path / "a.png", "cat/a.png")
    with pytest.raises(Refused, match="give an archive of its images alone, in no folder$"):
        scan(str(tmp_path / "one.zip"))


def test_linked_class_folders(tmp_path: Path) -> None:
    """Guards links between class folders, and between splits: each is read where it stands, and a loop still ends."""
    copies(tmp_path / "a", "x/1.png", "z/2.png")
    (tmp_path / "a" / "y").symlink_to(tmp_path / "a" / "x")
    (tmp_path / "a" / "x" / "loop").symlink_to(tmp_path / "a" / "x")
    assert scan(str(tmp_path / "a")).paths == ["x/1.png", "y/1.png", "z/2.png"]
    copies(tmp_path / "b", "train/x/1.png", "train/y/2.png", "test/x/3.png", "test/y/4.png")
    (tmp_path / "b" / "val").symlink_to(tmp_path / "b" / "test")
    assert scan(str(tmp_path / "b")).paths[2:4] == ["val/x/3.png", "val/y/4.png"]
    assert len(list(image_files(tmp_path / "a"))) == 2


def test_folders_within_class_folders(tmp_path: Path) -> None:
    """Guards the outer folder as the class; it is said where the classes may be the inner ones."""
    copies(tmp_path, "2023/cat/1.png", "2023/dog/2.png", "2024/cat/3.png")
    listing = scan(str(tmp_path))
    assert listing.label_names == ["2023", "2024"]
    assert listing.notes == ("class folders hold folders, and the outer one is the class: 2023/cat is 2023",)
    copies(tmp_path, "2023/4.png")
    assert scan(str(tmp_path)).notes == ()


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


def test_shards_are_the_whole(tmp_path: Path) -> None:
    """Guards `--shard`: every image is in exactly one, wherever the folder lies; a group stays together."""
    names = [f"{label}/{i}.png" for label in ("cat", "dog") for i in range(40)]
    whole = scan(str(copies(tmp_path / "photos", *names)))
    parts = [shard_of(whole, f"{i}/4") for i in (1, 2, 3, 4)]
    assert sorted(path for part in parts for path in part.paths) == sorted(whole.paths)
    assert all(8 < len(part.paths) < 32 for part in parts), "dealt evenly, but for chance"
    assert [part.name for part in parts] == [f"photos-{i}of4" for i in (1, 2, 3, 4)]
    for part in parts:
        assert part.label_names == ["cat", "dog"]
        assert [part.label_names[label] for label in part.labels] == [path.split("/")[0] for path in part.paths]
    shutil.move(tmp_path / "photos", tmp_path / "elsewhere")
    assert shard_of(scan(str(tmp_path / "elsewhere")), "2/4").paths == parts[1].paths
    grouped = dataclasses.replace(whole, groups=[f"patient{i % 7}" for i in range(80)])
    held = [set(shard_of(grouped, f"{i}/3").groups or []) for i in (1, 2, 3)]
    assert sum(map(len, held)) == 7
    for wrong in ("0/4", "5/4", "1", "a/b", "1/0", "-1/4"):
        with pytest.raises(Refused, match=f"--shard {wrong}: give I/N with I from 1 to N"):
            shard_of(whole, wrong)
    with pytest.raises(Refused, match="--shard [0-9]+/5000: none of the 80 images of photos falls to it"):
        for i in range(1, 100):
            shard_of(whole, f"{i}/5000")
