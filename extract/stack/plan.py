"""Decide what has to be done for a stack. Nothing here touches a file: `make_stack` looks, decides and carries out."""

import dataclasses
from pathlib import Path

from extract.stack.changes import ImageChanges, refuse
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
    """

    path: Path
    images: ImageChanges
    settings: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    gone: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """What has to be done.

    Attributes:
        action: `nothing`, `begin` a first run, `resume` one that was killed, or `update` a finished stack in a second
            file.
        again: images whose rows in the begun file are computed again.
        not_carried: images whose rows in the finished stack are not carried over.
        keeps_begun: whether an update goes on with the second file that a killed run left.
        as_begun: whether the begun file is first finished with the images that it was begun with. Then plan again.
        told: lines for stderr.
    """

    action: str
    again: tuple[str, ...] = ()
    not_carried: tuple[str, ...] = ()
    keeps_begun: bool = False
    as_begun: bool = False
    told: tuple[str, ...] = ()


def plan(finished: Existing | None, begun: Existing | None) -> Plan:
    """Decide.

    Args:
        finished: the stack under its own name, if there is one.
        begun: the unfinished file beside it, if there is one.

    Raises:
        Refused: the stack was made from something else.
    """
    if finished is not None:
        return _plan_finished(finished, begun)
    if begun is None:
        return Plan("begin")
    images = begun.images
    others = [*begun.settings, *images.refused().lines()]
    if not others and not begun.gone and (images.added or images.removed):
        news = f"{begun.path}: {'; '.join(images.lines())}; what was begun is finished first"
        return Plan("resume", as_begun=True, told=(news,))
    refuse(begun.path, [*begun.settings, *images._replace(changed=[]).lines()])
    return Plan("resume", again=tuple(images.changed))


def check_same(finished: Existing) -> None:
    """Raise Refused where no row of a finished stack can be kept."""
    refuse(finished.path, [*finished.settings, *finished.images.refused().lines()])


def _plan_finished(finished: Existing, begun: Existing | None) -> Plan:
    check_same(finished)
    path, changes = finished.path, finished.images.lines()
    if not finished.damaged and not changes:
        return Plan("nothing", told=(f"{path} is up to date, nothing to do",))
    told = []
    if finished.damaged:
        told.append(f"{path} is damaged, so row {listed(list(finished.damaged))} is computed again")
    if changes:
        told.append(f"{path}: {'; '.join(changes)}")
    # Only images that changed may differ: their rows in the begun file are computed again.
    keeps = begun is not None and not begun.settings and not begun.images._replace(changed=[]).lines()
    again = tuple(begun.images.changed) if begun is not None and keeps else ()
    return Plan("update", again, tuple(finished.images.changed), keeps, told=tuple(told))
