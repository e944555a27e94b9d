import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil  # comes with Dask
import pytest
from distributed import Client, LocalCluster
from tiny import attributes, contents, environment, flip, photos, run, stack

from classify import fit
from classify.classical.descent import Descent
from classify.classical.losses import Loss, Softmax, SquaredHinge
from classify.classical.passes import Rows
from classify.classical.workers import on_workers, passes_over
from extract import extract
from extract.backbones import backbone_named
from extract.compute.cluster import TASK, Cluster, _seen_alike, open_compute
from extract.compute.pipeline import Block, Done, Reasons, Writers, fill
from extract.compute.rebuild import NOWHERE
from extract.images.dataset import scan
from extract.recipe import Recipe
from extract.stack.passes import _compute
from features import Failed, Refused, open_stack
from features.layout import lay_out, layout_path, offsets, partial_path
from features.runtime.cluster import connect
from features.runtime.disk import publish
from features.shards import EndToEnd, end_to_end
from features.source import CHANGING
from features.writer import StackWriter

RECIPE = {"backbone": "vgg16", "weights": "random", "layer": "block2_pool", "size": 32, "batch": 4, "views": 1}
WORDS = [word for name, value in RECIPE.items() for word in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers, each a process of its own."""
    with (
        LocalCluster(2, threads_per_worker=1, processes=True, memory_limit=None, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 noise photos, one of them empty, one no image."""
    folder = photos(tmp_path_factory.mktemp("data") / "photos", classes=2, each=100, side=200)
    (folder / "class0" / "7.jpg").write_bytes(b"")
    (folder / "class1" / "8.png").write_text("<html>not found</html>")
    return folder


@pytest.fixture(scope="module")
def alone(data: Path) -> Path:
    """The stack that a single process makes."""
    return extract(str(data), **RECIPE, out=str(data.parent / "alone.h5"))


def same_rows(path: Path, expected: Path) -> None:
    with h5py.File(path) as file, h5py.File(expected) as other:
        assert set(file) == set(other)
        for name in set(file) - {"extract_seconds"}:
            assert np.array_equal(file[name][()], other[name][()]), name
        assert file["features"][()].tobytes() == other["features"][()].tobytes()
        assert len(file["rejects"]) == 2


def rows_done(stack: Path) -> int:
    try:
        with h5py.File(partial_path(stack), "r") as file:
            return int((file["row_state"][:] == 1).sum())
    except OSError:
        return 0


def once(out: Path, rows: int, act: Callable[[], object], patience: float = float("inf")) -> threading.Thread:
    """A thread that acts once so many rows of a stack are done, or some seconds went by; never, once it is finished."""
    began = time.monotonic()

    def watch() -> None:
        while rows_done(out) < rows and time.monotonic() < began + patience:
            if out.exists():
                return
            time.sleep(0.002)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def started_by(session: int) -> list[psutil.Process]:
    """The processes of a session that still live."""
    found = []
    for each in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(each.pid) == session:
                found.append(each)
    return found


@pytest.mark.slow
def test_a_killed_worker_costs_a_block(client: Client, data: Path, alone: Path) -> None:
    """Guards against a lost block: a worker is stopped in the middle of one, and killed when all others are done."""
    out = data.parent / "killed.h5"
    workers = client.run(os.getpid)
    victim = next(iter(workers.values()))
    with h5py.File(alone) as file:
        total = len(file["paths"])
    held: list[int] = []

    def stop() -> None:
        os.kill(victim, signal.SIGSTOP)
        # No more than four blocks are in flight. It may have stopped with one computed that is being waited for.
        once(out, total - 4 * TASK, kill, patience=10)

    def kill() -> None:
        held.append(total - rows_done(out))
        os.kill(victim, signal.SIGKILL)

    once(out, 20, stop)
    extract(str(data), **RECIPE, dask=client.scheduler.address, out=str(out))
    assert held and held[0] > 0, "the worker held no block when it died"
    same_rows(out, alone)
    client.wait_for_workers(2)
    assert victim not in client.run(os.getpid).values()


@pytest.mark.slow
def test_begun_here_and_finished_on_dask(client: Client, data: Path, alone: Path) -> None:
    """Guards resume: rows of a run without Dask stay, and Dask computes the others to the same bits."""
    out = data.parent / "begun.h5"
    partial = partial_path(extract(str(data), **RECIPE, out=str(out)))
    out.rename(partial)
    for row in range(20, rows_done(out)):
        flip(partial, offsets(partial)["row_crc32"] + 4 * row)
    extract(str(data), **RECIPE, dask=client.scheduler.address, out=str(out))
    same_rows(out, alone)


@pytest.mark.slow
def test_interrupted_on_dask_and_finished_here(data: Path, alone: Path) -> None:
    """Guards Ctrl-C, which a terminal sends to the workers too: exit 130, one line, nothing left running; resumable."""
    out = data.parent / "interrupted.h5"
    words = [sys.executable, "-m", "extract", str(data), *WORDS, "--dask", "local:1", "--out", str(out)]
    with subprocess.Popen(
        words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        once(out, 20, lambda: os.killpg(process.pid, signal.SIGINT))
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (130, ""), stderr
    assert stderr.endswith("interrupted; what was finished is kept, and the same command goes on from there\n")
    assert "Traceback" not in stderr and stderr.count("\n") == 4
    psutil.wait_procs(left := started_by(process.pid), timeout=20)
    assert not [each for each in left if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    assert rows_done(out) >= 20
    extract(str(data), **RECIPE, out=str(out))
    same_rows(out, alone)


def test_a_worker_with_other_versions(client: Client, data: Path, tmp_path: Path) -> None:
    """Guards the rows' bits: a worker with another Pillow is refused before a stack is begun, both versions told."""
    other = tmp_path / "elsewhere" / "pillow-1.2.3.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: pillow\nVersion: 1.2.3\n")
    words = [sys.executable, "-m", "distributed.cli.dask_worker", client.scheduler.address, "--no-nanny"]
    path = f"{other.parent}:{environment()['PYTHONPATH']}"
    with subprocess.Popen(
        [*words, "--no-dashboard"], env=environment(PYTHONPATH=path), stderr=subprocess.DEVNULL, cwd=tmp_path
    ) as worker:
        try:
            client.wait_for_workers(3)
            with pytest.raises(Refused, match=r"worker tcp://.*pillow \S+ here, 1\.2\.3 there"):
                extract(str(data), **RECIPE, dask=client.scheduler.address, out=str(tmp_path / "a.h5"))
        finally:
            worker.terminate()
    assert not list(tmp_path.glob("a.h5*.partial"))
    while len(client.scheduler_info(n_workers=-1)["workers"]) > 2:
        time.sleep(0.05)


def test_workers_that_see_other_folders(client: Client, tmp_path: Path) -> None:
    """Guards against a stack of rejects: that a worker has no such folder, or not its photos, is no fault of theirs."""
    with (
        pytest.raises(Refused, match=r"worker tcp://.*: no .*gone there: workers read the images from where"),
        open_compute(client.scheduler.address, tmp_path / "gone"),
    ):
        pass
    path = stack(tmp_path / "a.h5", held := contents(rows=4))
    path.rename(partial_path(path))
    listing = dataclasses.replace(NOWHERE, root=tmp_path)
    there = tmp_path / held["paths"][1]
    with StackWriter(path) as writer:
        for reason in ("No such file or directory", "Permission denied", "Stale file handle"):
            block = Block(np.array([0, 1]), np.empty(0), {"size": np.array([7, -1])}, {1: reason}, [], {})
            there.unlink(missing_ok=True)
            assert _seen_alike(writer, listing, block, np.empty(0))[0] is block
            there.parent.mkdir(exist_ok=True)
            there.touch()
            with pytest.raises(Failed, match=rf"a worker cannot read {there} \({reason}\), and this process can: all"):
                _seen_alike(writer, listing, block, np.empty(0))
        changing = block._replace(reasons={1: CHANGING})
        assert _seen_alike(writer, listing, changing, np.empty(0))[0] is changing


def test_workers_that_see_an_old_copy(photo_folder: Path, tmp_path: Path) -> None:
    """Guards against rows of photos that are not here: what is still of other bytes after a second reading fails."""
    old = shutil.copytree(photo_folder, tmp_path / "old")
    flip(photo_folder / "class1" / "2.png", 1000)
    os.utime(photo_folder / "class1" / "2.png", ns=(1, 1))
    listing = scan(str(photo_folder))
    recipe = Recipe(listing, backbone_named("scattering"), "formula", "scale1", 8, 0)
    lay_out(layout_path(tmp_path / "a.h5"), recipe.rows({}), listing.label_names, (8, 8, 3), attributes())
    publish(layout_path(tmp_path / "a.h5"), partial_path(tmp_path / "a.h5"))

    class Elsewhere(Cluster):
        """Its workers are here, and read the old copy."""

        def fill(self, writers: Writers, recipe: Recipe, rows: np.ndarray, batch: int, done: Done) -> Reasons:
            seen = dataclasses.replace(recipe, listing=dataclasses.replace(listing, root=old))
            return fill(writers, seen, [rows], lambda images: [images.reshape(len(images), -1).astype("<f4")], done)

    with (
        StackWriter(tmp_path / "a.h5") as writer,
        pytest.raises(Failed, match=r"workers read other bytes of class1/2\.png than are here, twice: all must see"),
    ):
        _compute({0: writer}, recipe, Elsewhere(None), 4)


def test_no_scheduler(photo_folder: Path) -> None:
    """Guards the message: one line within seconds, and no stack is begun."""
    where = "tcp://127.0.0.1:9"
    done = run("extract", photo_folder, *WORDS, "--dask", where, "--out", "a.h5", cwd=photo_folder.parent)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"error: --dask {where}: no scheduler answers there within 5 s")
    assert not list(photo_folder.parent.glob("a.h5*.partial"))


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("local:none", "--dask local:none: say how many processes, as in --dask local:4"),
        ("local:0", "--dask local:0: say how many processes"),
        ("nowhere", r"--dask nowhere: no scheduler answers there within 5 s \(missing port number"),
    ],
)
def test_no_address(where: str, said: str) -> None:
    with pytest.raises(Failed, match=said), connect(where):
        pass


def test_without_dask_installed(photo_folder: Path, tmp_path: Path) -> None:
    """Guards the extra: it is asked for where it is used, with the command that installs it."""
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "distributed.py").write_text("raise ImportError('not installed')")
    path = f"{tmp_path / 'without'}:{environment()['PYTHONPATH']}"
    done = run("extract", photo_folder, *WORDS, "--dask", "local:2", cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 2
    assert done.stderr == "error: --dask local:2: Dask is not installed; pip install -e '.[dask]'\n"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["logreg", "svm", "xgboost"])
def test_the_search_finds_the_same(model: str, client: Client, tmp_path: Path) -> None:
    """Guards the search: the same table, winner and predictions, to the last digit, on Dask."""
    held = contents(rows=60, shape=(3, 3, 16), classes=3)
    path = str(stack(tmp_path / "a.h5", held))
    here = fit(path, model, search=True, out=str(tmp_path / "here"))
    there = fit(path, model, search=True, dask=client.scheduler.address, out=str(tmp_path / "there"))
    found = [json.loads((folder / "result.json").read_text()) for folder in (here, there)]
    assert found[0]["search"] == found[1]["search"]
    assert found[0]["best"] == found[1]["best"]
    assert (here / "predictions.csv").read_bytes() == (there / "predictions.csv").read_bytes()
    with pytest.raises(Refused, match="--dask .* runs the fits of a search on a cluster, and passes over 5,000 rows"):
        fit(path, model, dask=client.scheduler.address)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> EndToEnd:
    """Three shards, 900 rows of 60 numbers, four classes."""
    folder, random = tmp_path_factory.mktemp("shards"), np.random.default_rng(0)
    centres = random.standard_normal((4, 60))
    for i in range(3):
        held = contents(rows=300, shape=(60,), classes=4, seed=i)
        held["features"] = (held["features"] + centres[held["labels"]]).astype("<f4")
        held["paths"] = [f"{i}/{path}" for path in held["paths"]]
        held["sha256"] = random.integers(0, 256, (300, 32), "u1")
        stack(folder / f"{i}.h5", held)
    return end_to_end([open_stack(folder / f"{i}.h5") for i in range(3)])


def minimum(shards: EndToEnd, loss: Loss) -> float:
    """The least loss of the train rows that passes find, computed in one piece."""
    train = shards.select("train")
    weights = np.ones((len(train), 1), np.float32)
    found = Descent(passes_over(train, train.y)).minimise(loss, 30.0, weights, tolerance=1e-5)
    assert found.converged
    value = Rows(np.asarray(train.X), train.y).sums(loss, found.coef, found.intercept, weights).value
    penalty = np.square(found.coef, dtype="f8").sum()
    penalty += np.square(found.intercept).sum() if loss.penalises_intercept else 0
    return 30.0 * value + 0.5 * float(penalty)


@pytest.mark.parametrize("loss", [Softmax(), SquaredHinge()])
def test_passes_where_the_shards_lie(loss: Loss, client: Client, shards: EndToEnd) -> None:
    """The loss of a single process within 1e-6, also where a worker is killed in the middle: its rows go to another."""
    alone = minimum(shards, loss)
    with on_workers(client):
        assert minimum(shards, loss) == pytest.approx(alone, rel=1e-6)
    first = next(iter(client.run(os.getpid).values()))

    class Deadly(type(loss)):  # type: ignore[misc]
        """Ends the first worker once it has been asked a few times."""

        def __reduce__(self) -> tuple[Any, ...]:
            asked.append(1)
            if len(asked) == 40:
                os.kill(first, signal.SIGKILL)
            return type(loss), ()

    asked: list[int] = []
    with on_workers(client):
        assert minimum(shards, Deadly()) == pytest.approx(alone, rel=1e-6)
    assert len(asked) > 40


def test_a_worker_that_cannot_see_a_shard_is_named(client: Client, shards: EndToEnd, tmp_path: Path) -> None:
    """Nothing is fitted to the rest."""
    train = shards.select("train")
    moved = dataclasses.replace(shards.parts[1], path=tmp_path / "elsewhere.h5")
    other = dataclasses.replace(train, parts=(shards.parts[0], moved, shards.parts[2]))
    with (
        on_workers(client),
        pytest.raises(Refused, match=r"worker tcp://\S+ cannot open its rows: no stack at .*elsewhere"),
    ):
        passes_over(other, train.y)
