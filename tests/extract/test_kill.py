import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import warm
from tiny import REPO, environment, photos, rows_of

from extract import extract
from features import open_stack, verify
from features.layout import partial_path

# What a killed run does: the real lock, layout, pipeline and writer; only the network is a sum of pixels.
# Of its so-manieth write it does one half, and dies.
WRITE = """
import sys
from pathlib import Path
import numpy as np
from dying import die_in_write
from extract.backbones import BACKBONES
from extract.images.dataset import scan
from extract.compute.pipeline import fill
from extract.recipe import Recipe
from extract.images.split import seeded_split
from features.runtime.disk import publish
from features.layout import lay_out
from features.runtime.lock import writer_lock
from features.layout import layout_path, partial_path
from features.writer import StackWriter
from tiny import attributes

die_in_write(int(sys.argv[3]))

def forward(images):
    return [np.repeat(images.reshape(len(images), -1).astype("<f4"), 8, axis=1) / 7]

listing, stack = scan(sys.argv[1]), Path(sys.argv[2])
recipe = Recipe(listing, BACKBONES["vgg16"], "random", "block5_pool", size=16, seed=0)
with writer_lock(stack):
    if not partial_path(stack).exists():
        attrs = attributes(dataset_root=str(listing.root))
        lay_out(layout_path(stack), recipe.rows({}), listing.label_names, (16, 16, 24), attrs)
        publish(layout_path(stack), partial_path(stack))
    with StackWriter(stack) as writer:
        good = writer.check()
        print("writing", int(good.sum()), flush=True)
        missing = np.flatnonzero(~good)
        blocks = [missing[i : i + 4] for i in range(0, len(missing), 4)]
        reasons = fill({0: writer}, recipe, blocks, forward, lambda rows: None)
        writer.finish(seeded_split(writer.labels, writer.sha256, 0), reasons[0])
"""


@pytest.mark.slow
def test_twenty_kills_change_no_bit(tmp_path: Path) -> None:
    """Guards resume: SIGKILL in the middle of twenty seeded writes, then the same bytes in the same order."""
    data = photos(tmp_path / "photos", classes=3, each=80, side=20)
    env = environment(PYTHONPATH=f"{REPO}:{REPO / 'tests'}", OPENBLAS_NUM_THREADS="1")

    def writer(stack: Path, writes: int = 0) -> tuple[int, int]:
        """Exit code, and how many good rows the run found, of a run that dies at that write; 0 = never."""
        words = [sys.executable, "-c", WRITE, str(data), str(stack), str(writes)]
        ended = subprocess.run(words, env=env, capture_output=True, text=True, cwd=tmp_path)
        assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
        return ended.returncode, int(ended.stdout.split()[1])

    assert writer(tmp_path / "straight.h5") == (0, 0)
    moments, stack = random.Random(7), tmp_path / "killed.h5"
    kills = [writer(stack, moments.randint(1, 30)) for _ in range(20)]  # of 360 writes
    assert {code for code, _ in kills} == {-signal.SIGKILL}
    done = [rows for _, rows in kills]
    assert done == sorted(done), "a finished row was lost"
    assert len(set(done)) > 10, "the kills did not fall into the work"
    assert writer(stack)[0] == 0
    assert rows_of(stack) == rows_of(tmp_path / "straight.h5")
    assert verify(str(stack))["images"] == 240


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with photos, and the whole command over them: VGG16 on random weights at 32 px."""
    folder = tmp_path_factory.mktemp("whole")
    photos(folder / "photos", classes=2, each=200, side=20)
    words = ["extract", "photos", "--backbone", "vgg16", "--weights", "random", "--size", "32", "--batch", "4"]
    return folder, words


def wait_for_rows(partial: Path, rows: int, process: warm.Started) -> None:
    """Until so many rows are done in the partial file, by its row_state."""
    while process.poll() is None:
        try:
            with h5py.File(partial, "r", locking=False) as file:
                if (file["row_state"][:] == 1).sum() >= rows:
                    return
        except OSError:
            pass
        time.sleep(0.01)
    raise AssertionError(f"ended before {rows} rows: {process.communicate()[1]}")


@pytest.mark.slow
def test_the_whole_command_resumes(command: tuple[Path, list[str]]) -> None:
    """Guards the command: resumable after SIGKILL, Ctrl-C (exit 130) and SIGTERM (143); the same rows at last."""
    folder, words = command
    straight = str(folder / "straight.h5")
    extract(str(folder / "photos"), "vgg16", weights="random", size=32, batch=4, out=straight)
    resumed = 0
    for sign, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with warm.Started(*words, "--out", "cut.h5", cwd=folder) as process:
            wait_for_rows(partial_path(folder / "cut.h5"), resumed + 40, process)
            process.send_signal(sign)
            out, err = process.communicate()
        assert (process.returncode, out) == (code, ""), err
        assert "Traceback" not in err
        if sign != signal.SIGKILL:
            assert err.endswith("interrupted; what was finished is kept, and the same command goes on from there\n")
        if resumed:
            assert "resuming cut.h5.partial: " in err
        assert not (folder / "cut.h5").exists()
        with h5py.File(folder / "cut.h5.partial", "r") as file:
            now = int((file["row_state"][:] == 1).sum())
        assert now > resumed
        resumed = now
    last = warm.run(*words, "--out", "cut.h5", cwd=folder)
    assert (last.returncode, last.stdout) == (0, "cut.h5\n"), last.stderr
    assert f"{400 - resumed // 4 * 4} images read" in last.stderr
    assert rows_of(folder / "cut.h5") == rows_of(folder / "straight.h5")
    assert np.isfinite(open_stack(folder / "cut.h5").X).all()
    assert [path.name for path in folder.glob("cut*")] == ["cut.h5"]
