"""A recipe → its stack: begun, resumed, brought up to date, or left alone."""

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from extract.compute.cluster import Cluster, open_compute
from extract.compute.local import Compiled, Compute, Local
from extract.images.dataset import Listing
from extract.images.split import seeded_split
from extract.network.engines import changed_versions, row_versions
from extract.recipe import Recipe
from extract.stack.changes import Recorded, image_changes, recipe_changes, refuse, start_again
from extract.stack.plan import Existing, Plan, check_same, plan
from extract.stack.update import begin_update, carry_over, known_splits, listing_as_begun
from extract.stack.warnings import LEAKED, leakage_changes, leaked
from features import Refused, Stack, open_stack, verify
from features.check import damaged_rows, has_its_identities
from features.layout import lay_out, layout_path, partial_path
from features.runtime.disk import publish
from features.runtime.errors import listed
from features.runtime.lock import writer_lock
from features.writer import StackWriter

MEASURED_FROM = 2000  # images: for fewer, finding the fastest batch would take longer than it saves


@dataclasses.dataclass(frozen=True)
class Job:
    """One call of `make_stack`.

    Attributes:
        stack: the file.
        recipe: what the stack is made from.
        compute: where and how its rows are computed.
        command: the command to record.
        no_leakage: whether train images that are in test too are left out.
    """

    stack: Path
    recipe: Recipe
    compute: Compute
    command: str
    no_leakage: bool = False

    def with_listing(self, listing: Listing) -> "Job":
        """The same for other images."""
        return dataclasses.replace(self, recipe=dataclasses.replace(self.recipe, listing=listing))

    def as_begun(self, attrs: Mapping[str, Any]) -> "Job":
        """The same with what a file on disk has decided for good."""
        return dataclasses.replace(self, recipe=self.recipe.as_begun(attrs))


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
        if decided.as_begun:
            _tell(decided)
            first = job.with_listing(listing_as_begun(job.stack, job.recipe.listing))
            _carry_out(plan(*look(first)), first)
            decided = plan(*look(job))
        return _carry_out(decided, job)


def look(job: Job) -> tuple[Existing | None, Existing | None]:
    """The finished stack and the begun file that are there, each compared with what is asked for.

    A finished stack is read whole only if it can be kept, and a begun file is opened only if it is needed.
    """
    wanted, listing, attrs, finished = job.recipe.attrs(), job.recipe.listing, None, None
    if job.stack.exists():
        stack = open_stack(job.stack)
        attrs = stack.attrs
        changes = recipe_changes(attrs, wanted | {"decode": attrs.get("decode")})
        images = image_changes(Recorded.of(stack), listing)
        settings = (*changes, *leakage_changes(stack, job.no_leakage))
        finished = Existing(job.stack, images, settings)
        check_same(finished)
        if not has_its_identities(stack):
            verify(str(stack.path))  # raises, and says what to do: rows of unknown images cannot be computed again
        finished = dataclasses.replace(finished, damaged=tuple(damaged_rows(stack)))
        if plan(finished, None).action == "nothing":
            return finished, None
    if not partial_path(job.stack).exists():
        return finished, None
    with StackWriter(job.stack) as writer:
        images = image_changes(Recorded.of(writer), listing)
        decode = (attrs or writer.attrs).get("decode")
        settings = tuple(recipe_changes(writer.attrs, wanted | {"decode": decode}))
        gone = len(images.removed) == int((writer.view == 0).sum())
        return finished, Existing(writer.partial, images, settings, gone=gone)


def _carry_out(decided: Plan, job: Job) -> Path:
    _tell(decided)
    if decided.action == "nothing":
        partial_path(job.stack).unlink(missing_ok=True)  # left by a kill between the last rename and its removal
        return job.stack
    finished = None
    if decided.action == "update":
        finished = open_stack(job.stack)
        job = job.as_begun(finished.attrs)
        if not decided.keeps_begun:
            begin_update(finished, job.recipe, _attributes(job))
    if decided.action != "begin":
        with StackWriter(job.stack) as writer:
            job = _resumed(decided, job, writer)
            if finished is not None:
                carried = carry_over(writer, finished, list(decided.not_carried))
                print(f"{carried} rows were carried over", file=sys.stderr)
                if writer.done.all():  # images only went: the network isn't needed
                    return _finish(job, writer, {}, finished)
    return _compute_rest(decided, job, finished)


def _resumed(decided: Plan, job: Job, writer: StackWriter) -> Job:
    """The job with what its begun file has decided; rows that can't be kept are emptied."""
    writer.forget(list(decided.again))
    if newer := changed_versions(json.loads(writer.attrs.get("versions", "{}"))):
        print(f"warning: the other rows may differ in their last bits: {'; '.join(newer)}", file=sys.stderr)
    writer.check()
    compute, attrs = job.compute, writer.attrs
    engine = str(attrs["engine"]).split()[0] if compute.engine == "auto" else compute.engine
    compute = dataclasses.replace(compute, engine=engine, device=str(attrs["device"]), batch=int(attrs["batch"]))
    return dataclasses.replace(job.as_begun(attrs), compute=compute)


def _compute_rest(decided: Plan, job: Job, finished: Stack | None) -> Path:
    """Compile the network, begin the file if need be, compute what is missing, and finish."""
    partial, recipe = partial_path(job.stack), job.recipe
    # A file that is begun for a finished stack takes weights, engine and batch from it, and would take them again.
    begun_with = (partial,) if finished is None else (job.stack, partial)
    with open_compute(job.compute.dask, recipe.listing.root) as at:
        try:
            compiled = at.compile(recipe, job.compute, len(recipe.listing.paths) >= MEASURED_FROM)
        except Refused as error:
            if decided.action == "begin":
                raise
            raise Refused(f"{error}\n{begun_with[0]} was begun with just that. {start_again(*begun_with)}") from None
        if job.compute.engine == "auto":
            print(f"engine: {compiled.engine} ({compiled.why}), {compiled.batch} images a batch", file=sys.stderr)
        if decided.action == "begin":
            attrs = _attributes(job) | _made_with(recipe, compiled)
            lay_out(layout_path(job.stack), recipe.rows({}), recipe.listing.label_names, compiled.feature_shape, attrs)
            publish(layout_path(job.stack), partial)
        with StackWriter(job.stack) as writer:
            if writer.attrs["weights_sha256"] != compiled.weights_sha256:
                raise Refused(f"{begun_with[0]} was begun with other weights: {start_again(*begun_with)}")
            # Another engine or batch, halved for want of memory, could give the other rows other last bits.
            same = {"engine": compiled.engine, "batch": compiled.batch}
            refuse(begun_with[0], recipe_changes(writer.attrs, same), *begun_with[1:])
            return _finish(job, writer, _compute(writer, recipe, at, compiled.batch), finished)


def _compute(writer: StackWriter, recipe: Recipe, at: Local | Cluster, batch: int) -> dict[int, str]:
    """Compute the rows that are still missing; returns row → reason, of the rows rejected.

    Rows that another run left have been checked.
    """
    good = writer.done
    missing = np.flatnonzero(~good)
    if len(missing) < len(good):
        print(f"resuming {writer.partial}: {int(good.sum())} of {len(good)} rows are done", file=sys.stderr)
    began = time.perf_counter()
    with tqdm(total=len(good), initial=int(good.sum()), unit="images", disable=None, dynamic_ncols=True) as bar:
        reasons = at.fill(writer, recipe, missing, batch, bar.update)
        if changed := image_changes(Recorded.of(writer), recipe.listing).changed:
            paths = listed(changed)
            print(f"{len(changed)} images changed during the run and are read again: {paths}", file=sys.stderr)
            writer.forget(changed)
            again = np.flatnonzero(np.isin(writer.paths, changed))
            reasons = {row: why for row, why in reasons.items() if row not in again}
            reasons |= at.fill(writer, recipe, again, batch, lambda rows: None)
            if still := image_changes(Recorded.of(writer), recipe.listing).changed:
                at.report_changing(still)
    seconds = time.perf_counter() - began
    print(f"{len(missing)} rows in {seconds:.1f} s ({len(missing) / seconds:.1f} images/s)", file=sys.stderr)
    return reasons


def _finish(job: Job, writer: StackWriter, reasons: dict[int, str], before: Stack | None) -> Path:
    """Give the rows their split, which images of the stack before keep, and give the file its name."""
    split, recipe = writer.split, job.recipe
    if recipe.listing.split is None and not recipe.views:  # else it is split already
        read = writer.sha256.any(axis=1)
        split = np.zeros(len(read), "u1")
        split[read] = seeded_split(writer.labels[read], writer.sha256[read], recipe.seed, known=known_splits(before))
    if job.no_leakage:
        images = Recorded.of(writer)._replace(split=split[writer.view == 0])
        copies = leaked(images, {writer.paths[row] for row in reasons})
        reasons |= {row: LEAKED + copies[path] for row, path in enumerate(writer.paths) if path in copies}
    return writer.finish(split, reasons)


def _attributes(job: Job) -> dict[str, Any]:
    """Root attributes of a new file that are known before the network is compiled."""
    listing = job.recipe.listing
    attrs = {
        **job.recipe.attrs(),
        "dataset": listing.name,
        "dataset_root": str(listing.root),
        "versions": json.dumps(row_versions()),
        "command": job.command,
    }
    return {name: value for name, value in attrs.items() if value is not None}


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
        print(line, file=sys.stderr)
