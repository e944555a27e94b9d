"""Fixtures that several test files share."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import NO_KERAS, REPO, photos

import classify  # noqa: F401  (before scikit-learn: it says how OpenMP's threads wait)
from features.runtime.log import show

# Converted networks are kept for the length of one run of the tests.
CACHE = pytest.StashKey[tempfile.TemporaryDirectory[str]]()

# A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
show()  # as on the command line, so that a test reads on stderr what a function said


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="no tests marked slow; any other that imports Keras fails")


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:  # else they all share one
        config.stash[CACHE] = tempfile.TemporaryDirectory()
        os.environ["FEATURE_STACKS_CACHE"] = config.stash[CACHE].name
    if config.getoption("quick"):
        os.environ["QUICK"] = "1"  # for tiny.environment, and so for the processes that tests start
        sys.path.insert(0, str(NO_KERAS))


def pytest_unconfigure(config: pytest.Config) -> None:
    if CACHE in config.stash:
        config.stash[CACHE].cleanup()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("quick"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture
def impatient() -> Iterator[None]:
    """Whoever waits for ten seconds waits for ever."""

    def late(number: int, frame: object) -> None:
        raise AssertionError("it waits for ever")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """18 noise images in three class folders, in a folder called photos."""
    return photos(tmp_path / "photos")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real photos and weights, beside the repository."""
    folder = REPO.parent / "shared"
    if not (folder / "data" / "food101-10").is_dir() or not (folder / "weights").is_dir():
        pytest.skip("the real photos and weights of ../shared are not here")
    return folder


@pytest.fixture(scope="session")
def digits_stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stack of `make demo`, alone in the `features/stacks` of a folder to work in."""
    from extract import extract

    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder / extract("digits", backbone="scattering", size=32)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small file system can be mounted by root only: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
