"""Manifests as people have them: names of images, columns left out, tables of predictions."""

import unicodedata
from pathlib import Path

import pytest
from tiny import copies, csv

from extract.images.dataset import Listing, scan
from features import Refused


def labels(listing: Listing) -> dict[str, str]:
    """Path → label."""
    names = [*listing.label_names, ""]
    return {path: names[label] for path, label in zip(listing.paths, listing.labels, strict=True)}


def test_names_of_images(tmp_path: Path) -> None:
    """Guards ids without a suffix, Windows' paths and absolute ones: all become paths below the manifest's folder."""
    copies(tmp_path, "in/0001.JPG", "in/v1.5.png", "in/w.png")
    text = f"path,label\nin/0001,x\nin/v1.5,y\nin\\w.png,x\n{tmp_path / 'a.png'},y\n./b.png,x\n"
    listing = scan(csv(tmp_path, text))
    assert listing.paths == ["a.png", "b.png", "in/0001.JPG", "in/v1.5.png", "in/w.png"]
    copies(tmp_path, "in/0001.png")
    with pytest.raises(Refused, match=r"line 2: in/0001 may be in/0001\.JPG, in/0001\.png: write it in full"):
        scan(csv(tmp_path, text))
    with pytest.raises(Refused, match=r"line 3: a\.png is there already, on line 2"):
        scan(csv(tmp_path, "path,label\na,x\na.png,y\n"))


def test_names_of_other_systems(tmp_path: Path) -> None:
    """104, 105: a table from Windows with its folders and a Mac's folder of accents; said once."""
    nfc, nfd = (unicodedata.normalize(form, "crème/é.JPG") for form in ("NFC", "NFD"))
    copies(tmp_path / "pets", nfd, "dog/1.jpg", "dog/2.jpeg")
    table = tmp_path / "pets" / "list.csv"
    text = f"path,label\nC:\\photos\\{nfc}\nC:\\photos\\dog\\1.JPG,d\nC:\\photos\\DOG\\2.jpeg,d\n"
    table.write_text(text.replace(f"{nfc}\n", f"{nfc},c\n"))
    listing = scan(str(table))
    assert labels(listing) == {nfd: "c", "dog/1.jpg": "d", "dog/2.jpeg": "d"}
    assert listing.notes == (
        "list.csv: paths below C:/photos are taken for paths here",
        f"list.csv: 3 names match but for case or the encoding of accents: {nfd}, dog/1.jpg, dog/2.jpeg",
    )
    table.write_text("path,label\nC:\\photos\\dog\\1.JPG,d\nC:\\photos\\cat\\1.JPG,d\n")
    with pytest.raises(Refused, match=r"names 1 files that are not there: line 3: C:.photos.cat.1\.JPG"):
        scan(str(table))
    table.write_text("path,label\ndog/1.jpg,d\nC:\\photos\\dog\\1.JPG,d\n")
    with pytest.raises(Refused, match=r"line 3: dog/1\.jpg is there already, on line 2"):
        scan(str(table))
    copies(tmp_path / "elsewhere", nfd)
    table.write_text(f"path,label\n../elsewhere/{nfc.removesuffix('.JPG')},c\ndog/1.jpg,d\n")
    assert labels(scan(str(table))) == {f"../elsewhere/{nfd}": "c", "dog/1.jpg": "d"}


def test_columns_with_accents(tmp_path: Path) -> None:
    """104: `--columns` as it is typed, and a header as a Mac's program wrote it."""
    text = unicodedata.normalize("NFD", "path,espèce\na.png,x\nb.png,y\n")
    assert scan(csv(tmp_path, text), columns=unicodedata.normalize("NFC", "label=espèce")).label_names == ["x", "y"]


def test_a_table_of_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards what `predict` writes beside the images: paths from where it was run, classes with the names of roles."""
    copies(tmp_path / "heap", "a.png", "b.png")
    monkeypatch.chdir(tmp_path)
    text = "path,label,probability,error,group,split\nheap/a.png,group,0.9,,0.9,0.1\nheap/b.png,split,0.8,,0.2,0.8\n"
    (tmp_path / "heap" / "list.csv").write_text(text)
    listing = scan("heap/list.csv")
    assert labels(listing) == {"a.png": "group", "b.png": "split"}
    assert (listing.groups, listing.split) == (None, None)
    assert listing.notes == ("list.csv: the labels are predictions of a model",)


def test_manifests_without_labels(tmp_path: Path) -> None:
    """Guards a list of paths alone, and `--columns label=` where labels are no classes; else a label is asked for."""
    listing = scan(csv(tmp_path, "filename\na.png\nb.png\n"))
    assert (listing.label_names, listing.labels.tolist(), listing.split) == ([], [-1, -1], None)
    text = "path,label,fold\na.png,1.5,train\nb.png,1.7,test\n"
    assert labels(scan(csv(tmp_path, text), columns="label=")) == {"a.png": "", "b.png": ""}
    split = scan(csv(tmp_path, text), columns="split=fold").split
    assert split is not None
    assert split.tolist() == [0, 2]
    with pytest.raises(Refused, match="has the columns path, breed; expected path,label"):
        scan(csv(tmp_path, "path,breed\na.png,x\n"))


def test_the_hint_at_groups(tmp_path: Path) -> None:
    """Guards the line about columns that are not used: it hints at groups where there are none yet."""
    text = "path,label,plant,site\na.png,x,1,n\nb.png,y,2,s\n"
    assert "did not use the columns plant, site. If images" in scan(csv(tmp_path, text)).notes[0]
    assert scan(csv(tmp_path, text), group="plant").notes == ("list.csv: did not use the columns site",)


def test_encodings(tmp_path: Path) -> None:
    """Guards Excel's "Unicode text": UTF-16 with a byte order mark, and tabs."""
    for encoding in ("utf-16", "utf-8-sig"):
        assert scan(csv(tmp_path, "path\tlabel\na.png\tcafé\nb.png\tthé\n", encoding)).label_names == ["café", "thé"]


def test_measurements_with_commas(tmp_path: Path) -> None:
    """61: numbers as much of Europe writes them are a measurement too; whole ones that repeat are classes."""
    copies(tmp_path, *(f"{i}.png" for i in range(30)))
    weights = "".join(f"{i}.png;{90 + i},{i}5\n" for i in range(30))
    with pytest.raises(Refused, match="look like a measurement: 30 different numbers for 30 images.* --columns label="):
        scan(csv(tmp_path, "path;label\n" + weights))
    assert len(scan(csv(tmp_path, "path;label\n" + weights), columns="label=").paths) == 30
    numbers = "".join(f"{i}.png;{i % 10}\n" for i in range(30))
    assert scan(csv(tmp_path, "path;label\n" + numbers)).notes == ()
