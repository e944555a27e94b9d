"""A recipe → its stack: begun, resumed, brought up to date, or left alone."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from extract.network.engines import changed_versions
from extract.stack.changes import recipe_changes
from extract.stack.job import Job
from extract.stack.look import look
from extract.stack.passes import Rest, compute_rest, finish, in_passes
from extract.stack.plan import Plan, plan
from extract.stack.update import begin_update, carry_over, known_splits, set_aside
from features import Stack, open_stack
from features.layout import aside_path, partial_path
from features.open import open_rows_so_far
from features.runtime.lock import writer_lock
from features.runtime.log import log
from features.writer import StackWriter

ALIKE = ("weights_sha256", "engine", "device", "batch", "layers")  # … are two files that can share rows


def make_stacks(jobs: Sequence[Job]) -> list[Path]:
    """Make stacks of the same images, each at a layer of its own, or do what is missing.

    Rows that several of them miss are computed in one pass.

    Returns:
        the stacks' paths.

    Raises:
        Refused: a stack that is there was made from something else.
        Failed: disk, network or memory.
    """
    with ExitStack() as held:
        for job in jobs:
            held.enter_context(writer_lock(job.stack))
        rests = [rest for job in jobs if (rest := _prepared(job))]
        for together in in_passes(rests):
            compute_rest(together)
        for job in jobs:
            for left in (partial_path(job.stack), aside_path(job.stack)):  # a kill after the last rename leaves them
                left.unlink(missing_ok=True)
    return [job.stack for job in jobs]


def _prepared(job: Job) -> Rest | None:
    """Do what needs no network; returns what is left then, if anything is."""
    decided = plan(*look(job))
    if decided.action == "set aside":
        _tell(decided)
        set_aside(job.stack)
        decided = plan(*look(job))
    _tell(decided)
    if decided.action == "nothing":
        return None
    if decided.action == "begin":
        return Rest(job, None, {})
    return _carried(decided, job)


def _carried(decided: Plan, job: Job) -> Rest | None:
    """Carry rows over into the begun file; finishes it where none is missing then."""
    sources = [(source, _open_source(source.path, job.stack)) for source in decided.sources]
    known: dict[bytes, int] = {}
    for source, stack in sources:
        _warn_of_other_versions(stack.attrs)
        if source.path == decided.splits_of:
            known = known_splits(stack)
    if sources:
        job = job.as_begun(sources[0][1].attrs)
    if decided.action == "update":
        begin_update(job, sources[0][1], known, decided.changes)
    with StackWriter(job.stack) as writer:
        job = _resumed(decided, job, writer)
        alike = {name: writer.attrs.get(name) for name in ALIKE}
        for source, stack in sources:
            if not recipe_changes(stack.attrs, alike):
                log.info(f"{carry_over(writer, stack, source)} rows were carried over")
        if sources and writer.done.all():  # the network isn't needed
            finish(job, writer, {}, known)
            return None
        # A file that is begun for a finished stack takes weights, engine and batch from it, and would take them again.
        like = decided.sources[0].path if decided.sources else writer.partial
        rows = hashlib.sha256("\0".join(writer.paths).encode() + writer.view.tobytes()).hexdigest()
        return Rest(job, like, known, rows)


def _open_source(path: Path, stack: Path) -> Stack:
    return open_rows_so_far(path) if path == aside_path(stack) else open_stack(path)


def _resumed(decided: Plan, job: Job, writer: StackWriter) -> Job:
    """The job with what its begun file has decided; rows that can't be kept are emptied."""
    writer.forget(list(decided.again))
    _warn_of_other_versions(writer.attrs)
    writer.check()
    compute, attrs = job.compute, writer.attrs
    engine = str(attrs["engine"]).split()[0] if compute.engine == "auto" else compute.engine
    compute = dataclasses.replace(compute, engine=engine, device=str(attrs["device"]), batch=int(attrs["batch"]))
    return dataclasses.replace(job.as_begun(attrs), compute=compute)


def _warn_of_other_versions(attrs: Mapping[str, Any]) -> None:
    if newer := changed_versions(json.loads(attrs.get("versions", "{}"))):
        log.warning(f"the other rows may differ in their last bits: {'; '.join(newer)}")


def _tell(decided: Plan) -> None:
    for line in decided.told:
        log.info(line)
