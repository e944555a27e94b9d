"""A recipe → its stack: begun, resumed, brought up to date, or left alone."""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from extract.compute.cluster import OnDask, place
from extract.compute.local import Here
from extract.images.split import seeded_split
from extract.network.engines import changed_versions, row_versions
from extract.recipe import Recipe
from extract.stack.changes import Recorded, image_changes, recipe_changes, refuse, start_again
from extract.stack.update import begin_update, carry_over, listing_as_begun, settled_split
from extract.stack.warnings import LEAKED, leakage_changes, leaked
from features import Refused, Stack, open_stack, verify
from features.check import damaged_rows, has_its_identities
from features.layout import lay_out, layout_path, partial_path
from features.runtime.disk import publish
from features.runtime.errors import listed
from features.runtime.lock import writer_lock
from features.writer import StackWriter

MEASURED_FROM = 2000  # images: for fewer, finding the fastest batch would take longer than it saves


def make_stack(
    stack: Path,
    recipe: Recipe,
    device: str,
    engine: str,
    batch: int | None,
    command: str,
    no_leakage: bool = False,
    dask: str | None = None,
) -> Path:
    """Make a stack, or do what is missing of it.

    Args:
        stack: the file.
        recipe: what it is to be made of.
        device, engine, batch: as of `extract`; a file that is begun keeps its own.
        command: to be recorded.
        no_leakage: leave out train images that are in test too.
        dask: where rows are computed, as of `extract`; else here.

    Returns:
        stack.

    Raises:
        Refused: what is there was made from something else.
        Failed: disk, network or memory.
    """
    given = device, engine, batch, command, no_leakage, dask
    with writer_lock(stack):
        if begun_with := listing_as_begun(stack, recipe):
            _make(stack, dataclasses.replace(recipe, listing=begun_with), *given)
        return _make(stack, recipe, *given)


def _make(
    stack: Path,
    recipe: Recipe,
    device: str,
    engine: str,
    batch: int | None,
    command: str,
    no_leakage: bool,
    dask: str | None,
) -> Path:
    wanted, listing = recipe.attrs(), recipe.listing
    made_now = {
        "dataset": listing.name,
        "dataset_root": str(listing.root),
        "versions": json.dumps(row_versions()),
        "command": command,
    }
    finished, replaced = open_stack(stack) if stack.exists() else None, []
    if finished is not None:
        recipe, wanted["decode"] = recipe.as_begun(finished.attrs), finished.attrs.get("decode")
        changes = image_changes(Recorded.of(finished), listing)
        others = recipe_changes(finished.attrs, wanted) + leakage_changes(finished, no_leakage)
        refuse(stack, others + changes.refused().lines())
        if not has_its_identities(finished):
            verify(str(stack))  # raises, and says what to do: rows that nobody knows cannot be computed again
        damaged = damaged_rows(finished)
        if not damaged and not changes.lines():
            partial_path(stack).unlink(missing_ok=True)  # left by a kill between the last rename and its removal
            print(f"{stack} is up to date, nothing to do", file=sys.stderr)
            return stack
        if damaged:
            print(f"{stack} is damaged, so row {listed(damaged)} is computed again", file=sys.stderr)
        if changes.lines():
            print(f"{stack}: {'; '.join(changes.lines())}", file=sys.stderr)
        begin_update(finished, recipe, _there(wanted) | made_now)
        replaced = changes.changed
    begun = partial_path(stack).exists()
    # What is begun for a finished stack takes weights, engine and batch from it, and would take them again.
    begun_with = (partial_path(stack),) if finished is None else (stack, partial_path(stack))
    if begun:
        with StackWriter(stack) as writer:
            recipe, wanted["decode"] = recipe.as_begun(writer.attrs), writer.attrs.get("decode")
            changes = image_changes(Recorded.of(writer), listing)
            refuse(writer.partial, recipe_changes(writer.attrs, wanted) + changes._replace(changed=[]).lines())
            writer.forget(changes.changed)
            if newer := changed_versions(json.loads(writer.attrs.get("versions", "{}"))):
                print(f"warning: the other rows may differ in their last bits: {'; '.join(newer)}", file=sys.stderr)
            batch, device = int(writer.attrs["batch"]), str(writer.attrs["device"])
            if engine == "auto":
                engine = str(writer.attrs["engine"]).split()[0]
            writer.check()
            if finished is not None:
                print(f"{carry_over(writer, finished, replaced)} rows were carried over", file=sys.stderr)
                if writer.done.all():  # images only went: the network isn't needed
                    return _finish(writer, recipe, {}, finished, no_leakage)
    with place(dask, listing.root) as at:
        try:
            settled = at.settle(recipe, device, engine, batch, len(listing.paths) >= MEASURED_FROM)
        except Refused as error:
            if not begun:
                raise
            raise Refused(f"{error}\n{begun_with[0]} was begun with just that. {start_again(*begun_with)}") from None
        if engine == "auto":
            print(f"engine: {settled.engine} ({settled.why}), {settled.batch} images a batch", file=sys.stderr)
        if not begun:
            named = recipe.weights in ("imagenet", "random", "formula")
            made_by = {
                "weights": Path(recipe.weights).name,
                "weights_file": "" if named else str(Path(recipe.weights).resolve()),
                "weights_sha256": settled.weights_sha256,
                "engine": settled.engine,
                "device": settled.device,
                "batch": settled.batch,
                "seed": recipe.seed,
            }
            attrs = _there(wanted) | made_by | made_now
            lay_out(layout_path(stack), recipe.rows({}), listing.label_names, settled.feature_shape, attrs)
            publish(layout_path(stack), partial_path(stack))
        with StackWriter(stack) as writer:
            if writer.attrs["weights_sha256"] != settled.weights_sha256:
                raise Refused(f"{begun_with[0]} was begun with other weights: {start_again(*begun_with)}")
            # Another engine or batch, halved for want of memory, could give the other rows other last bits.
            same = {"engine": settled.engine, "batch": settled.batch}
            refuse(begun_with[0], recipe_changes(writer.attrs, same), *begun_with[1:])
            return _finish(writer, recipe, _compute(writer, recipe, at, settled.batch), finished, no_leakage)


def _compute(writer: StackWriter, recipe: Recipe, at: Here | OnDask, batch: int) -> dict[int, str]:
    """Compute the rows that are still missing; returns row → reason, of the rows rejected.

    Those that are there were checked, if another run left them.
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
                at.read_otherwise(still)
    seconds = time.perf_counter() - began
    print(f"{len(missing)} rows in {seconds:.1f} s ({len(missing) / seconds:.1f} images/s)", file=sys.stderr)
    return reasons


def _finish(
    writer: StackWriter, recipe: Recipe, reasons: dict[int, str], before: Stack | None, no_leakage: bool
) -> Path:
    """Give the rows their split, that of the stack before where they have one, and the file its name."""
    split = writer.split
    if recipe.listing.split is None and not recipe.views:  # else it is split already
        read = writer.sha256.any(axis=1)
        split = np.zeros(len(read), "u1")
        split[read] = seeded_split(writer.labels[read], writer.sha256[read], recipe.seed, settled=settled_split(before))
    if no_leakage:
        images = Recorded.of(writer)._replace(split=split[writer.view == 0])
        copies = leaked(images, {writer.paths[row] for row in reasons})
        reasons |= {row: LEAKED + copies[path] for row, path in enumerate(writer.paths) if path in copies}
    return writer.finish(split, reasons)


def _there(attrs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attrs.items() if value is not None}
