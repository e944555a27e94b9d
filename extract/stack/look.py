"""Look at what is on disk for a stack: the facts that `plan` decides on."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from extract.compute.local import Compute
from extract.images.dataset import Listing
from extract.stack.changes import Recorded, image_changes, recipe_changes
from extract.stack.job import Job
from extract.stack.leakage import leakage_changes
from extract.stack.plan import Existing, check_same, plan
from features import Failed, Stack, open_stack, verify
from features.check import damaged_rows, has_its_identities
from features.layout import aside_path, partial_path
from features.open import open_rows_so_far
from features.writer import StackWriter

WORTH_IT = 0.5  # share of the images whose rows another stack must have, to decide engine and batch for the rest


class Found(NamedTuple):
    """What is on disk, each compared with what is asked for; see `plan`."""

    finished: Existing | None
    begun: Existing | None = None
    aside: Existing | None = None
    elsewhere: Existing | None = None


def look(job: Job) -> Found:
    """Compare what is there with what is asked for.

    A finished stack is read whole only if it can be kept, and the others are opened only if they are needed: those
    elsewhere if there is no finished one and the job takes rows.

    Raises:
        Refused: the finished stack was made from something else, or the weights are not there.
        Failed: a file is damaged.
    """
    wanted, finished, like = job.recipe.attrs(), None, None
    if job.stack.exists():
        like = open_stack(job.stack)
        finished = _compared(job, like, job.stack, wanted)
        lost = (
            _lost_labels(like, job.recipe.listing)
            + _lost_corrections(like, job.recipe.listing)
            + leakage_changes(like, job.no_leakage)
        )
        finished = dataclasses.replace(finished, settings=(*finished.settings, *lost))
        check_same(finished)
        if not has_its_identities(like):
            verify(str(like.path))  # raises, and says what to do: rows of unknown images cannot be computed again
        finished = dataclasses.replace(finished, damaged=tuple(damaged_rows(like)))
        if plan(finished).action == "nothing":
            return Found(finished)
    begun = aside = None
    if partial_path(job.stack).exists():
        with StackWriter(job.stack) as writer:
            begun = _compared(job, writer, writer.partial, wanted, like)
    if aside_path(job.stack).exists():
        rows = open_rows_so_far(aside_path(job.stack))
        aside = _compared(job, rows, rows.path, wanted, like)
    return Found(finished, begun, aside, _elsewhere(job, wanted) if job.takes_rows and not finished else None)


def _lost_labels(stack: Stack, listing: Listing) -> list[str]:
    """A line if a stack has labels and the dataset has none: those that came later are not to be lost."""
    lost = stack.label_names and not listing.label_names
    return [f"labels: {len(stack.label_names)} classes in the stack, none asked for; give its manifest"] if lost else []


def _lost_corrections(stack: Stack, listing: Listing) -> list[str]:
    """A line if a stack's labels were corrected and no corrections are given: its old labels would come back."""
    lost = stack.corrections and not listing.corrections
    told = f"corrections: {len(stack.corrections)} in the stack, none asked for; give --corrections FILE"
    return [told] if lost else []


def _corrected(attrs: Mapping[str, Any], listing: Listing) -> str:
    """What has to be said of corrections that a file was not made with."""
    was, now = attrs.get("corrections_sha256"), listing.corrections and listing.corrections.sha256
    return "" if was == now else "other corrections" if was else "corrections are new"


def _compared(
    job: Job, there: Stack | StackWriter, path: Path, wanted: dict[str, Any], like: Stack | None = None
) -> Existing:
    """A file compared with what is asked for; JPEGs are decoded as `like` has them decoded, by default the file."""
    recipe, attrs, recorded = job.recipe, there.attrs, Recorded.of(there)
    images = image_changes(recorded, recipe.listing)
    changes = recipe_changes(attrs, wanted | {"decode": (like or there).attrs.get("decode")})
    splits_by_seed = recipe.listing.split is None and not recipe.views
    again = splits_by_seed and attrs.get("seed") != recipe.seed
    return Existing(
        path,
        images,
        settings=tuple(changes),
        gone=not images.moved and not set(recorded.paths).difference(images.removed),
        corrected=_corrected(attrs, recipe.listing),
        split_again=f"split again with seed {recipe.seed}, not {attrs.get('seed')}" if again else "",
    )


def _elsewhere(job: Job, wanted: dict[str, Any]) -> Existing | None:
    """The stack in the same folder with the most rows of the same images, made with the same settings, if any is.

    So a dataset that got another name, or that is a part of another, costs only the rows of its new images.
    """
    sizes = job.recipe.listing.stats()[0]
    likely: list[tuple[int, Path]] = []
    for path in sorted(set(job.stack.parent.glob("*.h5")) - {job.stack}):
        try:
            stack = open_stack(path)
        except Failed:  # unfinished or damaged: no business of this run
            continue
        if not recipe_changes(stack.attrs, wanted) and _made_as_asked(stack, job.compute):
            likely.append((int(np.isin(sizes, stack.field("size")).sum()), path))
    count, path = max(likely, default=(0, job.stack))
    if count < WORTH_IT * len(sizes) or not has_its_identities(stack := open_stack(path)):
        return None
    existing = _compared(job, stack, path, wanted)
    images = existing.images
    others = len(images.added) + len(images.changed) - len(images.moved)
    return existing if others <= (1 - WORTH_IT) * len(sizes) else None


def _made_as_asked(stack: Stack, compute: Compute) -> bool:
    """Whether device, engine and batch of a stack's rows are those asked for, or none were."""
    device, engine, batch = (stack.attrs.get(name) for name in ("device", "engine", "batch"))
    asked = compute.device in ("auto", device) and compute.batch in (None, batch)
    return bool(device and engine and batch and asked and compute.engine in ("auto", engine.split()[0]))
