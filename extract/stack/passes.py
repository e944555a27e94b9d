"""Passes over the images: the rows that stacks still miss are computed, those of several layers at once."""

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from extract.compute.cluster import Cluster, open_compute
from extract.compute.local import Compiled, Local
from extract.compute.pipeline import Reasons, Writers
from extract.images.split import chosen, seeded_split
from extract.recipe import Recipe
from extract.stack.changes import Recorded, image_changes, recipe_changes, refuse, way_on
from extract.stack.job import Job
from extract.stack.leakage import NEAR, copies_of_test, near_copies
from features import Refused
from features.layout import lay_out, layout_path, partial_path
from features.runtime.disk import publish
from features.runtime.errors import listed
from features.runtime.log import log
from features.runtime.progress import progress
from features.schema import STORES, as_one
from features.writer import StackWriter

MEASURED_FROM = 2000  # images: for fewer, finding the fastest batch would take longer than it saves


class Rest(NamedTuple):
    """What is left to do for a stack.

    Attributes:
        job: with what the begun file has decided.
        like: the file that decided it; None where none is begun.
        known: SHA-256 → split of images that keep theirs.
        rows: SHA-256 (hex) of which rows the begun file has.
    """

    job: Job
    like: Path | None
    known: Mapping[bytes, int]
    rows: str = ""


def in_passes(rests: Sequence[Rest]) -> list[list[Rest]]:
    """Those that can share a pass, together: computed alike, with the same rows.

    New stacks share one. What was begun in a pass of several layers stays with all of them: a network with other
    outputs would give other last bits.
    """

    def kind(rest: Rest) -> str:
        recipe = rest.job.recipe
        begun = (recipe.layers or (recipe.layer,), rest.rows) if rest.like else ()
        return repr((rest.job.compute, recipe.decode, begun))

    passes = [list(together) for _, together in groupby(sorted(rests, key=kind), kind)]
    return [_sharing(together) if not together[0].like else together for together in passes]


def _sharing(new: list[Rest]) -> list[Rest]:
    layers = tuple(rest.job.recipe.layer for rest in new) if len(new) > 1 else ()
    recipes = [dataclasses.replace(rest.job.recipe, layers=layers) for rest in new]
    jobs = [dataclasses.replace(rest.job, recipe=recipe) for rest, recipe in zip(new, recipes, strict=True)]
    return [rest._replace(job=job) for rest, job in zip(new, jobs, strict=True)]


def compute_rest(together: Sequence[Rest]) -> None:
    """Compile the network of stacks that share a pass, begin their files if need be, compute what is missing, finish.

    Raises:
        Refused, Failed: see `make_stacks`.
    """
    job, like = together[0].job, together[0].like
    recipe = job.recipe
    with open_compute(job.compute.dask, recipe.listing.root) as at, ExitStack() as opened:
        try:
            compiled = at.compile(recipe, job.compute, len(recipe.listing.paths) >= MEASURED_FROM)
        except Refused as error:
            if not like:
                raise
            raise Refused(f"{error}\n{like} was made with just that. {way_on(like)}") from None
        if job.compute.engine == "auto":
            log.info(f"engine: {compiled.engine} ({compiled.why}), {compiled.batch} images a batch")
        if not like:
            _begin([rest.job for rest in together], compiled)
        writers = {rest.job.recipe.output: opened.enter_context(StackWriter(rest.job.stack)) for rest in together}
        for rest, writer in zip(together, writers.values(), strict=True):
            like = rest.like or writer.partial
            if writer.attrs["weights_sha256"] != compiled.weights_sha256:
                raise Refused(f"{like} was made with other weights. {way_on(like)}")
            # Another engine or batch, halved for want of memory, could give the other rows other last bits.
            refuse(like, recipe_changes(writer.attrs, {"engine": compiled.engine, "batch": compiled.batch}))
        reasons = _compute(writers, recipe, at, compiled.batch)
        for rest, (layer, writer) in zip(together, writers.items(), strict=True):
            finish(rest.job, writer, reasons[layer], rest.known)


def _begin(jobs: Sequence[Job], compiled: Compiled) -> None:
    rows = jobs[0].rows({})
    log.info(disk_needed(jobs, len(rows["paths"]), compiled))
    for job in jobs:
        attrs = job.attributes() | _made_with(job.recipe, compiled)
        shape = compiled.feature_shapes[job.recipe.output]
        listing = job.recipe.listing
        lay_out(layout_path(job.stack), rows, listing.label_names, shape, attrs, corrections=listing.corrected)
        publish(layout_path(job.stack), partial_path(job.stack))


def disk_needed(jobs: Sequence[Job], rows: int, compiled: Compiled) -> str:
    """What new stacks take on the disk. If it is more than half of the free space, cheaper choices follow."""
    recipe = jobs[0].recipe
    shapes = [compiled.feature_shapes[job.recipe.output] for job in jobs]
    item = np.dtype(STORES[recipe.store]).itemsize

    def size(numbers: Sequence[int], item: int) -> int:
        return rows * item * sum(numbers)

    widths, pooled = [math.prod(shape) for shape in shapes], [shape[-1] for shape in shapes]
    needed, folder = size(widths, item), jobs[0].stack.parent
    told = f"{rows:,} rows of {' + '.join(f'{width:,}' for width in widths)} numbers: {shown_bytes(needed)} on the disk"
    free = shutil.disk_usage(folder).free
    if needed <= free / 2:
        return told
    cheaper = {
        "--pool avg": size(pooled, item) if pooled != widths else 0,
        "--store f16": size(widths, 2) if item > 2 else 0,
        "--pool avg --store f16": size(pooled, 2) if item > 2 and pooled != widths else 0,
    }
    ways = [f"{way} takes {shown_bytes(less)}" for way, less in cheaper.items() if less]
    return f"{told}, where {shown_bytes(free)} are free. {'; '.join(ways)}".rstrip(". ")


def shown_bytes(count: int) -> str:
    """12 kB, 34.5 MB, 1.2 TB."""
    unit = min(4, max(1, (len(str(count)) - 1) // 3))
    return f"{count / 1000**unit:.1f} {' kMGT'[unit]}B"


def _compute(writers: Writers, recipe: Recipe, at: Local | Cluster, batch: int) -> Reasons:
    """Compute the rows that are still missing; returns what was rejected.

    Rows that another run left have been checked.
    """
    stacks = list(writers.values())
    good = np.logical_and.reduce([writer.done for writer in stacks])
    missing, paths = np.flatnonzero(~good), stacks[0].paths
    if len(missing) < len(good):
        names = listed([str(writer.partial) for writer in stacks])
        log.info(f"resuming {names}: {int(good.sum())} of {len(good)} rows are done")
    began = time.perf_counter()
    with progress(total=len(good), initial=int(good.sum()), unit="images") as bar:
        reasons = at.fill(writers, recipe, missing, batch, bar.update)
        if changed := _changed(stacks, recipe):
            log.info(f"{len(changed)} images changed during the run and are read again: {listed(changed)}")
            for writer in stacks:
                writer.forget(changed)
            again = np.flatnonzero(np.isin(paths, changed))
            once_more = at.fill(writers, recipe, again, batch, lambda rows: None)
            for layer, kept in reasons.items():
                reasons[layer] = {row: why for row, why in kept.items() if row not in again} | once_more[layer]
            if still := _changed(stacks, recipe):
                at.report_changing(still)
    seconds = time.perf_counter() - began
    rejected = {row for each in reasons.values() for row in each}
    read, bad = ({paths[row] for row in rows} for rows in (missing, rejected))
    to_each = f" to each of {len(stacks)} stacks" if len(stacks) > 1 else ""
    log.info(
        f"{len(read)} images read, {len(missing) - len(rejected)} rows written{to_each}, {len(bad)} images rejected, "
        f"in {seconds:.1f} s ({len(read) / seconds:.1f} images/s)",
    )
    return reasons


def _changed(stacks: Sequence[StackWriter], recipe: Recipe) -> list[str]:
    """Images whose file is no longer the one that was read."""
    return sorted({path for each in stacks for path in image_changes(Recorded.of(each), recipe.listing).changed})


def finish(job: Job, writer: StackWriter, reasons: dict[int, str], known: Mapping[bytes, int]) -> None:
    """Give the rows their split, which `known` images keep, and give the file its name."""
    split, recipe = writer.split, job.recipe
    near = near_copies(writer) if job.no_leakage == NEAR else None
    identity = writer.sha256 if near is None else as_one(writer.sha256, near)
    if recipe.listing.split is None and not recipe.views:  # else it is split already
        read = writer.sha256.any(axis=1)
        split = np.zeros(len(read), "u1")
        groups = chosen(writer.groups, read)
        split[read] = seeded_split(writer.labels[read], identity[read], recipe.seed, known=known, groups=groups)
    if job.no_leakage:
        reasons |= copies_of_test(writer, split, identity, reasons)
    writer.finish(split, reasons, near)


def _made_with(recipe: Recipe, compiled: Compiled) -> dict[str, Any]:
    """Root attributes that the compiled network decides."""
    named = recipe.weights in ("imagenet", "random", "formula")
    return {
        "weights": Path(recipe.weights).name,
        "weights_file": "" if named else str(Path(recipe.weights).absolute()),
        "weights_sha256": compiled.weights_sha256,
        "engine": compiled.engine,
        "device": compiled.device,
        "batch": compiled.batch,
        "seed": recipe.seed,
        **({"layers": json.dumps(recipe.layers)} if recipe.layers else {}),
    }
