"""Several classifiers, or several feature stacks under each of them, on the very same rows: one table and one page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from classify.fit import check_search, open_apart, recorded, runs_of, split_again
from classify.fitting import Settings
from classify.fusion import side_by_side
from classify.models import model_versions
from classify.own import Estimator, models_named
from classify.result import Report
from classify.task import Task
from features import Refused, Stack
from features.open import newest_stack
from features.runtime.cli import command_line
from features.runtime.errors import at_least


def compare(
    stack: list[str] | str | None = None,
    models: list[str | Estimator] | None = None,
    epochs: int | None = None,
    views: int | None = None,
    search: bool | Literal["fine"] = False,
    balance: bool = False,
    jobs: int | None = None,
    dask: str | None = None,
    seed: int = 0,
    out: str | None = None,
    data: str | None = None,
    weights: str | None = None,
    split_seed: int | None = None,
    fuse: bool = False,
    pool: list[str] | None = None,
    repeats: int = 1,
    curves: bool = False,
) -> Report:
    """Fit several classifiers to a stack's train rows, score each once on the same test rows, and report.

    Several stacks of the same images, such as several backbones', are compared with each other: every stack with every
    model, on the same images and splits. So are several poolings of one stack. Finished cells are kept, and the same
    command goes on with the others.

    Of one stack, table and report are written after each model. A model that fails is listed with its reason and costs
    the others nothing. A comparison that was interrupted goes on with the model it was at. Models that were fitted to
    the same rows before stay in the table. Where train images have augmented views, each model is also fitted without
    them, to measure what they bring.

    Args:
        stack: the feature stack, or several of the same images; by default the newest in features/stacks.
        models: the classifiers: logreg, linearsvm, svm, knn, xgboost, dense, finetune, scratch; by default all but
            scratch, which takes hours on a CPU, and of several stacks the first four. module:factory, a function that
            gives a scikit-learn classifier, or from Python the classifier itself: it takes part on average-pooled rows,
            and is not saved.
        epochs: maximum number of epochs for networks.
        views: number of augmented views of each train image to train on; by default all that the stack has.
        search: choose the classical models' settings by cross-validation inside the train rows; fine tries 45 penalties
            of the linear models over eleven decades.
        balance: in the classical models, let every class weigh the same, however many images it has.
        jobs: threads; by default as many as there are cores.
        dask: run the search's fits, and passes over many rows, on a Dask cluster: a scheduler's address, or local:N for
            N processes here.
        seed: seeds everything random, in the fits and in the report.
        out: folder to write; by default classify/runs/<stack>, or classify/runs/<stack>/split-<seed>.
        data: where the dataset's images are now, if no longer where the stack was made from.
        weights: where the backbone's weights file is now, likewise.
        split_seed: split the images again by this seed, a quarter of each class to test on; the stack stays as it is.
        fuse: put several stacks side by side, as one of wider rows, instead of comparing them.
        pool: poolings of each stack that are compared: flatten, avg, max or cls; by default what suits each model.
        repeats: how many splits, drawn by the seeds from split_seed, or 0, on; 1 is the stack's own split.
        curves: also learn from ever more photos of a class, with the best models, and say what twice as many promise.

    Returns:
        the report, `report.html`. Beside it lie `compare.json`, the list of the models' results, best first, and each
        model's own folder. Its `table()` has a row for each model.

    Raises:
        Refused: a model is unknown, the stack has too few classes or views or no test rows, or several stacks are not
            of the same images, labels and split.
        Failed: not one of the models could be fitted.
        KeyboardInterrupt: interrupted; a network that was being trained has the result of its best weights.
    """
    stack = stack or str(newest_stack())
    command = command_line(["python", "-m", "classify", "compare"], compare, dict(locals()), positional=("stack",))
    at_least(0, seed=seed, split_seed=split_seed)
    at_least(1, epochs=epochs, jobs=jobs, repeats=repeats)
    check_search(search)
    stacks = open_apart(stack, data, weights)
    settings = Settings(search, balance, jobs or 0, dask, seed)
    by = {"command": command, "versions": model_versions(), **recorded(split_seed)}
    options = {} if epochs is None else {"epochs": epochs}
    if pool or curves or repeats > 1 or (len(stacks) > 1 and not fuse):
        if fuse:
            raise Refused("--fuse makes one stack of several: it goes with no --pool, --repeats or --curves")
        if dask:
            raise Refused("--dask goes with one stack, on its own split, or with several that are fused (--fuse)")
        from classify.across.run import Question, compare_sets

        seeds = seeds_of(repeats, split_seed)
        question = Question(models_named(models, several=True), settings, seeds, pool, views, curves, options)
        return Report(compare_sets(stacks, question, Path(out) if out else runs_of_several(stacks), by))
    if fuse and len(stacks) == 1:
        raise Refused("--fuse puts several stacks of the same images side by side, and one is given")
    from classify.one_stack import compare_models

    opened = split_again(side_by_side(stacks) if fuse else stacks[0], split_seed)
    task = Task(opened, views, settings)
    folder = Path(out) if out else runs_of(task.name, split_seed)
    return Report(compare_models(task, models_named(models), options, folder, by))


def seeds_of(repeats: int, split_seed: int | None) -> list[int] | None:
    """Seeds of the splits that a comparison draws; None for the dataset's own."""
    if repeats == 1 and split_seed is None:
        return None
    first = split_seed or 0
    return list(range(first, first + repeats))


def common_words(names: Sequence[str]) -> list[str]:
    """The words that all names begin with, parted by hyphens; the last word of a name is none of them."""
    words = [name.split("-") for name in names]
    most = min(map(len, words)) - 1
    count = next((i for i in range(most) if len({each[i] for each in words}) > 1), most)
    return words[0][:count]


def runs_of_several(stacks: Sequence[Stack]) -> Path:
    """Where a comparison of several stacks, poolings or splits goes unless told otherwise."""
    names = [stack.path.stem for stack in stacks]
    if len(names) == 1:
        return runs_of(names[0], None) / "repeats"
    common = "-".join(common_words(names))
    return runs_of(f"{common}-{len(names)}-stacks" if common else f"{len(names)}-stacks", None)
