import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from tiny import contents, flip, photos, stack

from features import Failed, verify
from features.layout import offsets


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return stack(tmp_path / "a.h5", contents())


@pytest.mark.parametrize("bit", [1, 128])
@pytest.mark.parametrize(
    ("name", "row_bytes", "way"),
    [
        ("features", 96, r"\(class0/é6\.png\)\. The same command computes them again: python"),
        ("row_crc32", 4, r"\(class0/é6\.png\)\. The same command computes them again: python"),
        ("sha256", 32, r"\(class0/é6\.png\)\. Delete it and extract again: python"),
        ("labels", 8, r"has label \d+; expected −1 to 1\. Restore it from a copy, or delete it and extract again"),
        ("view", 4, r"\(class0/é6\.png\)\. Delete it and extract again: python"),
    ],
)
def test_a_flipped_bit_in_a_row(whole: Path, name: str, row_bytes: int, way: str, bit: int) -> None:
    """Guards every byte that a row's CRC covers: one flipped bit is found, and the row and its image are named."""
    flip(whole, offsets(whole)[name] + 6 * row_bytes + row_bytes // 2, bit)
    with pytest.raises(Failed, match=rf"a\.h5 is damaged: row 6 {way}"):
        verify(str(whole))


@pytest.mark.parametrize("bit", [1, 128])
@pytest.mark.parametrize("name", ["paths", "split", "fingerprint"])
def test_a_flipped_bit_in_the_identities(whole: Path, name: str, bit: int) -> None:
    """Guards what no CRC covers: paths, split and the fingerprint itself."""
    flip(whole, offsets(whole)[name] + 2, bit)
    with pytest.raises(Failed, match="is damaged: (paths, labels or split are not those it|row 2 has split)"):
        verify(str(whole))


def test_many_damaged_rows_are_counted(whole: Path) -> None:
    """Guards the length of the message."""
    for row in range(5):
        flip(whole, offsets(whole)["features"] + 96 * row)
    with pytest.raises(Failed, match=r"row 0 \(class0/é0\.png\), 1 \(.*\), 2 \(.*\) and 2 more\."):
        verify(str(whole))


@pytest.mark.usefixtures("impatient")
def test_a_stack_that_names_no_files(tmp_path: Path) -> None:
    """Guards `verify` of a stranger's stack: a device or a pipe is no image, and is not read for ever."""
    os.mkfifo(tmp_path / "pipe.png")
    held = contents(rows=4)
    held["paths"] = ["/dev/zero", "pipe.png", *held["paths"][2:]]
    path = stack(tmp_path / "a.h5", held, dataset_root=str(tmp_path))
    with pytest.raises(Failed, match=r"4 images could not be checked, .*: /dev/zero, pipe\.png, "):
        verify(str(path))


def test_images_are_hashed_again(tmp_path: Path) -> None:
    """Guards `verify` on the photos themselves: those that changed and those that went are named."""
    root, held = photos(tmp_path / "photos", classes=2, each=5), contents()
    held["paths"] = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*"))
    held["sha256"] = np.array(
        [np.frombuffer(hashlib.sha256((root / path).read_bytes()).digest(), "u1") for path in held["paths"]]
    )
    path = stack(tmp_path / "a.h5", held, dataset_root=str(root))
    assert verify(str(path))["images"] == 10
    flip(root / "class0" / "2.png", 60)
    with pytest.raises(Failed, match=r"a\.h5: 1 images in .*photos changed since: class0/2\.png$"):
        verify(str(path))
    (root / "class1" / "3.jpg").unlink()
    with pytest.raises(Failed, match="its rows are sound, but 1 images could not be checked, .*: class1/3.jpg. --rows"):
        verify(str(path))
    root.rename(tmp_path / "elsewhere")
    with pytest.raises(Failed, match="but 10 images could not be checked, as they are not in .*photos"):
        verify(str(path))
    assert verify(str(path), rows_only=True)["images"] == 0
