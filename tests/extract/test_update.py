import hashlib
import io
import json
import random
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import warm
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from tiny import REPO, flip, photos

from classify import fit
from extract import extract
from extract.images.split import seeded_split
from extract.network.importing import import_keras
from features import Failed, Refused, compress, info, open_stack, verify, writer
from features.layout import offsets, partial_path
from features.runtime.lock import writer_lock
from features.schema import SPLITS
from features.writer import consecutive

pytestmark = pytest.mark.slow

KEPT = "Write another stack with --out FILE, or give the settings of this one to add to it."
SETTINGS: dict[str, Any] = {"backbone": "vgg16", "size": 32, "batch": 4, "weights": "random", "layer": "block2_pool"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(photos, finished stack)."""
    folder = tmp_path_factory.mktemp("update")
    data = photos(folder / "photos")
    return data, extract(str(data), out=str(folder / "a.h5"), **SETTINGS)


@pytest.fixture
def mine(made: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The same, copied (times and all), to be meddled with."""
    return Path(shutil.copytree(made[0], tmp_path / "photos")), Path(shutil.copy2(made[1], tmp_path / "a.h5"))


def again(mine: tuple[Path, Path | None], **changes: Any) -> Path:
    return extract(str(mine[0]), **{**SETTINGS, "out": mine[1] and str(mine[1]), **changes})


def noise(path: Path, seed: int) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (36, 36, 3), "u1")).save(path)


def import_weights(folder: Path) -> str:
    """A file of VGG16's weights, random ones, whose rows no seed decides."""
    base = import_keras().applications.VGG16(weights=None, include_top=False)
    base.save_weights(folder / "vgg16.weights.h5")
    return str(folder / "vgg16.weights.h5")


def meddle(data: Path) -> None:
    """Three images added, one of them in a class that comes first; one changed, two removed."""
    noise(data / "class0" / "new.png", 1)
    noise(data / "class2" / "0a.png", 2)
    noise(data / "aaa" / "0.png", 3)
    noise(data / "class1" / "2.png", 4)
    (data / "class1" / "4.png").unlink()
    (data / "class2" / "5.jpg").unlink()


def rows_of(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path, "r") as file:
        return {name: file[name][()] for name in file if name not in ("extract_seconds", "fingerprint")}


def test_only_what_is_new_is_computed(mine: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Guards the update: the very rows of a stack made from nothing, four computed, the others in their split."""
    data, stack = mine
    before = open_stack(stack)
    was, seconds = dict(zip(before.paths, before.split.tolist(), strict=True)), before.extract_seconds
    meddle(data)
    again(mine)
    said = capsys.readouterr().err
    assert "3 images added: aaa/0.png, class0/new.png, class2/0a.png; 2 images removed: " in said
    assert "; 1 images changed: class1/2.png" in said
    assert "15 rows were carried over" in said
    assert "\n4 images read, 4 rows written, 0 images rejected, in " in said
    fresh, got = rows_of(again((data, stack.with_name("fresh.h5")))), rows_of(stack)
    for name in ("features", "paths", "labels", "label_names", "sha256", "size", "view", "row_state", "row_crc32"):
        assert np.array_equal(fresh[name], got[name]), name
    now = open_stack(stack)
    stays = {path: split for path, split in zip(now.paths, now.split.tolist(), strict=True) if path in was}
    assert {path: was[path] for path in stays if path != "class1/2.png"} == {
        path: split for path, split in stays.items() if path != "class1/2.png"
    }
    assert now.extract_seconds > seconds
    assert verify(str(stack))["images"] == 19
    assert [path.name for path in stack.parent.glob("a.h5*")] == ["a.h5"]
    again(mine)
    assert "up to date" in capsys.readouterr().err


def test_corrections_compute_nothing(mine: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Guards corrections: rows are carried, splits stay, the list lies in the stack and cannot be lost in silence."""
    data, stack = mine
    before, was = open_stack(stack).paths, rows_of(stack)
    listed = data.parent / "corrections.csv"
    listed.write_text("path,label,reason\nclass0/0.png,class1,wrong\nclass2/5.jpg,-,blurred\n")
    again(mine, corrections=str(listed))
    said = capsys.readouterr().err
    assert "images read" not in said and "17 rows were carried over" in said
    now, rows = open_stack(stack), rows_of(stack)
    kept = [before.index(path) for path in now.paths]
    for name in ("features", "sha256", "split"):
        assert np.array_equal(rows[name], was[name][kept]), name
    assert now.label_names[now.y[now.paths.index("class0/0.png")]] == "class1" and "class2/5.jpg" not in now.paths
    assert now.attrs["corrections_sha256"] == hashlib.sha256(listed.read_bytes()).hexdigest()
    assert [tuple(each) for each in now.corrections][1] == ("class2/5.jpg", "-", "blurred")
    assert (info(str(stack))["corrections"], info(str(stack))["left_out"]) == (2, 1)
    assert open_stack(compress(str(stack), str(stack.with_name("packed.h5")))).corrections == now.corrections
    verify(str(stack), rows_only=True)
    with pytest.raises(Refused, match="corrections: 2 in the stack, none asked for; give --corrections FILE"):
        again(mine)
    (data / "class1" / "2.png").write_bytes(b"")  # a reject, so that the finished file is copied once more
    again(mine, corrections=str(listed), max_bad=100)
    assert open_stack(stack).corrections == now.corrections
    listed.write_text("path,label\nclass0/0.png,class0\n")  # the whole list: what it lacks is as in the dataset
    again(mine, corrections=str(listed), max_bad=100)
    assert len(open_stack(stack)) == 17 and len(open_stack(stack).corrections) == 1


def test_a_killed_first_run_survives_other_images(mine: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Guards what was computed before a kill, where images came, changed, moved and went before the next run."""
    data, stack = mine
    partial = stack.rename(partial_path(stack))
    flip(partial, offsets(partial)["row_crc32"])
    meddle(data)
    again(mine)
    said = capsys.readouterr().err
    assert "a.h5.partial: 3 images added: " in said
    assert "14 rows were carried over" in said and "\n5 images read, 5 rows written" in said
    fresh, got = rows_of(again((data, stack.with_name("fresh.h5")))), rows_of(stack)
    for name in ("features", "paths", "labels", "label_names", "sha256", "size", "view", "row_state", "row_crc32"):
        assert np.array_equal(fresh[name], got[name]), name
    assert "rejects" not in got and verify(str(stack))["images"] == 19
    assert [path.name for path in stack.parent.glob("a.h5*")] == ["a.h5"]


def test_a_killed_first_run_without_leakage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards `--no-leakage` after a kill: the rows are carried over, and the copies are left out at the end."""
    for split, seed in (("train", 0), ("test", 1)):
        photos(tmp_path / "photos" / split, classes=2, each=3, seed=seed)
    shutil.copy(tmp_path / "photos" / "test" / "class0" / "0.png", tmp_path / "photos" / "train" / "class0" / "z.png")
    mine = tmp_path / "photos", tmp_path / "a.h5"
    partial = again(mine).rename(partial_path(mine[1]))
    flip(partial, offsets(partial)["row_crc32"])
    noise(tmp_path / "photos" / "train" / "class1" / "new.png", 1)
    again(mine, no_leakage=True)
    assert "12 rows were carried over" in capsys.readouterr().err
    now = open_stack(mine[1])
    assert len(now) == 13 and [reject[0] for reject in now.rejects] == ["train/class0/z.png"]


def test_a_file_that_another_process_writes_is_not_looked_at(
    mine: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards the order: the lock first, then what is begun; else half of another's layout may be met."""
    data, stack = mine
    stack.rename(partial_path(stack))
    meddle(data)
    with writer_lock(stack), pytest.raises(Refused, match="is being written by"):
        again(mine)
    assert capsys.readouterr().err == ""


def test_rows_are_read_once_on_a_resume(mine: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the time to begin: of 100 GB that are there, each row is checked once, and twice where it is carried."""
    data, stack = mine
    size = open_stack(stack).X.nbytes
    partial = Path(shutil.copy2(stack, partial_path(stack)))
    flip(partial, offsets(partial)["row_crc32"])
    stack = stack.rename(stack.with_name("whole.h5"))
    read, whole = [0], writer.pread_all

    def counted(fd: int, count: int, offset: int) -> bytearray:
        read[0] += count
        return whole(fd, count, offset)

    monkeypatch.setattr(writer, "pread_all", counted)
    again(mine)
    assert read[0] == size
    noise(data / "class0" / "new.png", 1)
    read[0] = 0
    again(mine)
    assert read[0] == 0  # of the new file; those of the old one are mapped, checked, and carried over
    assert verify(str(mine[1]))["images"] == 19


def test_another_engine_names_the_finished_stack(mine: tuple[Path, Path]) -> None:
    """Guards the way on: rows of two engines never mix, and nobody is told to remove a stack that is whole."""
    pytest.importorskip("openvino")
    data, stack = mine
    noise(data / "class0" / "new.png", 1)
    then = open_stack(stack).attrs["engine"]
    other = "keras" if then == "openvino" else "openvino"
    with pytest.raises(Refused) as caught:
        again(mine, engine=other)
    assert str(caught.value).startswith(
        f"{stack} was made from something else:\n  engine: {then} in the stack, {other}"
    )
    assert str(caught.value).endswith("\nIt is kept. " + KEPT)
    assert len(open_stack(again(mine))) == 19
    elsewhere = again((data, stack.with_name("b.h5")), engine=other)
    assert open_stack(elsewhere).attrs["engine"].split()[0] == other


def test_a_device_that_is_gone(mine: tuple[Path, Path]) -> None:
    """Guards the way on: with a stack that was begun on a GPU, `--device cpu` is no way out on a machine without."""
    if import_keras().distribution.list_devices("gpu"):
        pytest.skip("there is a GPU here")
    partial = mine[1].rename(partial_path(mine[1]))
    with h5py.File(partial, "r+") as file:
        file.attrs["device"] = "gpu"
    with pytest.raises(Refused, match=rf"--device gpu: .*\n{partial} was made with just that\. Remove {partial} to"):
        again(mine, device="cpu")


def test_images_that_only_go_need_no_network(mine: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Guards the cheap case: nothing is computed, and nothing built for it."""
    (mine[0] / "class1" / "4.png").unlink()
    before = open_stack(mine[1])
    kept = np.array([path != "class1/4.png" for path in before.paths])
    expected = before.X[kept].copy()
    again(mine)
    said = capsys.readouterr().err
    assert "17 rows were carried over" in said
    assert "engine" not in said and "images read" not in said
    assert np.array_equal(open_stack(mine[1]).X, expected)
    assert verify(str(mine[1]))["images"] == 17


def test_views_come_and_go_with_their_image(tmp_path: Path) -> None:
    """Guards updates with views: the rows of a stack made from nothing, where the splits are the same."""
    data = photos(tmp_path / "photos")
    files = [f"{p.relative_to(data).as_posix()},{p.parent.name}" for p in sorted(data.rglob("*.*"))]
    lines = [f"{file},{'test' if i == 5 else 'train'}" for i, file in enumerate(files)]
    (data / "list.csv").write_text("\n".join(["path,label,split", *lines[1:]]))
    mine = (data / "list.csv", tmp_path / "a.h5")
    again(mine, views=2)
    noise(data / "class1" / "2.png", 4)
    (data / "list.csv").write_text("\n".join(["path,label,split", *lines[:-1]]))
    again(mine, views=2)
    again((mine[0], tmp_path / "fresh.h5"), views=2)
    got, fresh = rows_of(mine[1]), rows_of(tmp_path / "fresh.h5")
    for name in got:
        assert np.array_equal(got[name], fresh[name]), name
    assert len(got["view"]) == 49


def test_a_reject_that_was_mended_enters(mine: tuple[Path, Path]) -> None:
    """Guards rejects: mended, the image gets its row; another one broken, it leaves."""
    data, stack = mine
    whole = (data / "class0" / "2.png").read_bytes()
    (data / "class0" / "2.png").write_text("a text file")
    again(mine, max_bad=10)
    assert [reject[0] for reject in open_stack(stack).rejects] == ["class0/2.png"]
    (data / "class0" / "2.png").write_bytes(whole)
    (data / "class2" / "1.jpg").write_bytes(b"")
    again(mine, max_bad=10)
    now = open_stack(stack)
    assert [reject[:2] for reject in now.rejects] == [("class2/1.jpg", "the file is empty")]
    assert "class0/2.png" in now.paths
    assert verify(str(stack))["rows"] == 17


def test_a_reject_that_cannot_be_opened_is_left_alone(
    mine: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a stack laid out anew each time for a file that only has a time; once it opens, it enters."""
    data, stack = mine
    monkeypatch.chdir(data / "class0")
    with socket.socket(socket.AF_UNIX) as shut:  # root, too, cannot open it
        shut.bind("shut.png")
    again(mine, max_bad=10)
    assert [reject[0] for reject in open_stack(stack).rejects] == ["class0/shut.png"]
    before = stack.stat().st_ino
    capsys.readouterr()
    again(mine, max_bad=10)
    assert "is up to date" in capsys.readouterr().err and stack.stat().st_ino == before
    (data / "class0" / "shut.png").unlink()
    noise(data / "class0" / "shut.png", 7)
    again(mine)
    assert "class0/shut.png" in open_stack(stack).paths


def test_a_photo_enters_once_its_decoder_is_there(mine: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards what the reason promises: a HEIC photo is tried again after `pip install pillow-heif`, and only then."""
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    data, stack = mine
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    (data / "class0" / "phone.heic").write_bytes(heic + (data / "class0" / "0.png").read_bytes())
    again(mine, max_bad=10)
    before = stack.stat().st_ino
    again(mine, max_bad=10)
    assert open_stack(stack).rejects[0][0] == "class0/phone.heic" and stack.stat().st_ino == before
    # Stands in for pillow-heif, whose rows would not be those of a PNG: the photo is the PNG behind the header.
    opened = lambda file, name: PngImageFile(io.BytesIO(file.read()[len(heic) :]))  # noqa: E731
    monkeypatch.setitem(Image.OPEN, "HEIF", (opened, lambda start: start[4:8] == b"ftyp"))
    now = open_stack(again(mine))
    assert now.rejects == []
    one, other = (now.paths.index(f"class0/{name}") for name in ("0.png", "phone.heic"))
    assert np.array_equal(now.X[one], now.X[other])


def test_a_rotten_row_is_computed_again(mine: tuple[Path, Path], made: tuple[Path, Path]) -> None:
    """Guards the copy: a row that no longer fits its CRC is not carried."""
    data, stack = mine
    flip(stack, offsets(stack)["features"] + 1000)
    noise(data / "class2" / "z.png", 9)
    again(mine)
    assert np.array_equal(open_stack(stack).X[:18], open_stack(made[1]).X)


def test_a_stack_that_lost_its_identities_is_not_updated(mine: tuple[Path, Path]) -> None:
    """Guards against carrying over rows whose images nobody knows any more; the stack stays as it is."""
    data, stack = mine
    flip(stack, offsets(stack)["fingerprint"])
    before = stack.read_bytes()
    noise(data / "class0" / "new.png", 99)
    with pytest.raises(Failed, match="is damaged: paths, labels or split are not those it was finished with"):
        again(mine)
    assert stack.read_bytes() == before and not partial_path(stack).exists()


def test_rows_follow_the_bytes(mine: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Guards a renamed class, an image moved to another class, two that swap names, and a copy: nothing is computed."""
    data, stack = mine
    before = open_stack(stack)
    row_of = {sha.tobytes(): row for sha, row in zip(before.field("sha256"), before.X.copy(), strict=True)}
    split_of = dict(zip((s.tobytes() for s in before.field("sha256")), before.split.tolist(), strict=True))
    (data / "class1").rename(data / "bird")
    (data / "class0" / "3.jpg").rename(data / "class2" / "from0.jpg")
    for old, new in (("0.png", "x"), ("2.png", "0.png"), ("x", "2.png")):
        (data / "class2" / old).rename(data / "class2" / new)
    shutil.copy(data / "class0" / "0.png", data / "class0" / "copy.png")
    again(mine)
    said = capsys.readouterr().err
    assert "10 images moved or copied: bird/0.png" in said and "removed" not in said and "changed" not in said
    assert "19 rows were carried over" in said and "images read" not in said
    now = open_stack(stack)
    assert (
        now.label_names == ["bird", "class0", "class2"]
        and now.label_names[now.y[now.paths.index("class2/from0.jpg")]] == "class2"
    )
    for path, sha, row, split in zip(now.paths, now.field("sha256"), now.X, now.split.tolist(), strict=True):
        assert hashlib.sha256((data / path).read_bytes()).digest() == sha.tobytes()
        assert np.array_equal(row, row_of[sha.tobytes()]) and split == split_of[sha.tobytes()]
    assert json.loads(now.attrs["updates"]) == {"moved or copied": 10}
    assert verify(str(stack))["images"] == 19
    again(mine)
    assert "up to date" in capsys.readouterr().err


def test_other_labels_and_splits_enter(mine: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Guards corrected labels, and a split that the dataset gets later: rows do not depend on either."""
    data, stack = mine
    rows = [f"{p.relative_to(data).as_posix()},{p.parent.name}" for p in sorted(data.rglob("*.*"))]
    rows[0] = rows[0].replace(",class0", ",class1")
    (data / "list.csv").write_text("\n".join(["path,label", *rows]))
    before = open_stack(stack)
    features, paths, y, splits = before.X.copy(), before.paths, before.y, before.split
    again((data / "list.csv", stack))
    said = capsys.readouterr().err
    assert "1 images relabelled: class0/0.png" in said and "18 rows were carried over" in said
    now = open_stack(stack)
    assert (now.y != y).tolist() == [path == "class0/0.png" for path in paths]
    assert np.array_equal(now.X, features) and np.array_equal(now.split, splits)
    split = [f"{row},{'test' if i % 3 == 0 else 'train'}" for i, row in enumerate(rows)]
    (data / "list.csv").write_text("\n".join(["path,label,split", *split]))
    again((data / "list.csv", stack))
    said = capsys.readouterr().err
    assert "images moved to another split: " in said and "images read" not in said
    now = open_stack(stack)
    of = dict(zip(now.paths, now.split.tolist(), strict=True))
    assert [of[row.split(",")[0]] == SPLITS["test"] for row in rows] == [i % 3 == 0 for i in range(18)]
    assert verify(str(stack))["images"] == 18


def test_labels_come_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards images without labels: a stack to use elsewhere; a manifest's labels enter, and split it."""
    data = photos(tmp_path / "flat", classes=1, each=12) / "class0"
    mine = data, tmp_path / "a.h5"
    again(mine)
    assert "its images are unlabelled" in capsys.readouterr().err
    stack = open_stack(mine[1])
    X, paths = stack.X.copy(), stack.paths
    assert (stack.y == -1).all() and stack.label_names == [] and (stack.split == 0).all()
    with pytest.raises(
        Refused, match="a.h5 is unlabelled. Write .*labels.csv with the columns path,label .* then run: python -m"
    ):
        fit(str(mine[1]), "logreg")
    lines = [f"{path},{'even' if i % 2 == 0 else 'odd'},{'one' if i < 4 else ''}" for i, path in enumerate(paths)]
    (data / "labels.csv").write_text("\n".join(["path,label,group", *lines]))
    again((data / "labels.csv", mine[1]))
    assert "12 rows were carried over" in capsys.readouterr().err
    now = open_stack(mine[1])
    assert now.label_names == ["even", "odd"] and np.array_equal(now.X, X)
    assert now.groups == ["one"] * 4 + [""] * 8 and len(set(now.split[:4])) == 1 and (now.split == 2).any()
    assert json.loads(now.attrs["updates"]) == {"relabelled": 12, "moved to another group": 4}
    assert verify(str(mine[1]))["images"] == 12
    folder = fit(str(mine[1]), "logreg", out=str(tmp_path / "run"))
    assert (folder / "result.json").is_file()
    with pytest.raises(Refused, match="labels: 2 classes in the stack, none asked for; give its manifest"):
        again(mine)  # the folder alone would take the labels away
    (data / "0.png").write_bytes(b"damaged")
    assert open_stack(again((data / "labels.csv", mine[1]), max_bad=20)).groups == ["one"] * 3 + [""] * 8
    packed = open_stack(compress(str(mine[1]), out=str(tmp_path / "packed.h5")))
    assert packed.groups == ["one"] * 3 + [""] * 8 and packed.key == open_stack(mine[1]).key


def test_another_seed_splits_again(made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards `--seed` on a finished stack: if it only splits, nothing is computed; if it makes rows, it is refused."""
    mine = made[0], tmp_path / "a.h5"
    weights = import_weights(tmp_path)
    again(mine, weights=weights)
    again(mine, weights=weights, seed=2)
    said = capsys.readouterr().err
    assert "split again with seed 2, not 0" in said and "18 rows were carried over" in said
    now = open_stack(mine[1])
    assert np.array_equal(now.split, seeded_split(now.y, now.field("sha256"), 2)) and now.attrs["seed"] == 2
    again(mine, weights=weights, seed=2)
    assert "up to date" in capsys.readouterr().err
    with pytest.raises(Refused, match=r"seed: 0 in the stack, 2 asked for\nIt is kept"):
        again(made, seed=2)  # of random weights


def test_the_same_dataset_under_another_name(
    mine: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards a renamed dataset, also one that grew: its stack has another name, and only new images are computed."""
    monkeypatch.chdir(tmp_path)
    stack = again((mine[0], None))
    before = open_stack(stack)
    renamed = mine[0].rename(tmp_path / "pets")
    key, X, split = before.key, before.X, before.split
    again((renamed, None), weights="random")
    said = capsys.readouterr().err
    assert f"{stack} has rows of the same images, made with the same settings" in said
    assert "18 rows were carried over" in said and said.count("images read") == 1
    pets = open_stack(stack.with_name(stack.name.replace("photos", "pets")))
    assert pets.key == key  # models of the old stack fit the new one
    assert pets.attrs["dataset_root"] == str(renamed) and pets.attrs["dataset"] == "pets"
    noise(renamed / "class0" / "new.png", 1)
    animals = open_stack(again((renamed.rename(tmp_path / "animals"), None)))
    assert (
        "18 rows were carried over" in (said := capsys.readouterr().err) and "\n1 images read, 1 rows written" in said
    )
    old = np.array([path != "class0/new.png" for path in animals.paths])
    assert np.array_equal(animals.X[old], X) and np.array_equal(animals.split[old], split)
    again((tmp_path / "animals", tmp_path / "features" / "stacks" / "anew.h5"))
    assert "19 images read" in capsys.readouterr().err  # where the user names the file, every row is computed


def test_another_dataset_does_not_empty_a_stack(mine: tuple[Path, Path], tmp_path: Path) -> None:
    """Guards the stack of another project's `photos` folder, whose name is the same."""
    before = mine[1].read_bytes()
    other = photos(tmp_path / "other" / "photos", seed=5).rename(tmp_path / "others")
    for i, folder in enumerate(sorted(other.iterdir())):
        folder.rename(other / f"kind{i}")
    with pytest.raises(Refused, match="not one of its images is in the dataset any more.*\n.*--out FILE"):
        again((other, mine[1]))
    assert mine[1].read_bytes() == before


def test_an_image_with_a_known_split_keeps_it() -> None:
    """Guards growth: by its bytes, whatever the ranks say; only new images are ranked."""
    sha256 = np.random.default_rng(0).integers(0, 256, (40, 32), "u1")
    labels = np.arange(40) % 2
    seeded = seeded_split(labels, sha256, 0)
    known = {image.tobytes(): SPLITS["val"] for image in sha256[:10]}
    grown = seeded_split(labels, sha256, 0, known=known)
    assert (grown[:10] == SPLITS["val"]).all()
    assert np.array_equal(grown[10:], seeded[10:])


def test_consecutive() -> None:
    """Guards the pieces that rows are written in."""
    for rows in ([], [5], [3, 4, 7], [0, 2, 4], [1, 2, 3]):
        pieces = [rows[piece] for piece in consecutive(np.array(rows, int))]
        assert [row for piece in pieces for row in piece] == rows
        assert all(piece == list(range(piece[0], piece[-1] + 1)) for piece in pieces)


KILL = """
import sys
from dying import die_in_write
from extract import extract
die_in_write(int(sys.argv[1]))
extract("photos", out="a.h5", **SETTINGS)
"""


def test_kills_in_an_update_cost_nothing(mine: tuple[Path, Path], tmp_path: Path) -> None:
    """Guards the update's crash safety: the old stack is whole until the new one is, and that has the same bytes."""
    data, stack = mine
    old = stack.read_bytes()
    meddle(data)
    straight = rows_of(again((data, Path(shutil.copy2(stack, tmp_path / "straight.h5")))))
    program, moments = f"SETTINGS = {SETTINGS!r}\n{KILL}", random.Random(3)
    path = f"{REPO}:{REPO / 'tests'}"
    for _ in range(4):
        ended = warm.run("-c", program, moments.randint(1, 25), cwd=tmp_path, PYTHONPATH=path)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert stack.read_bytes() == old
        assert partial_path(stack).exists()
    again(mine)
    got = rows_of(stack)
    for name in got:
        assert np.array_equal(got[name], straight[name]), name
    assert verify(str(stack))["images"] == 19
