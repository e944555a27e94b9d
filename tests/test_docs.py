"""What the docs show runs and prints what they say it does; and whatever can be asked for is in the docs."""

import contextlib
import importlib.util
import io
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from tiny import REPO, contents, environment, run, stack

from features import Failed, Refused, open_stack
from features.runtime.cli import DONE_WITH_REJECTS

REUSE = (REPO / "docs" / "reuse.md").read_text()
OPENING, *SECTIONS = re.split(r"^## ", REUSE, flags=re.M)
SPECIFICATION = (REPO / "features" / "FORMAT.md").read_text()
README = (REPO / "README.md").read_text()
DOORS = (REPO / "docs" / "commands.md").read_text()
MAKEFILE = (REPO / "Makefile").read_text()
NUMBER = r"(-?\d+(?:\.\d+)?)"


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, code) of the fenced blocks of a page, in order; what a block prints has no language."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M)


def missing(language: str, code: str) -> str:
    """What a block needs and this machine lacks; only what `make setup` cannot bring."""
    if language == "python":
        return "torch" if "import torch" in code and not importlib.util.find_spec("torch") else ""
    program = {"sh": shlex.split(code)[0], "r": "Rscript"}[language]
    if program != "python" and not shutil.which(program):
        return program
    if language == "r" and subprocess.run(["Rscript", "-e", "loadNamespace('rhdf5')"], capture_output=True).returncode:
        return "R's package rhdf5"
    return ""


def output(language: str, code: str, names: dict[str, Any]) -> str:
    """What a block prints. Python blocks share their names."""
    if language == "python":
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        return printed.getvalue()
    if language == "r":
        command = ["Rscript", "-"]
    else:
        command = [sys.executable if word == "python" else word for word in shlex.split(code)]
    done = subprocess.run(command, input=code, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_same(printed: str, shown: str) -> None:
    """The same words and whole numbers; other numbers within a hundredth, as machines round differently."""
    got, wanted = (re.split(NUMBER, " ".join(text.split())) for text in (printed, shown))
    assert len(got) == len(wanted), printed
    for a, b in zip(got, wanted, strict=True):
        assert a == b or ("." in b and math.isclose(float(a), float(b), rel_tol=0.01)), printed


def run_page(text: str, names: dict[str, Any]) -> str:
    """Run the blocks of a page, each against the output shown below it; returns what could not be run here."""
    lacking = ""
    shown = blocks(text)
    for (language, code), (after, expected) in zip(shown, [*shown[1:], ("end", "")], strict=True):
        if not language:
            continue
        if lack := missing(language, code):
            lacking = lack
            continue
        printed = output(language, code, names)
        if not after:
            assert_same(printed, expected)
    return lacking


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.split("\n")[0])
def test_reuse(section: str, digits_stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards docs/reuse.md: each section runs after the first one's lines, and prints what is shown."""
    monkeypatch.chdir(digits_stack.parents[2])
    names: dict[str, Any] = {}
    if section is not SECTIONS[0]:
        run_page(SECTIONS[0], names)
    if lacking := run_page(section, names):
        pytest.skip(f"blocks of docs/reuse.md that need {lacking} were not run: it is not installed here")


@pytest.mark.slow
def test_the_stack_that_the_page_is_about(digits_stack: Path) -> None:
    """Guards the page's first command: it is the one that made the stack which the other blocks are run on."""
    assert blocks(OPENING) == [("sh", open_stack(digits_stack).attrs["command"] + "\n")]


def test_the_snippets_of_the_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the lines of README and FORMAT.md that read a stack with h5py alone, and those of docs/reuse.md with
    `open_stack`: they find what was written."""
    held = contents(rows=40)
    opened = next(text for text in SECTIONS if text.startswith("With this project: `open_stack`"))
    ((_, opened),) = (block for block in blocks(opened) if block[0] == "python")
    for name in ("features/stacks/photos-vgg16.h5", "pets-vgg16.h5", re.search(r'open_stack\("(.*)"\)', opened)[1]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        stack(tmp_path / name, held)
    monkeypatch.chdir(tmp_path)
    section = README.split("## Read the stack without this project")[1].split("\n## ")[0]
    (plain,) = (code for language, code in blocks(section) if language == "python")
    (specified,) = (code for language, code in blocks(SPECIFICATION) if language == "python")
    for code in (plain, specified):
        names: dict[str, Any] = {}
        output("python", code, names)
        np.testing.assert_array_equal(names["X"], held["features"])
        np.testing.assert_array_equal(names["y"], held["labels"])
        assert names["names"].tolist() == held["label_names"]
        assert names["test"].tolist() == (held["split"] == 2).tolist()
        assert names.get("paths", np.array(held["paths"])).tolist() == held["paths"]
    assert names["maps"].shape == (40, *held["shape"])
    names = {}
    output("python", opened, names)
    np.testing.assert_array_equal(names["train"].X, held["features"][held["split"] == 0])
    assert len(names["test"]) == 10


def test_groups_keep_views_and_copies_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the page's cross-validation: no fold holds out a row whose image it trains on, and folds are as many."""
    held = contents(rows=80)
    held["view"] = np.arange(80) % 2  # each image and a view of it, …
    held["sha256"] = held["sha256"][np.arange(80) // 2 % 30]  # … and ten images that are there twice
    held["labels"], held["split"] = np.arange(80) // 2 % 2, np.zeros(80, "u1")
    held["split"][60:] = 2
    name = re.search(r'STACK = "(.*)"', REUSE)[1]
    (tmp_path / name).parent.mkdir(parents=True)
    stack(tmp_path / name, held)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    sections = (SECTIONS[0], next(text for text in SECTIONS if text.startswith("scikit-learn")))
    python = [code for text in sections for language, code in blocks(text) if language == "python"]
    output("python", python[0], names)
    *imports, groups, folds = re.findall(
        r"^(?:from sklearn.model_selection.*|groups = .*|folds = .*)$", python[-1], re.M
    )
    output("python", "\n".join([*imports, groups, folds]), names)
    images = names["sha256"][names["train"]]
    held_out = 0
    for a, b in names["folds"].split(images, names["y"][names["train"]], names["groups"][names["train"]]):
        assert not {row.tobytes() for row in images[a]} & {row.tobytes() for row in images[b]}
        held_out += len(b)
    assert held_out == 60


@pytest.mark.slow
def test_anndata_holds_the_rows(digits_stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the .h5ad: read back, it has the pooled rows, each photo's own label and split, and the recipe."""
    monkeypatch.chdir(digits_stack.parents[2])
    names: dict[str, Any] = {}
    for text in (SECTIONS[0], next(text for text in SECTIONS if text.startswith("pandas, and AnnData"))):
        run_page(text, names)
    read, digits = anndata.read_h5ad("digits.h5ad"), open_stack(digits_stack)
    np.testing.assert_allclose(read.X, digits.pooled("avg"), rtol=1e-5, atol=1e-7)
    assert read.obs["path"].tolist() == digits.paths
    assert read.obs["label"].tolist() == [digits.label_names[label] for label in digits.y]
    assert (read.obs["split"] == "test").tolist() == (digits.split == 2).tolist()
    assert read.uns["recipe"]["backbone"] == "scattering"
    assert read.uns["recipe"]["feature_shape"].tolist() == list(digits.feature_shape)


COMMANDS = [
    "extract",
    "extract cache",
    *(f"features {name}" for name in ("info", "verify", "compress", "pool", "index", "find")),
]
COMMANDS += [f"classify {name}" for name in ("fit", "compare", "audit", "explain", "predict", "export")]


def section_of(command: str) -> str:
    """The section of docs/commands.md about one command, heading included."""
    (text,) = (text for text in DOORS.split("\n## ") if re.match(rf"`python -m {command}( [A-Z[].*)?`\n", text))
    return text


def test_every_door_has_its_section() -> None:
    """Guards the list above, and docs/commands.md, against a door that is new: `--help` is asked which there are."""
    there = ["extract", "extract cache"]
    for package in ("features", "classify"):
        told = run(package, "--help", cwd=REPO, COLUMNS="200").stdout
        there += [
            f"{package} {name}" for name in re.search(rf"{package} \[-h\] \[--version\] ([a-z|]+)", told)[1].split("|")
        ]
    assert sorted(there) == sorted(COMMANDS)
    assert len(re.findall(r"^## `python -m ", DOORS, re.M)) == len(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_the_doors(command: str) -> None:
    """Guards docs/commands.md: a door has all its options there with their choices, and none that it does not take."""
    shown = section_of(command)
    told = run(*command.split(), "--help", cwd=REPO, COLUMNS="200").stdout
    options = set(re.findall(r"^  (--[a-z0-9-]+)", told, re.M))
    assert set(re.findall(r"--[a-z][a-z0-9-]*", shown)) == options
    for option, choices in re.findall(r"^  (--[a-z0-9-]+) \{(.*?)\}", told, re.M):
        if option not in ("--model", "--models"):  # docs/classifiers.md has those
            (row,) = re.findall(rf"^\| `{option} .*$", shown, re.M)
            assert all(f"`{choice}`" in row for choice in choices.split(",")), row


def test_exit_codes() -> None:
    """Guards the table of exit codes against a code that is new."""
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", DOORS.split("## Exit codes")[1], re.M)]
    signals = [128 + number for number in (signal.SIGINT, signal.SIGTERM)]
    assert codes == [0, Failed.exit_code, Refused.exit_code, DONE_WITH_REJECTS, *signals]


TARGETS = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)[1].split())
MACROS = dict(re.findall(r"^([A-Z]+) = ((?:.*\\\n)*.*)$", MAKEFILE, re.M))
CONSTANTS = set(re.findall(r"^([A-Z]+) :?= ", MAKEFILE, re.M))  # those of `?=` may be given, like those without a value


def variables_of(target: str) -> set[str]:
    """The variables that a target's recipe uses; `setup` has that of the file it stands for."""
    if target == "setup":
        return {"PYTHON", "EXTRA"}
    recipe = re.search(rf"^{target}:.*\n((?:##.*\n|\t.*\n)*)", MAKEFILE, re.M)[1]
    for name, text in MACROS.items():
        recipe = recipe.replace(f"$({name})", text)
    return {a or b for a, b in re.findall(r"\$\(call (?:option|paths),([A-Z]+)|\$\(([A-Z]+)\)", recipe)} - CONSTANTS


def test_make_help() -> None:
    """Guards `make help`: every target is in it, and below it exactly the variables that its recipe uses."""
    told = subprocess.run(["make", "help"], cwd=REPO, capture_output=True, text=True).stdout
    shown = re.findall(r"^  make ([a-z-]+) .*\n((?: {18}.*\n)*)", told, re.M)
    assert {target for target, _ in shown} == TARGETS
    for target, variables in shown:
        assert sorted(variables.split()) == sorted(variables_of(target)), target
    assert all(len(line) <= 120 for line in told.splitlines())


def test_make_targets_and_variables() -> None:
    """Guards the docs: docs/commands.md has every target and variable of the Makefile, and no page has any other."""
    rows = re.findall(r"^\| `make ([a-z-]+)` \|", DOORS, re.M)
    assert sorted({*rows}) == sorted(TARGETS)
    variables = set().union(*map(variables_of, TARGETS))
    assert set(re.findall(r"`([A-Z]{2,})=", DOORS)) == variables
    options = re.findall(r"\$\(call option,([A-Z]+),([a-z-]+)\)|\$\(if \$\(([A-Z]+)\),--([a-z-]+)", MAKEFILE)
    for variable, option in ((a or c, b or d) for a, b, c, d in options):
        assert re.search(rf"^\| `--{option}\b.*` \| `{variable}=.*` \|", DOORS, re.M), variable
    pages = [README, *(page.read_text() for page in [REPO / "CONTRIBUTING.md", *(REPO / "docs").glob("*.md")])]
    code = "\n".join(found for page in pages for found in re.findall(r"`+[^`]+`+", page))
    assert set(re.findall(r"\bmake ([a-z-]+)", code)) <= TARGETS
    assert set(re.findall(r"(?<![\w-])([A-Z]{3,})=", code)) <= variables


PAGES = [
    *REPO.glob("*.md"),
    *(page for folder in ("docs", "features", "examples") for page in (REPO / folder).glob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPO).as_posix())
def test_links(page: Path) -> None:
    """Guards every link between pages: the file is there, and so is the heading."""
    for file, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
        target = page.parent / file if file else page
        assert target.exists(), file
        headings = [re.sub(r"[^\w -]", "", line).strip().replace(" ", "-") for line in _headings(target)]
        assert not heading or heading in headings, heading


def _headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.*)$", page.read_text().lower(), re.M) if page.suffix == ".md" else []


def test_the_width_of_the_terminal_is_no_option() -> None:
    """Guards `make features` where the shell exports COLUMNS, as many do: only FIELDS= names a manifest's columns."""
    make = partial(subprocess.run, cwd=REPO, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"})
    assert "--columns" not in make(["make", "--dry-run", "features"]).stdout
    assert '--columns "path=photo"' in make(["make", "--dry-run", "features", "FIELDS=path=photo"]).stdout


def test_make_refuses_what_it_would_ignore(tmp_path: Path) -> None:
    """Guards typing errors on make's command line: the nearest variable is named, and nothing is installed first."""
    shutil.copy(REPO / "Makefile", tmp_path)
    make = partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True)
    for words, told in {
        "make features BACKBON=scattering": "make features takes no BACKBON; did you mean BACKBONE? It takes: PYTHON ",
        "make classify MODLE=svm": "make classify takes no MODLE; did you mean MODEL?",
        "make compare BACKBONE=vgg16": "make compare takes no BACKBONE",
        "make demo data=x": "make demo takes no data. It takes: PYTHON EXTRA.",
        "make features DATA=typo": "error: no dataset at typo: no such folder or file",
        "make features DATA=typo.h5::images": "error: no dataset at typo.h5::images: ",
    }.items():
        done = make(words.split())
        assert done.returncode == 2 and told in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["Makefile"]
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "constraints.txt").touch()
    assert make(["make", "--dry-run", "features", "classify", "BACKBONE=vgg16", "MODEL=svm"]).returncode == 0
    assert make(["make", "--dry-run", "features", "DATA=food101"]).returncode == 0


def test_make_takes_paths_with_blanks(tmp_path: Path) -> None:
    """Guards every variable that holds paths, by a Python that prints its arguments."""
    shutil.copy(REPO / "Makefile", tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    python = tmp_path / ".venv/bin/python"
    python.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    python.chmod(0o755)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    (tmp_path / ".venv/.ready").touch()
    for path in ("new photos/b 1.jpg", "old/1.jpg", "my stack.h5", "a.h5", "b.h5"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()

    def words(*given: str) -> list[str]:
        done = subprocess.run(["make", "--no-print-directory", *given], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert words("features", "DATA=new photos", "WEIGHTS=w 1.h5", "OUT=o 1.h5")[2:] == [
        *["new photos", "--weights", "w 1.h5", "--out", "o 1.h5"]
    ]
    for target in ("fit", "compare"):
        goal = "classify" if target == "fit" else target
        assert words(goal, "STACK=my stack.h5", "DATA=new photos")[2:] == [
            *[target, "my stack.h5", "--data", "new photos"]
        ]
        assert words(goal, "STACK=a.h5 b.h5")[3:] == ["a.h5", "b.h5"]
        assert words(goal)[3:] == []
    assert words("predict", "MODEL=runs/a b", "PHOTOS=new photos")[2:] == ["predict", "runs/a b", "new photos"]
    assert words("predict", "MODEL=m", "PHOTOS='new photos' old/*.jpg")[3:] == ["m", "new photos", "old/1.jpg"]


def test_the_license_is_there() -> None:
    """Guards the file beside the name of the licence in the package's metadata."""
    named = re.search(r'^license = \{ text = "(\w+)" \}', (REPO / "pyproject.toml").read_text(), re.M)
    assert named and (REPO / "LICENSE").read_text().startswith(f"{named[1]} License\n")
