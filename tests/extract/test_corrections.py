"""Files of corrections as pages, people and spreadsheets write them."""

import unicodedata
from pathlib import Path

import pytest
from tiny import copies

from extract.images.corrections import Corrections
from extract.images.dataset import Listing, scan
from features import Refused


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two cats and two dogs."""
    return copies(tmp_path / "pets", "cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")


def corrected(pets: Path, text: str, encoding: str = "utf-8", new_classes: bool = False) -> Listing:
    file = pets.parent / "c.csv"
    file.write_text(text, encoding, newline="")
    return scan(str(pets), corrections=Corrections.read(str(file), new_classes))


def labels(listing: Listing) -> dict[str, str]:
    return {path: listing.label_names[label] for path, label in zip(listing.paths, listing.labels, strict=True)}


RIGHT = {"cat/1.png": "dog", "cat/2.png": "cat", "dog/1.png": "dog"}


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("path,label,reason\ncat/1.png,dog,\ndog/2.png,-,blurred\n", "utf-8"),
        ("path;label;reason\r\ncat/1.png;dog;\r\ndog/2.png;-;\r\n", "utf-8-sig"),
        ("label\tpath\r\ndog\tcat/1.png\r\n-\tdog/2.png\r\n", "utf-16"),
        ('Path,Label,note\n"cat\\1.png", dog ,\ncat/1.png,dog,\ndog/2.png,-\n', "utf-8"),
    ],
)
def test_corrections_are_applied(pets: Path, text: str, encoding: str) -> None:
    """Guards files that a spreadsheet saved: byte order mark, semicolons, tabs, UTF-16, Windows' paths, short lines."""
    listing = corrected(pets, text, encoding)
    assert labels(listing) == RIGHT
    assert listing.notes == ("c.csv: 1 labels corrected, 1 images left out",)
    assert listing.corrected[0][:2] == ("cat/1.png", "dog") and listing.corrected[1].label == "-"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path,label\ncat/9.png,dog\ncat/1.png,dog\n", r"corrects 1 images that are not in the dataset: cat/9\.png\."),
        ("path,label\nother/9.png,-\n", r"belong to another dataset: .*other/9\.png"),
        (
            "path,label\ncat/1.png,dgo\n",
            r"no image of the dataset has the label dgo\. Did you mean dog\? --new-classes",
        ),
        (
            "path,label\ncat/1.png,dog\ncat/1.png,-\n",
            r"line 3: cat/1\.png is corrected twice: 'dog' on line 2, '-' here",
        ),
        ("path,label\ncat/1.png,\n", r"line 2: expected a path and a label, or - to leave the image out"),
        ("file,label\ncat/1.png,dog\n", r"has no column path: expected path,label,reason, it has file, label"),
        ("path,label\n", "has no lines below its first"),
        ("", "has no column path: expected path,label,reason, it has none"),
    ],
)
def test_wrong_corrections_are_refused(pets: Path, text: str, told: str) -> None:
    """Guards each way in which a file of corrections can be wrong: nothing is applied in part."""
    with pytest.raises(Refused, match=told):
        corrected(pets, text)


def test_new_classes_and_images_that_are_gone(pets: Path) -> None:
    """Guards what is allowed: a new class on request, and an image to leave out that somebody has deleted."""
    listing = corrected(pets, "path,label\ncat/1.png,lynx\ndog/9.png,-\n", new_classes=True)
    assert listing.label_names == ["cat", "dog", "lynx"]
    assert listing.notes[1:] == (
        "c.csv: 1 new classes: lynx",
        "c.csv: 1 of the images to leave out are gone already: dog/9.png",
    )
    with pytest.raises(Refused, match=r"--corrections nowhere\.csv: there is no such file"):
        Corrections.read("nowhere.csv")
    latin = pets.parent / "latin.csv"
    latin.write_bytes("path,label\ncafé.png,dog\n".encode("latin-1"))
    with pytest.raises(Refused, match="is no CSV table of corrections in UTF-8"):
        Corrections.read(str(latin))


def test_names_of_other_systems(pets: Path) -> None:
    """104, 105: paths of Windows, and paths and labels that are composed where a Mac's are not; ours are kept."""
    nfc, nfd = (unicodedata.normalize(form, "crème") for form in ("NFC", "NFD"))
    copies(pets, f"{nfd}/1.png", f"{nfd}/2.png")
    text = f"path,label\n{nfc}/1.png,cat\nD:\\x\\pets\\cat\\1.PNG,{nfc}\ndog/1.png,-\n"
    listing = corrected(pets, text)
    assert labels(listing) == {
        "cat/1.png": nfd, "cat/2.png": "cat", f"{nfd}/1.png": "cat", f"{nfd}/2.png": nfd, "dog/2.png": "dog",
    }  # fmt: skip
    assert [entry.path for entry in listing.corrected] == [f"{nfd}/1.png", "cat/1.png", "dog/1.png"]
    assert listing.notes[:2] == (
        "c.csv: paths below D:/x/pets are taken for paths here",
        f"c.csv: 2 names match but for case or the encoding of accents: {nfd}/1.png, cat/1.png",
    )
    with pytest.raises(Refused, match=r"line 3: cat\\1\.PNG is corrected twice: 'dog' on line 2, '-' here"):
        corrected(pets, "path,label\ncat/1.png,dog\ncat\\1.PNG,-\n")
