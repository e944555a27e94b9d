"""A recipe → its stack: begun, resumed, brought up to date, or left alone."""

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from extract.compute.cluster import Cluster, open_compute
from extract.compute.local import Compiled, Local
from extract.images.split import chosen, seeded_split
from extract.network.engines import changed_versions
from extract.recipe import Recipe
from extract.stack.changes import Recorded, image_changes, recipe_changes, refuse, way_on
from extract.stack.job import Job
from extract.stack.look import look
from extract.stack.plan import Plan, plan
from extract.stack.update import begin_update, carry_over, known_splits, set_aside
from extract.stack.warnings import LEAKED, leaked
from features import Refused, Stack, open_stack
from features.layout import aside_path, lay_out, layout_path, partial_path
from features.open import open_rows_so_far
from features.runtime.disk import publish
from features.runtime.errors import listed
from features.runtime.lock import writer_lock
from features.runtime.log import log
from features.runtime.progress import progress
from features.writer import StackWriter

ALIKE = ("weights_sha256", "engine", "device", "batch")  # … are two files that can share rows
MEASURED_FROM = 2000  # images: for fewer, finding the fastest batch would take longer than it saves


def make_stack(job: Job) -> Path:
    """Make a stack, or do what is missing.

    Returns:
        the stack's path.

    Raises:
        Refused: the stack that is there was made from something else.
        Failed: disk, network or memory.
    """
    with writer_lock(job.stack):
        decided = plan(*look(job))
        if decided.action == "set aside":
            _tell(decided)
            set_aside(job.stack)
            decided = plan(*look(job))
        _tell(decided)
        if decided.action != "nothing":
            _carry_out(decided, job)
        for left in (partial_path(job.stack), aside_path(job.stack)):  # a kill after the last rename leaves them, too
            left.unlink(missing_ok=True)
    return job.stack


def _carry_out(decided: Plan, job: Job) -> None:
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
    if decided.action != "begin":
        with StackWriter(job.stack) as writer:
            job = _resumed(decided, job, writer)
            alike = {name: writer.attrs[name] for name in ALIKE}
            for source, stack in sources:
                if not recipe_changes(stack.attrs, alike):
                    log.info(f"{carry_over(writer, stack, source)} rows were carried over")
            if sources and writer.done.all():  # nothing is left to compute: the network isn't needed
                _finish(job, writer, {}, known)
                return
    _compute_rest(decided, job, known)


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


def _compute_rest(decided: Plan, job: Job, known: Mapping[bytes, int]) -> None:
    """Compile the network, begin the file if need be, compute what is missing, and finish."""
    partial, recipe = partial_path(job.stack), job.recipe
    # A file that is begun for a finished stack takes weights, engine and batch from it, and would take them again.
    begun_with = decided.sources[0].path if decided.sources else partial
    with open_compute(job.compute.dask, recipe.listing.root) as at:
        try:
            compiled = at.compile(recipe, job.compute, len(recipe.listing.paths) >= MEASURED_FROM)
        except Refused as error:
            if decided.action == "begin":
                raise
            raise Refused(f"{error}\n{begun_with} was made with just that. {way_on(begun_with)}") from None
        if job.compute.engine == "auto":
            log.info(f"engine: {compiled.engine} ({compiled.why}), {compiled.batch} images a batch")
        if decided.action == "begin":
            attrs = job.attributes() | _made_with(recipe, compiled)
            lay_out(layout_path(job.stack), recipe.rows({}), recipe.listing.label_names, compiled.feature_shape, attrs)
            publish(layout_path(job.stack), partial)
        with StackWriter(job.stack) as writer:
            if writer.attrs["weights_sha256"] != compiled.weights_sha256:
                raise Refused(f"{begun_with} was made with other weights. {way_on(begun_with)}")
            # Another engine or batch, halved for want of memory, could give the other rows other last bits.
            same = {"engine": compiled.engine, "batch": compiled.batch}
            refuse(begun_with, recipe_changes(writer.attrs, same))
            _finish(job, writer, _compute(writer, recipe, at, compiled.batch), known)


def _compute(writer: StackWriter, recipe: Recipe, at: Local | Cluster, batch: int) -> dict[int, str]:
    """Compute the rows that are still missing; returns row → reason, of the rows rejected.

    Rows that another run left have been checked.
    """
    good = writer.done
    missing = np.flatnonzero(~good)
    if len(missing) < len(good):
        log.info(f"resuming {writer.partial}: {int(good.sum())} of {len(good)} rows are done")
    began = time.perf_counter()
    with progress(total=len(good), initial=int(good.sum()), unit="images") as bar:
        reasons = at.fill(writer, recipe, missing, batch, bar.update)
        if changed := image_changes(Recorded.of(writer), recipe.listing).changed:
            paths = listed(changed)
            log.info(f"{len(changed)} images changed during the run and are read again: {paths}")
            writer.forget(changed)
            again = np.flatnonzero(np.isin(writer.paths, changed))
            reasons = {row: why for row, why in reasons.items() if row not in again}
            reasons |= at.fill(writer, recipe, again, batch, lambda rows: None)
            if still := image_changes(Recorded.of(writer), recipe.listing).changed:
                at.report_changing(still)
    seconds = time.perf_counter() - began
    read, rejected = ({writer.paths[row] for row in rows} for rows in (missing, reasons))
    log.info(
        f"{len(read)} images read, {len(missing) - len(reasons)} rows written, {len(rejected)} images rejected, "
        f"in {seconds:.1f} s ({len(read) / seconds:.1f} images/s)",
    )
    return reasons


def _finish(job: Job, writer: StackWriter, reasons: dict[int, str], known: Mapping[bytes, int]) -> None:
    """Give the rows their split, which `known` images keep, and give the file its name."""
    split, recipe = writer.split, job.recipe
    if recipe.listing.split is None and not recipe.views:  # else it is split already
        read = writer.sha256.any(axis=1)
        split = np.zeros(len(read), "u1")
        groups = chosen(writer.groups, read)
        split[read] = seeded_split(writer.labels[read], writer.sha256[read], recipe.seed, known=known, groups=groups)
    if job.no_leakage:
        images = Recorded.of(writer)._replace(split=split[writer.view == 0])
        copies = leaked(images, {writer.paths[row] for row in reasons})
        reasons |= {row: LEAKED + copies[path] for row, path in enumerate(writer.paths) if path in copies}
    writer.finish(split, reasons)


def _made_with(recipe: Recipe, compiled: Compiled) -> dict[str, Any]:
    """Root attributes that the compiled network decides."""
    named = recipe.weights in ("imagenet", "random", "formula")
    return {
        "weights": Path(recipe.weights).name,
        "weights_file": "" if named else str(Path(recipe.weights).resolve()),
        "weights_sha256": compiled.weights_sha256,
        "engine": compiled.engine,
        "device": compiled.device,
        "batch": compiled.batch,
        "seed": recipe.seed,
    }


def _tell(decided: Plan) -> None:
    for line in decided.told:
        log.info(line)
