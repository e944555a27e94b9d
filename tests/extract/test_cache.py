"""The converted networks that are kept: what they save, and that they never change a bit."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import NO_KERAS, REPO, environment, flip, photos, rows_of, run
from warm import Started
from warm import run as run_soon
from withheld import nothing_opens

from extract.network import cache
from extract.network.importing import backend_name
from features import Refused
from features.layout import offsets, partial_path

WORDS = ("--backbone", "mobilenetv2", "--weights", "random", "--size", "32", "--batch", "4")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test begins with nothing kept."""
    monkeypatch.setenv("FEATURE_STACKS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def openvino() -> None:
    """Only what OpenVINO computes is kept."""
    pytest.importorskip("openvino")
    if backend_name() != "tensorflow":
        pytest.skip("OpenVINO takes its networks from TensorFlow")


def networks(folder: Path) -> list[Path]:
    return sorted((folder / "networks").glob("[!.]*"))


def without_keras(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command in a process in which importing Keras, TensorFlow or JAX is an error."""
    return run(*words, cwd=cwd, PYTHONPATH=f"{NO_KERAS}:{REPO}")


@pytest.mark.slow
@pytest.mark.usefixtures("openvino")
def test_a_later_process_imports_no_keras(tmp_path: Path) -> None:
    """Guards the start: extraction, resumption, an update and predictions from what was kept, the same bits."""
    data = photos(tmp_path / "photos")
    plain = run_soon("extract", data, *WORDS, "--out", "plain.h5", cwd=tmp_path, FEATURE_STACKS_CACHE_GB="0")
    assert plain.returncode == 0 and not (tmp_path / "cache").exists(), plain.stderr
    first = run_soon("extract", data, *WORDS, "--out", "a.h5", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert run_soon("classify", "fit", "a.h5", "--model", "svm", cwd=tmp_path).returncode == 0

    again = without_keras("extract", data, *WORDS, "--out", "b.h5", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    expected = rows_of(tmp_path / "plain.h5")
    assert rows_of(tmp_path / "a.h5") == rows_of(tmp_path / "b.h5") == expected

    partial = (tmp_path / "b.h5").rename(partial_path(tmp_path / "b.h5"))
    for row in (0, 7):
        flip(partial, offsets(partial)["features"] + 4 * 1280 * row + 2)
    resumed = without_keras("extract", data, *WORDS, "--out", "b.h5", cwd=tmp_path)
    assert "16 of 18 rows are done" in resumed.stderr
    assert rows_of(tmp_path / "b.h5") == expected

    shutil.copy(data / "class0" / "0.png", data / "class0" / "new.png")
    flip(data / "class0" / "new.png", 200)
    updated = without_keras("extract", data, *WORDS, "--out", "b.h5", "--max-bad", "50", cwd=tmp_path)
    assert "1 images added" in updated.stderr and updated.returncode in (0, 3), updated.stderr

    model = tmp_path / "classify" / "runs" / "a" / "svm"
    predicted = without_keras("classify", "predict", model, data / "class1", cwd=tmp_path)
    assert predicted.returncode == 0 and predicted.stdout.count("\n") == 7, predicted.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("openvino")
def test_predictions_import_no_scikit_learn(tmp_path: Path) -> None:
    """Guards the second that importing it takes, in each of the classical models that need none of it."""
    data = photos(tmp_path / "photos")
    assert run_soon("extract", data, *WORDS, "--out", "a.h5", cwd=tmp_path).returncode == 0
    names = ("logreg", "linearsvm", "svm", "knn")
    for name in names:
        assert run_soon("classify", "fit", "a.h5", "--model", name, cwd=tmp_path).returncode == 0
    program = """
import sys
from classify import predict
for model in sys.argv[1:]:
    predict(model, ["photos/class0"], out="told.csv")
print(*(name for name in ("sklearn", "scipy", "skops", "keras", "tensorflow") if name in sys.modules))
"""
    folders = [str(tmp_path / "classify" / "runs" / "a" / name) for name in names]
    done = subprocess.run(
        [sys.executable, "-c", program, *folders], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.stdout == "\n", done.stdout + done.stderr


def truncated(entry: Path, other: Path) -> None:
    with open(entry / "network.bin", "r+b") as file:
        file.truncate(1000)


def one_bit(entry: Path, other: Path) -> None:
    flip(entry / "network.bin", 5000)


def other_weights(entry: Path, other: Path) -> None:
    shutil.copy(other / "network.bin", entry / "network.bin")


def another_entry(entry: Path, other: Path) -> None:
    for file in other.iterdir():
        shutil.copy(file, entry / file.name)


def no_json(entry: Path, other: Path) -> None:
    (entry / "about.json").write_text("[")


def a_file_less(entry: Path, other: Path) -> None:
    (entry / "network.xml").unlink()


def somebody_elses(entry: Path, other: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(entry, 12345, 12345)


BROKEN = (truncated, one_bit, other_weights, another_entry, no_json, a_file_less, somebody_elses)


@pytest.mark.slow
@pytest.mark.usefixtures("openvino")
def test_a_broken_entry_is_never_run(tmp_path: Path, own_cache: Path) -> None:
    """Guards the bits: an entry damaged in any way, swapped or given away is passed over, said, and made anew."""
    data = photos(tmp_path / "photos", classes=2, each=2)
    words = ("extract", data, *WORDS[:2], "--layer", "block_1_expand_relu", *WORDS[2:])
    assert run_soon(*words, "--seed", 1, "--out", "other.h5", cwd=tmp_path).returncode == 0
    (other,) = networks(own_cache)
    assert run_soon(*words, "--out", "a.h5", cwd=tmp_path).returncode == 0
    (entry,) = set(networks(own_cache)) - {other}
    expected = rows_of(tmp_path / "a.h5")
    for damage in BROKEN:
        damage(entry, other)
        done = run_soon(*words, "--out", f"{damage.__name__}.h5", cwd=tmp_path)
        assert done.returncode == 0
        assert rows_of(tmp_path / f"{damage.__name__}.h5") == expected, damage
        kept = "belongs to another user" if damage is somebody_elses else "is damaged"
        assert f"{entry} {kept} and is not used: the network is built by Keras instead" in done.stderr, damage
        if damage is not somebody_elses:
            assert run_soon(*words, "--out", "again.h5", cwd=tmp_path).stderr.count("is damaged") == 0, damage
            (tmp_path / "again.h5").unlink()


def test_an_entry_that_the_system_does_not_open_stays(own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards a network that may be whole: it is passed over and the reason told; later it is used again."""
    key = {"backbone": "tiny"}
    cache.keep(key, {}, lambda folder: (folder / "network.bin").write_bytes(b"weights"))
    (entry,) = networks(own_cache)
    with nothing_opens():
        assert cache.find(key, ["network.bin"]) is None
    line = f"{entry} cannot be read (Too many open files): the network is built by Keras instead\n"
    assert capsys.readouterr().err == line
    found = cache.find(key, ["network.bin"])
    assert found and found.contents == [b"weights"]


@pytest.mark.slow
@pytest.mark.usefixtures("openvino")
@pytest.mark.parametrize("place", ["a file", "no home", "full"])
def test_nowhere_to_keep_anything(tmp_path: Path, place: str, request: pytest.FixtureRequest) -> None:
    """Guards the command: where nothing can be kept it says so in a line, and makes the stack."""
    data = photos(tmp_path / "photos", classes=2, each=2)
    (tmp_path / "file").touch()
    env = {
        "a file": {"FEATURE_STACKS_CACHE": str(tmp_path / "file")},
        "no home": {"FEATURE_STACKS_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/proc/nowhere"},
    }
    if place == "full":
        env["full"] = {"FEATURE_STACKS_CACHE": str(request.getfixturevalue("small_disk"))}
    done = run_soon("extract", data, *WORDS, "--out", "a.h5", cwd=tmp_path, **env[place])
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the converted network cannot be kept in ") == 1
    assert done.stderr.count("the next command builds it again") == 1
    assert rows_of(tmp_path / "a.h5")


@pytest.mark.slow
@pytest.mark.usefixtures("openvino")
def test_two_processes_at_once(tmp_path: Path, own_cache: Path) -> None:
    """Guards the rename: both make the same entry, one keeps it, neither is disturbed."""
    data = photos(tmp_path / "photos", classes=2, each=2)
    with (
        Started("extract", data, *WORDS, "--out", "a.h5", cwd=tmp_path) as one,
        Started("extract", data, *WORDS, "--out", "b.h5", cwd=tmp_path) as other,
    ):
        told = [one.communicate()[1], other.communicate()[1]]
        assert (one.returncode, other.returncode) == (0, 0), told
    assert rows_of(tmp_path / "a.h5") == rows_of(tmp_path / "b.h5")
    assert len(networks(own_cache)) == 1
    assert not list((own_cache / "networks").glob(".*"))


def write(size: int):
    def to(folder: Path) -> None:
        (folder / "held").write_bytes(os.urandom(size))

    return to


def test_the_least_recently_used_goes_first(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the limit: room is made by what was not used for longest, and what is too large alone is not kept."""
    monkeypatch.setenv("FEATURE_STACKS_CACHE_GB", "0.00001")  # 10 kB
    for name in ("a", "b"):
        cache.keep({"name": name}, {"fact": name}, write(4000))
        os.utime(networks(own_cache)[-1])
    past = time.time() - 1000
    for entry in networks(own_cache):
        os.utime(entry, (past, past))
    found = cache.find({"name": "a"}, ["held"])
    assert found and found.facts == {"fact": "a"} and len(found.contents[0]) == 4000
    cache.keep({"name": "c"}, {}, write(4000))
    assert sorted(entry.key["name"] for entry in cache.entries()) == ["a", "c"]
    cache.keep({"name": "d"}, {}, write(20_000))
    assert sorted(entry.key["name"] for entry in cache.entries()) == ["a", "c"]
    assert cache.find({"name": "b"}, ["held"]) is None
    assert cache.clear() == 2 and not cache.entries()


def test_what_a_killed_process_left_goes(own_cache: Path) -> None:
    """Guards the disk: a folder that was being made an hour ago is removed, one of now is another process's."""
    for name, age in ((".making-old", 7200.0), (".making-now", 0.0)):
        folder = own_cache / "networks" / name
        folder.mkdir(parents=True)
        (folder / "network.bin").touch()
        os.utime(folder, (time.time() - age, time.time() - age))
    cache.keep({"name": "a"}, {}, write(10))
    assert [path.name for path in (own_cache / "networks").glob(".*")] == [".making-now"]
    assert [entry.key["name"] for entry in cache.entries()] == ["a"]


def test_another_version_is_another_entry(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against networks of yesterday's code: its own files and the packages' versions are part of the key."""
    cache.keep({"versions": {"openvino": "1"}}, {}, write(10))
    assert cache.find({"versions": {"openvino": "2"}}, ["held"]) is None
    assert cache.find({"versions": {"openvino": "1"}}, ["held"])
    monkeypatch.setattr(cache, "_code", lambda: "another")
    assert cache.find({"versions": {"openvino": "1"}}, ["held"]) is None


def test_the_command_lists_and_clears(own_cache: Path, tmp_path: Path) -> None:
    """Guards `python -m extract cache`."""
    cache.keep({"backbone": "vgg16", "size": 224, "layers": ["block5_pool"]}, {}, write(2_000_000))
    (own_cache / "networks" / ("0" * 32)).mkdir()
    listed = run("extract", "cache", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "     2.0 MB  used 2" in listed.stdout and "vgg16 224 px block5_pool" in listed.stdout
    assert f"2 networks in {own_cache}, 2.0 MB of 4,000 at most" in listed.stderr
    cleared = run("extract", "cache", "--clear", cwd=tmp_path)
    assert f"2 networks were removed from {own_cache}" in cleared.stderr
    assert not (own_cache / "networks").exists()
    refused = run("extract", "cache", cwd=tmp_path, FEATURE_STACKS_CACHE_GB="lots")
    assert (refused.returncode, refused.stderr) == (
        2,
        "error: FEATURE_STACKS_CACHE_GB is 'lots': give a number of gigabytes, 0 to keep nothing\n",
    )
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Refused):
        patch.setenv("FEATURE_STACKS_CACHE_GB", "inf")
        cache.limit()
