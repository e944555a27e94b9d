"""Paths as people and other systems write them, against those that are there."""

import unicodedata
from pathlib import Path

import pytest
from tiny import contents, copies, stack

from features import Refused, find, open_stack
from features.runtime.names import meant_paths, on_disk, same_name

NFC, NFD = (unicodedata.normalize(form, "crème") for form in ("NFC", "NFD"))
PETS = ["cat/1.jpg", "cat/2.jpg", "dog/1.jpg"]


def only(given: str, there: list[str], root: str = "pets") -> str | None:
    return meant_paths([given], there, root).paths.get(given)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (f"{NFC}/1.jpg", f"{NFD}/1.jpg"),
        (f"{NFC}\\1", f"{NFD}/1.jpg"),
        ("Cat\\2.JPG", "cat/2.jpg"),
        (r"C:\photos\all pets\cat\2.JPG", "cat/2.jpg"),
        (r"\\server\share\dog\1.jpg", "dog/1.jpg"),
        ("/home/anna/pets/dog/1.jpg", "dog/1.jpg"),
        ("Pets/dog/1.jpg", "dog/1.jpg"),
        ("other/dog/1.jpg", None),
        ("dog/2.jpg", None),
        (r"C:\1.jpg", None),
        ("", None),
    ],
)
def test_a_path_that_is_written_otherwise(given: str, meant: str | None) -> None:
    """104, 105: accents, case, suffixes and folders elsewhere; a relative path keeps its folders."""
    assert only(given, [*PETS, f"{NFD}/1.jpg"]) == meant


def test_a_path_that_could_be_any_of_several() -> None:
    """104, 105: nothing is taken for another where a third could be meant; the strictest spelling comes first."""
    assert only("a.jpg", ["a.JPG", "a.Jpg"]) is None
    assert meant_paths(["a.jpg"], ["a.JPG", "a.Jpg"], "").several == {"a.jpg": ["a.JPG", "a.Jpg"]}
    assert only(f"{NFC}.JPG", [f"{NFD}.JPG", f"{NFD}.jpg"]) == f"{NFD}.JPG"
    assert only("a.jpg", ["a.jpg", "A.jpg"]) == "a.jpg"
    both = [*PETS, "2.jpg"]
    assert meant_paths([r"C:\x\cat\2.jpg"], both, "pets").several == {r"C:\x\cat\2.jpg": ["2.jpg", "cat/2.jpg"]}
    assert only(r"C:\pets\cat\2.jpg", both) == "cat/2.jpg", "the folder's own name decides"


def test_the_folder_elsewhere_is_one_for_all() -> None:
    """105: the folder that explains most paths, so that a lone file of the same name at the top is not taken."""
    given = [rf"D:\x\{path}".replace("/", "\\") for path in PETS]
    meant = meant_paths(given, [*PETS, "1.jpg"], "photos")
    assert list(meant.paths.values()) == PETS
    assert meant.notes == ["paths below D:/x are taken for paths here"]
    assert meant_paths(["Cat/1.jpg"], PETS, "").notes == [
        "1 names match but for case or the encoding of accents: cat/1.jpg"
    ]
    assert meant_paths(["cat/1", "./cat/1.jpg"], PETS, "").notes == []


def test_names_and_files() -> None:
    assert same_name(NFC, [NFD, "x"]) == NFD and same_name(NFC, [NFC, NFD]) == NFC and same_name("X", ["x"]) == "X"


def test_a_path_on_the_disk(tmp_path: Path) -> None:
    """104: what is typed is composed, and what a Mac wrote is not; a path that is there stays as it is."""
    copies(tmp_path, f"{NFD}/{NFD}.png")
    if (tmp_path / NFC).exists():
        pytest.skip("this file system takes both for one name")
    assert on_disk(f"{tmp_path}/{NFC}/{NFC}.png") == f"{tmp_path}/{NFD}/{NFD}.png"
    assert on_disk(f"{tmp_path}/{NFC}/x.png") == f"{tmp_path}/{NFC}/x.png"
    made = stack(tmp_path / f"{NFD}.h5", contents(), dataset_root="/data/pets")
    assert open_stack(tmp_path / f"{NFC}.h5").path == made


def test_find_takes_paths_that_are_written_otherwise(tmp_path: Path) -> None:
    """104, 105: an image of the stack, by a path of another system."""
    made = stack(tmp_path / "a.h5", contents(), dataset_root="/data/pets")
    paths = open_stack(made).paths
    given = ["C:\\pets\\" + unicodedata.normalize("NFD", paths[3]).replace("/", "\\")]
    assert find(str(made), given, k=1)[0]["path"] == paths[3]
    with pytest.raises(Refused, match="no photo at pets/x.png: no such file, and no such path"):
        find(str(made), ["pets/x.png"])
