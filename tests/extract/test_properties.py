"""Whatever happens to a stack, in whatever order: the command that ends well leaves the undisturbed file.

The real command on real files, under random kills, losses of power, flipped bits, and images that come, change and go.
Only the network is built once for all of them.
"""

import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tiny import flip, rows_of

from extract.compute import local
from extract.stack import job
from extract.stage import extract
from features import Failed, open_stack, verify
from features.check import damaged_rows
from features.layout import offsets, partial_path

SETTINGS: dict[str, Any] = {
    **{"backbone": "scattering", "size": 8, "layer": "scale1", "batch": 2, "device": "cpu", "engine": "keras"},
    "max_bad": 100,
}


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is called once; later calls get the same again."""
    made: list[Any] = []

    def called(*given: Any) -> Any:
        if not made:
            made.append(function(*given))
        return made[0]

    return called


# Of no interest here, and the same every time.
ONCE = {
    (module, name): once(getattr(module, name)) for module, name in ((local, "compile_recipe"), (job, "row_versions"))
}
IMAGES = st.sampled_from([f"{folder}/{name}.ppm" for folder in ("train/a", "train/b", "test/a") for name in "01"])
ROWS = ("features", "row_crc32", "row_state", "size")  # fields in which a flipped bit can be mended


class Killed(BaseException):
    """The process is gone: not even `finally` changes the disk any more."""


class Disk:
    """What reaches the disk of a process that is killed: whole writes, half of the last one, and after it nothing.

    Args:
        patch: puts the hooks in.
        steps: after so many writes, renames and removals the process dies.
        share: of the bytes of its last write that are written.
    """

    def __init__(self, patch: pytest.MonkeyPatch, steps: int, share: float) -> None:
        self.steps, self.share = steps, share
        self.unsynced: list[tuple[int, int, bytes]] = []  # (inode, offset, what was there before)
        self._whole = {name: getattr(os, name) for name in ("pwrite", "replace", "unlink", "posix_fallocate", "fsync")}
        for name in ("replace", "unlink", "posix_fallocate"):
            patch.setattr(os, name, functools.partial(self._change, self._whole[name]))
        patch.setattr(os, "pwrite", self._pwrite)
        patch.setattr(os, "fsync", self._fsync)

    def _step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise Killed

    def _change(self, whole: Callable[..., Any], *given: Any, **more: Any) -> Any:
        self._step()
        return whole(*given, **more)

    def _pwrite(self, fd: int, data: Any, offset: int) -> int:
        if self.steps >= 0:
            self.unsynced.append((os.fstat(fd).st_ino, offset, os.pread(fd, len(data), offset)))
        try:
            self._step()
        except Killed:
            if self.steps == -1:
                self._whole["pwrite"](fd, data[: int(len(data) * self.share)], offset)
            raise
        return self._whole["pwrite"](fd, data, offset)

    def _fsync(self, fd: int) -> None:
        if self.steps >= 0:
            self._whole["fsync"](fd)
            self.unsynced.clear()

    def lose(self, files: list[Path], random: Any) -> None:
        """The power goes: of what was not synced, any writes are lost, under whatever name the file has by now."""
        for path in filter(Path.exists, files):
            with open(path, "r+b") as file:
                for inode, offset, was in reversed(self.unsynced):
                    if inode == os.fstat(file.fileno()).st_ino and random.random() < 0.5:
                        os.pwrite(file.fileno(), was, offset)


class Disturbed(RuleBasedStateMachine):
    """A dataset of images, and the stack that is made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        for (module, name), once in ONCE.items():
            self.patch.setattr(module, name, once)
        self.folder = Path(tempfile.mkdtemp())
        self.data, self.stack = self.folder / "photos", self.folder / "a.h5"
        self.clock, self.rotten, self.current = 10**18, set[tuple[str, int, int]](), False
        for grey, name in enumerate(("train/a/k.ppm", "train/b/k.ppm", "test/a/k.ppm"), 1):
            self.put(name, grey)  # never gone, so that the classes stay what they are

    @rule(name=IMAGES, grey=st.integers(0, 3))
    def put(self, name: str, grey: int) -> None:
        """An image comes, or becomes another one; 0 is none that can be read."""
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"P6 2 2 255\n" + bytes([50 * grey, len(name), ord(name[-5]), 7] * 3) if grey else b"no image")
        self.clock += 1
        os.utime(path, ns=(self.clock, self.clock))
        self.current = False

    @rule(name=IMAGES)
    def remove(self, name: str) -> None:
        """An image goes."""
        (self.data / name).unlink(missing_ok=True)
        self.current = False

    @rule(name=IMAGES, to=IMAGES)
    def move(self, name: str, to: str) -> None:
        """An image gets another name, in another class or split perhaps."""
        if (self.data / name).exists():
            (self.data / to).parent.mkdir(parents=True, exist_ok=True)
            (self.data / name).rename(self.data / to)
            self.current = False

    @rule(
        name=IMAGES,
        grey=st.integers(1, 3),
        steps=st.integers(3, 28),
        share=st.floats(0, 1),
        lost=st.none() | st.randoms(use_true_random=False),
        ends=st.booleans(),
    )
    def killed(self, name: str, grey: int, steps: int, share: float, lost: Any, ends: bool) -> None:
        """The command that takes an image in dies; if the power goes too, writes that were not synced are lost."""
        self.put(name, grey)
        before = self.stack.stat().st_ino if self.stack.exists() else None
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, steps, share)
            try:
                self.extract(self.stack)
            except Killed:
                pass
            else:
                self.current = True
        if lost:
            disk.lose([partial_path(self.stack), self.stack], lost)
        if self.current or (self.stack.exists() and self.stack.stat().st_ino != before):
            self.rotten.clear()  # it is another file
        if ends:
            self.complete()

    @precondition(lambda self: partial_path(self.stack).exists())
    @rule(name=st.sampled_from(ROWS), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def rot_unfinished(self, name: str, place: float, bit: int) -> None:
        """One bit flips in a file that is not finished."""
        self.rot(partial_path(self.stack), name, place, bit)

    @precondition(lambda self: self.stack.exists())
    @rule(name=st.sampled_from(ROWS[:2]), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def rot_finished(self, name: str, place: float, bit: int) -> None:
        """One bit flips in the finished stack, or flips back."""
        self.rotten ^= {(name, self.rot(self.stack, name, place, bit), bit)}
        self.current = False

    @rule()
    def complete(self) -> None:
        """The command ends: its stack is that of a run that nothing disturbed, and another run leaves it alone."""
        self.extract(self.stack)
        self.extract(self.folder / "straight.h5")
        got, straight = rows_of(self.stack), rows_of(self.folder / "straight.h5")
        rejects = open_stack(self.stack).rejects, open_stack(self.folder / "straight.h5").rejects
        (self.folder / "straight.h5").unlink()
        assert [reject[:2] for reject in rejects[0]] == [reject[:2] for reject in rejects[1]]
        for name in straight.keys() - {"rejects", "mtime_ns"}:  # a file only touched keeps its row, of when it was read
            assert got[name] == straight[name], name
        assert sorted(path.name for path in self.folder.iterdir()) == ["a.h5", "photos"]
        self.rotten.clear()
        self.current = True
        verify(str(self.stack))
        made = self.stack.read_bytes()
        self.extract(self.stack)
        assert self.stack.read_bytes() == made

    @invariant()
    def what_is_finished_is_sound(self) -> None:
        """Under its own name a stack is whole at every moment, but for the bits that were flipped in it."""
        if self.stack.exists():
            bad = damaged_rows(open_stack(self.stack))
            assert bool(bad) == bool(self.rotten), bad
            if bad:
                with pytest.raises(Failed, match="is damaged: row"):
                    verify(str(self.stack))
            elif self.current:
                verify(str(self.stack))

    def teardown(self) -> None:
        try:
            self.complete()
        finally:
            self.patch.undo()
            shutil.rmtree(self.folder)

    def extract(self, out: Path) -> None:
        """The command."""
        extract(str(self.data), out=str(out), **SETTINGS)

    @staticmethod
    def rot(path: Path, name: str, place: float, bit: int) -> int:
        """Flips a bit at a share of a dataset's bytes. Returns which byte that was."""
        with h5py.File(path, "r") as file:
            size = file[name].size * file[name].dtype.itemsize
        flip(path, offsets(path)[name] + int(place * size), 1 << bit)
        return int(place * size)


# No search for the shortest case, which takes minutes: what failed is printed step by step.
COMMON: dict[str, Any] = {
    "phases": [Phase.generate],
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@pytest.mark.slow
class TestDisturbed(Disturbed.TestCase):  # type: ignore[name-defined]
    settings = settings(max_examples=7, stateful_step_count=14, derandomize=True, **COMMON)


@pytest.mark.soak
class TestDisturbedForLong(Disturbed.TestCase):  # type: ignore[name-defined]
    settings = settings(max_examples=40, stateful_step_count=30, print_blob=True, **COMMON)
