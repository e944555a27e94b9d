import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import begin, contents, environment, photos, put, run, stack

import classify
import extract
import features
from features.open import newest_stack
from features.runtime.cli import command_line
from features.writer import StackWriter

HEAVY = "{'tensorflow', 'keras', 'jax', 'torch'}"


def imported(*words: object, cwd: Path) -> tuple[int, str]:
    """Exit code of a command, and which heavy packages it had imported at its end."""
    program = "import atexit, runpy, sys\n"
    program += f"atexit.register(lambda: print('imported', sorted({HEAVY} & set(sys.modules)), file=sys.stderr))\n"
    program += "sys.argv = sys.argv[1:]; runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", program, *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True)
    return done.returncode, done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [
        ("extract", "--help"),
        ("extract", "--list"),
        ("features", "--help"),
        ("features", "info", "a.h5"),
        ("features", "verify", "a.h5", "--rows-only"),
        ("classify", "--help"),
        ("classify", "fit", "a.h5", "--model", "svm"),
        ("classify", "fit", "a.h5", "--model", "logreg", "--search"),
    ],
)
def test_no_tensorflow(words: tuple[str, ...], tmp_path: Path) -> None:
    """Guards the start-up time: only what runs a network imports one."""
    stack(tmp_path / "a.h5", contents(rows=40))
    assert imported(*words, cwd=tmp_path) == (0, "imported []")


def help_of(*words: str, cwd: Path) -> str:
    done = run(*words, "--help", cwd=cwd, COLUMNS="200")
    assert done.returncode == 0
    return done.stdout


@pytest.mark.parametrize(
    ("words", "door"),
    [
        (("extract",), extract.extract),
        (("features", "info"), features.info),
        (("features", "verify"), features.verify),
        (("classify", "fit"), classify.fit),
        (("classify", "compare"), classify.compare),
        (("classify", "predict"), classify.predict),
    ],
)
def test_the_command_line_is_the_function(words: tuple[str, ...], door, tmp_path: Path) -> None:
    """Guards the doors: each parameter is on the command line with a help text and the signature's own default."""
    told = help_of(*words, cwd=tmp_path)
    positional = set(re.findall(r"^  ([a-z]+)  +\S", told.split("options:")[0], re.M))
    parameters = inspect.signature(door).parameters
    beside = {"help", "list", "json", "layers", "version"} - set(parameters)  # of the command alone
    options = set(re.findall(r"^  --([a-z-]+)", told, re.M)) - beside
    assert {name.replace("-", "_") for name in options} | positional == set(parameters)
    entries = re.findall(r"^  (?:--)?([a-z-]+)\b(.*?)(?=^  \S|\Z)", told, re.M | re.S)
    texts = {name.replace("-", "_"): " ".join(text.split()) for name, text in entries}
    for name, parameter in parameters.items():
        assert len(texts[name]) > 10, name
        if parameter.default not in (None, False, inspect.Parameter.empty):
            assert f"(default: {parameter.default})" in texts[name]


def refused(*words: object, cwd: Path) -> tuple[int, str]:
    """Exit code and the one line on stderr of a command that must fail without a traceback or a word on stdout."""
    done = run(*words, cwd=cwd)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.returncode, done.stderr[len("error: ") : -1]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with photos, an empty folder, one with a single class, a manifest, stacks whole, begun and damaged."""
    photos(tmp_path / "photos", classes=2, each=2)
    photos(tmp_path / "one", classes=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.csv").write_text("path,label\nphotos/class0/0.png,a\ngone.png,b\n")
    (tmp_path / "file").write_text("text")
    whole = stack(tmp_path / "whole.h5", contents())
    (tmp_path / "half.h5").write_bytes(whole.read_bytes()[:20_000])
    begin(tmp_path / "begun.h5", contents())
    with StackWriter(tmp_path / "begun.h5") as writer:
        put(writer, contents(), 0, 5)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["extract", "gone"], 2, "no dataset at gone: no such folder or manifest"),
        (["extract", "empty"], 2, "no images in empty. Expected one folder a class"),
        (["extract", "one"], 2, "one has only one class, 'class0': a classifier needs two"),
        (["extract", "list.csv"], 2, "list.csv names 1 files that are not there: line 3: gone.png"),
        (["extract", "photos", "--backbone", "vgg61"], 2, "no backbone is called 'vgg61'. Did you mean "),
        (["extract", "photos", "--classes", "9"], 2, "--classes 9: photos has 2 classes"),
        (["extract", "photos", "--weights", "gone.h5"], 2, "no weights file at gone.h5"),
        (["extract", "photos", "--weights", "random", "--out", "file/a.h5"], 1, "cannot write in file: "),
        (["features", "info", "gone.h5"], 2, "no stack at gone.h5. Make one with: make features"),
        (["features", "info", "file"], 1, "file is no HDF5 file that can be opened. Restore it"),
        (["features", "verify", "half.h5"], 1, "half.h5 is truncated. Restore it from a copy"),
        (["classify", "fit", "begun.h5"], 2, "begun.h5 is unfinished. Finish it with: python -m extract photos"),
        (["classify", "fit", "half.h5"], 1, "half.h5 is truncated. Restore it from a copy"),
        (["classify", "fit"], 2, "no stack in features/stacks. Make one with: make features"),
    ],
)
def test_bad_input_gets_one_line(place: Path, words: list[str], code: int, message: str) -> None:
    """Guards issue 2's bad input: the message on stderr, the exit code, nothing on stdout, nothing lost or left."""
    before = sorted(place.rglob("*"))
    got = refused(*words, cwd=place)
    assert got[0] == code
    assert message in got[1]
    made = set(place.rglob("*")) - set(before)
    assert made <= {place / "features", place / "features" / "stacks"}


def test_usage(tmp_path: Path) -> None:
    """Guards argparse's own exit code: an unknown option or choice is 2, as are our refusals."""
    for words in (
        ("extract", "--fast"),
        ("extract", "--device", "tpu"),
        ("features",),
        ("classify", "fit", "--pool", "x"),
    ):
        done = run(*words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "usage: " in done.stderr


def test_stage_two_takes_the_newest_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards the choice where none is named: the stack written last, but the demo's only if it is alone; it is said."""
    monkeypatch.chdir(tmp_path)
    folder = Path("features/stacks")
    folder.mkdir(parents=True)
    for age, (name, root) in enumerate([("digits", "/home/me/data/digits"), ("old", "/a"), ("new", "/a")]):
        stack(folder / f"{name}.h5", contents(rows=40), dataset_root=root)
        os.utime(folder / f"{name}.h5", (age, age))
    assert newest_stack() == folder / "new.h5"
    said = capsys.readouterr().err
    assert said == "stack: features/stacks/new.h5, the newest of 3 in features/stacks (STACK= takes another)\n"
    os.utime(folder / "old.h5", (9, 9))
    os.utime(folder / "digits.h5", (10, 10))
    made = classify.fit(model="logreg")
    command = json.loads((made / "result.json").read_text())["command"]
    assert command == "python -m classify fit features/stacks/old.h5 --model logreg"  # not: whatever is the newest then
    (folder / "old.h5").unlink()
    (folder / "new.h5").unlink()
    capsys.readouterr()
    assert newest_stack() == folder / "digits.h5"
    assert "of the bundled digits: there is no other" in capsys.readouterr().err
    stack(folder / "mine.h5", contents(rows=40), dataset_root="/a")
    (folder / "digits.h5").unlink()
    assert newest_stack() == folder / "mine.h5" and not capsys.readouterr().err


def test_recorded_command() -> None:
    """Guards the command that a stack names: it runs as it is, quoted, and leaves out what was not given."""

    def door(data: str | None = None, layer: str | None = None, models: list[str] | None = None, fast: bool = False):
        pass

    def told(**given: object) -> str:
        return command_line(
            ["run"], door, {"data": None, "layer": None, "models": None, "fast": False, **given}, ["data"]
        )

    assert told() == "run"
    assert told(data="my photos", layer="a b") == "run 'my photos' --layer 'a b'"
    assert told(data="x", models=["svm", "logreg"], fast=True) == "run x --models svm logreg --fast"


def test_an_unwritable_folder(place: Path) -> None:
    """Guards `--out` where this user may not write."""
    folder = place / "locked"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("root may write everywhere; the same message is tested on a path below a file")
    got = refused("extract", "photos", "--weights", "random", "--out", "locked/a.h5", cwd=place)
    assert got == (1, "cannot write in locked: Permission denied. Choose another --out.")


@pytest.mark.parametrize(("encoding", "dash", "letter"), [("ascii", "2-3 x", r"caf\xe9"), ("cp1252", "2–3 ×", "café")])
def test_a_terminal_that_cannot_show_our_signs(tmp_path: Path, encoding: str, dash: str, letter: str) -> None:
    """Guards the C locale and Windows' pipes: signs become ASCII, letters are escaped, a file's odd bytes stay."""
    code = """
import os, sys
from features import Failed
from features.runtime.cli import run
def main():
    print("2–3 ×", "café", os.fsdecode(b"\\xff.png"), sep="|")
    raise Failed("2–3 × café")
run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", code.replace("\\\\", "\\")],
        env=environment(PYTHONIOENCODING=encoding, PYTHONUTF8="0"),
        capture_output=True,
    )
    assert done.stdout.strip() == f"{dash}|{letter}|".encode(encoding) + b"\xff.png"
    assert done.stderr.strip() == f"error: {dash} {letter}".encode(encoding) and done.returncode == 1


def test_json_stays_json(tmp_path: Path) -> None:
    """Guards scripts that read our JSON where stdout is ASCII: class names come back whole."""
    made = stack(tmp_path / "a.h5", contents(), dataset="naïve – 2×3")
    done = run("features", "info", made, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout)["dataset"] == "naïve – 2×3"


@pytest.mark.parametrize(
    ("file", "doors"),
    [
        ("features.py", ("extract", "classify")),
        ("features/__init__.py", ("extract",)),
        ("extract.py", ("classify",)),
        ("h5py.py", ("features",)),
    ],
)
def test_a_module_of_the_users_own_in_the_way(tmp_path: Path, file: str, doors: tuple[str, ...]) -> None:
    """102: its file is named before it is run; a script gets the same words as an ImportError."""
    own = tmp_path / file
    own.parent.mkdir(exist_ok=True)
    own.write_text("print('theirs was run')\n")
    name = own.relative_to(tmp_path).parts[0].removesuffix(".py")
    told = f"{own} is in the way: Python takes it for the package {name}. Rename it, or work elsewhere"
    for door in doors:
        done = run(door, "--version", cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {told}\n")
    (tmp_path / "mine.py").write_text(f"import {doors[0]}\n")
    done = run("mine", cwd=tmp_path)
    assert done.stdout == "" and done.stderr.splitlines()[-1] == f"ImportError: {told}"


def test_modules_that_are_not_in_the_way(tmp_path: Path) -> None:
    """102: a plain folder `features`, where stage one puts stacks; and a script named like a package not needed."""
    (tmp_path / "features" / "stacks").mkdir(parents=True)
    (tmp_path / "classify.py").write_text("import features; print(features.__name__, features.__version__)\n")
    assert run("extract", "--version", cwd=tmp_path).returncode == 0
    assert run("classify", cwd=tmp_path).stdout == f"features {features.__version__}\n"
    made, new = stack(tmp_path / "a.h5", contents()), photos(tmp_path / "new") / "class0" / "0.png"
    (tmp_path / "extract.py").touch()
    got = refused("features", "find", made, new, cwd=tmp_path)
    assert got[0] == 2 and f"{tmp_path}/extract.py is in the way: Python takes it for the package extract." in got[1]
