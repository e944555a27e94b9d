"""Decide what has to be done for a stack. Nothing here touches a file: `make_stacks` looks, decides and carries out."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from extract.stack.changes import ImageChanges, Moved, refuse
from features.runtime.errors import listed


@dataclasses.dataclass(frozen=True)
class Existing:
    """A stack that is there, finished or begun, compared with what is asked for.

    Attributes:
        path: the file.
        images: the images that differ from the dataset's.
        settings: one line for each setting that differs.
        damaged: `index (path)` of each row that does not fit its checksum.
        gone: whether every one of its images has gone from the dataset.
        split_again: how its split has to change, where another seed is given for that.
        corrected: how its corrections differ from those asked for.
    """

    path: Path
    images: ImageChanges
    settings: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    gone: bool = False
    split_again: str = ""
    corrected: str = ""

    def changes(self) -> list[str]:
        """One line for each kind of change that an update makes."""
        return [*self.images.lines(), *filter(None, (self.split_again, self.corrected))]

    def is_current(self) -> bool:
        """Whether at most the bytes of some images differ, so that the file can be gone on with as it is."""
        images = self.images
        others = (images.added, images.removed, images.relabelled, images.resplit, images.regrouped)
        return not any((*others, self.split_again, self.corrected))


class Source(NamedTuple):
    """A stack that rows are carried over from."""

    path: Path
    not_carried: tuple[str, ...] = ()  # images that changed since
    moved: Mapping[str, Moved] = {}  # images that get the rows of an image that has another path there


@dataclasses.dataclass(frozen=True)
class Plan:
    """What has to be done.

    Attributes:
        action: `nothing`; `begin` a first run; `resume` the begun file; `update`: lay out a new file to carry rows over
            into; or `set aside` the begun file, whose images are no longer those of the dataset, and plan again.
        again: images whose rows in the begun file are computed again.
        sources: where rows are carried over from, the first before the next.
        splits_of: the source whose images keep their splits.
        changes: kind of change → number of images, to record in the new file.
        told: lines for stderr.
    """

    action: str
    again: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    splits_of: Path | None = None
    changes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    told: tuple[str, ...] = ()


def plan(
    finished: Existing | None,
    begun: Existing | None = None,
    aside: Existing | None = None,
    elsewhere: Existing | None = None,
) -> Plan:
    """Decide.

    Args:
        finished: the stack under its own name, if there is one.
        begun: the unfinished file beside it, if there is one.
        aside: a begun file that was set aside, if there is one; only its finished rows count.
        elsewhere: another finished stack that has rows of the same images.

    Raises:
        Refused: the stack was made from something else.
    """
    if finished is not None:
        check_same(finished)
        if not finished.damaged and not finished.changes():
            return Plan("nothing", told=(f"{finished.path} is up to date, nothing to do",))
    if begun is not None and not (finished and begun.settings):  # else it is of no use to the finished stack
        refuse(begun.path, [*begun.settings, *([] if finished else _gone(begun))])
        if not begun.is_current():
            news = f"{begun.path}: {'; '.join(begun.changes())}"
            return Plan("set aside", told=(news,))
        action, again = "resume", tuple(begun.images.changed)
    else:
        action, again = "update", ()
    there = [each for each in (finished, aside, elsewhere) if each and not each.settings]
    if aside is not None and not finished:
        refuse(aside.path, list(aside.settings))
    if not there and action == "update":
        return Plan("begin")
    return Plan(
        action,
        again,
        sources=tuple(Source(each.path, tuple(each.images.changed), each.images.moved) for each in there),
        splits_of=_splits_of(finished, elsewhere),
        changes=_recorded(finished) if finished else {},
        told=(*(_told(finished) if finished else ()), *_rows_elsewhere(elsewhere)),
    )


def check_same(finished: Existing) -> None:
    """Raise Refused where no row of a finished stack can be kept."""
    refuse(finished.path, [*finished.settings, *_gone(finished)])


def _gone(there: Existing) -> list[str]:
    """Why a file of other images is another dataset's: of another `photos` folder, for example."""
    return ["not one of its images is in the dataset any more, neither by path nor by bytes"] if there.gone else []


def _splits_of(finished: Existing | None, elsewhere: Existing | None) -> Path | None:
    """The stack whose images keep their splits, so that no model that was fitted to it has seen a test row.

    A stack elsewhere counts if it holds no other images: it is the same dataset under another name, or before it grew.
    A begun file does not: nobody has seen its splits.
    """
    if finished is not None:
        return None if finished.split_again else finished.path
    same = elsewhere and not elsewhere.images.removed and not elsewhere.split_again
    return elsewhere.path if elsewhere and same else None


def _recorded(finished: Existing) -> dict[str, int]:
    return finished.images.counts() | ({"split again": 1} if finished.split_again else {})


def _told(finished: Existing) -> Sequence[str]:
    told = []
    if finished.damaged:
        told.append(f"{finished.path} is damaged, so row {listed(list(finished.damaged))} is computed again")
    if changes := finished.changes():
        told.append(f"{finished.path}: {'; '.join(changes)}")
    return told


def _rows_elsewhere(elsewhere: Existing | None) -> Sequence[str]:
    return [f"{elsewhere.path} has rows of the same images, made with the same settings"] if elsewhere else []
