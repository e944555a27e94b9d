"""Compare several feature sets under several models, on the same images and the same splits."""

import dataclasses
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classify.across.alignment import aligned
from classify.across.cells import Answers, Job, answers
from classify.across.cost import cost
from classify.across.ensemble import ensemble
from classify.across.feature_set import FeatureSet, feature_sets
from classify.across.findings import ENSEMBLE, Quick, curves_of_best
from classify.across.kept import Kept
from classify.across.scoring import Entry, judged
from classify.across.splits import Split, splits_of
from classify.across.table import sets_table
from classify.comparison.lead import leading_score
from classify.fitting import Settings
from classify.folds import source_groups
from classify.models import Model
from classify.rows import checked_views
from features import Failed, Refused, Stack
from features.runtime.disk import write_json
from features.runtime.errors import listed
from features.runtime.lock import check_writable
from features.runtime.log import log, say_failed
from features.runtime.progress import progress
from features.schema import UNLABELLED


@dataclasses.dataclass(frozen=True)
class Question:
    """What a comparison of feature sets asks.

    Attributes:
        models: name → row.
        settings: how models are fitted.
        seeds: of the splits; None for the dataset's own.
        pools: poolings of each stack; None leaves them to the models.
        views: see `compare`.
        curves: whether learning curves are asked for.
        options: settings of networks, from the command line.
    """

    models: Mapping[str, Model]
    settings: Settings
    seeds: list[int] | None = None
    pools: list[str] | None = None
    views: int | None = None
    curves: bool = False
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Comparison:
    """Feature sets × models × splits: cells, of which those that are finished are on disk.

    Args:
        stacks: of the same images.
        question: what is asked.
        folder: where cells are kept, and networks saved.
        about: what is recorded beside the results: the command and versions.

    Raises:
        Refused: the stacks do not fit together, or what is asked for is not possible.

    Attributes:
        sets: the feature sets.
        y: (n,) int64 class indices of the rows.
        splits: that all cells have in common.
        left_out: images that some stack rejected.
        quick: leave-one-out scores.
        entries: rows of the table so far.
    """

    def __init__(self, stacks: Sequence[Stack], question: Question, folder: Path, about: dict[str, Any]) -> None:
        self.question, self.folder, self.about = question, folder, about
        _refuse_models(question)
        whole = {stack.path: len(stack) for stack in stacks}
        viewed = [stack.take(stack.view <= checked_views(stack, question.views)) for stack in stacks]
        matched = aligned(viewed, question.seeds is None)
        self.left_out, has_label = matched.left_out, matched.stacks[0].y != UNLABELLED
        labelled = [stack.take(has_label) for stack in matched.stacks]
        first = labelled[0]
        self.classes, self.y = np.unique(first.y, return_inverse=True)
        if len(self.classes) < 2:
            raise Refused(f"{first.path} has labelled images of {len(self.classes)} classes; a classifier needs two")
        self.sets = feature_sets(labelled, self.y, question.pools)
        self.splits = splits_of(first, self.y, question.seeds)
        self.costs = {each.name: cost(each, whole[each.stack.path]) for each in self.sets}
        check_writable(folder)
        self.lead = leading_score(self.y[self.splits[0].train])
        self.kept = Kept(folder / "cells", question.settings, dict(question.options))
        self.quick = Quick(self.splits[0], self.y, source_groups(first), self.kept)
        self.entries: list[Entry] = []

    def run(self) -> None:
        """Compute all cells that are not on disk, then the ensemble.

        Raises:
            Failed: not one model could be fitted to any set.
        """
        models = self.question.models
        total = len(self.sets) * len(models) * len(self.splits)
        told = f"{len(self.sets)} feature sets × {len(models)} models × {len(self.splits)} splits"
        log.info(f"{told}: {total} cells on {len(self.y):,} rows")
        if self.left_out:
            log.info(f"{len(self.left_out)} images that a stack rejected are left out of all: {listed(self.left_out)}")
        began = time.perf_counter()
        with progress(total=total, unit="cells") as bar:
            for number, features in enumerate(self.sets, 1):
                self.costs[features.name]["leave_one_out"] = self.quick.add(features)
                for name, model in models.items():
                    self.entries.append(entry := Entry(features.name, name, model.title, self.costs[features.name]))
                    self._fill(entry, features, bar)
                if not self.question.curves:  # these want it again
                    features.release()
                spent = time.perf_counter() - began
                left = spent / number * (len(self.sets) - number)
                log.info(f"{features.name}: done after {spent:.0f} s" + (f", about {left:.0f} s left" if left else ""))
        if all(entry.failed for entry in self.entries):
            reasons = [f"{entry.features}, {entry.model}: {entry.failed}" for entry in self.entries]
            raise Failed("\n  ".join(["no model could be fitted:", *reasons]))
        self._add_ensemble()

    def rows(self) -> list[dict[str, Any]]:
        """The table's rows of the entries that are finished, see `judged`. There are none before the first is."""
        whole = [entry for entry in self.entries if entry.failed or len(entry.scores) == len(self.splits)]
        return judged(whole, self.splits, self.lead) if any(not entry.failed for entry in whole) else []

    def _fill(self, entry: Entry, features: FeatureSet, bar: Any) -> None:
        """The cells of all splits; the first that fails ends them."""
        model = self.question.models[entry.model]
        for split in self.splits:
            try:
                entry.add(self._cell(features, entry.model, split), self.y[split.test], len(self.classes))
            except Exception as error:  # of each library its own, where memory runs out for example
                entry.failed = say_failed(f"{model.title} on {features.name}", error)
                return
            bar.update(1)

    def _cell(self, features: FeatureSet, name: str, split: Split) -> Answers:
        """From disk, or computed and kept."""
        model, place = self.question.models[name], self.kept.place(features, name, split)
        found = self.kept.load(place)
        if found is None:
            number = "own-split" if split.seed is None else f"split-{split.seed}"
            saved = self.folder / "networks" / features.name.replace(" ", "-") / name / number
            job = Job(saved, dict(self.question.options), {"model": name, "title": model.title, **self.about})
            found = answers(model, features, split, self.question.settings, job)
            self.kept.save(place, found, bool(model.saved_as))
        return found

    def _add_ensemble(self) -> None:
        """The mean of some models, chosen anew inside each split's train part."""
        sets = {each.name: each for each in self.sets}
        there = [(entry.features, entry.model) for entry in self.entries if not entry.failed]
        entry = Entry("several", ENSEMBLE, "mean of the probabilities of several models", {"members": {}})
        members = entry.facts["members"]
        for split in self.splits:
            found = ensemble({each: self._cell(sets[each[0]], each[1], split) for each in there}, self.y)
            if found is None:
                return
            entry.add(found.answers, self.y[split.test], len(self.classes))
            for each in map(", ".join, found.members):
                members[each] = members.get(each, 0) + 1
        entry.facts["members"] = dict(sorted(members.items(), key=lambda item: -item[1]))
        if sum(members.values()) > len(self.splits):  # else no two were ever better than one
            self.entries.append(entry)


def compare_sets(stacks: Sequence[Stack], question: Question, folder: Path, about: dict[str, Any]) -> Path:
    """Compare, and write the table and the page; arguments and errors: see `Comparison`.

    Returns:
        the page.

    Raises:
        KeyboardInterrupt: interrupted; what is finished is printed, and kept.
    """
    comparison = Comparison(stacks, question, folder, about)
    try:
        comparison.run()
    except KeyboardInterrupt:
        if rows := comparison.rows():
            log.info(sets_table(rows))
        raise
    return write_results(comparison)


def write_results(comparison: Comparison) -> Path:
    """Find what else is asked for, and write `compare.json`, `comparison.json` and `report.html`; returns the page."""
    from classify.across.page import write_page

    rows, question = comparison.rows(), comparison.question
    if question.curves:
        curves = curves_of_best(rows, question.models, comparison.sets, comparison.splits, question.settings)
        for row in rows:
            if curve := curves.get((row["features"], row["model"])):
                row["curve"] = curve.as_json()
    pair = comparison.quick.pair()
    about = {
        **comparison.about,
        "sets": [{"name": each.name, "stack": str(each.stack.path), "pool": each.pool} for each in comparison.sets],
        "splits": [split.seed for split in comparison.splits],
        "left_out": comparison.left_out,
        "pair": pair and {**pair._asdict(), "command": fuse_command(comparison.sets, pair.names)},
        "leave_one_out_agreement": comparison.quick.agreement(rows, comparison.lead),
    }
    write_json(comparison.folder / "compare.json", rows)
    write_json(comparison.folder / "comparison.json", about)
    return write_page(comparison.folder / "report.html", rows, about, comparison.sets)


def fuse_command(sets: Sequence[FeatureSet], names: Sequence[str]) -> str:
    """The command that fuses some of the feature sets; those that are pooled in passing are stored so first."""
    named, first, files = {each.name: each for each in sets}, [], []
    for name in names:
        features = named[name]
        path, pool = features.stack.path, features.pool_for("flatten")
        if pool != "flatten":
            first.append(f"python -m features pool {shlex.quote(str(path))} --pool {pool}")
            path = path.with_name(f"{path.stem}-{pool}.h5")
        files.append(shlex.quote(str(path)))
    return " && ".join([*first, f"python -m classify compare {' '.join(files)} --fuse --search"])


def _refuse_models(question: Question) -> None:
    for name, model in question.models.items():
        if not model.pool:
            raise Refused(f"{name} learns from pixels: no stack and no --pool changes it. Compare it on one stack")
