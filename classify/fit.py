"""Stage two: rows of a stack → one classifier, its predictions on the test rows, and its scores."""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from classify.fitting import Settings
from classify.models import FINE, model_named
from classify.result import Fit
from classify.task import Task
from features import Refused, Stack, open_stack
from features.archive import IN_ARRAY
from features.open import newest_stack
from features.reader import POOLS
from features.runtime.cli import command_line
from features.runtime.errors import at_least
from features.runtime.log import log
from features.schema import SPLITS

RUNS = Path("classify/runs")  # where results go unless told otherwise: <stack>/<model>/


def fit(
    stack: list[str] | str | None = None,
    model: str = "svm",
    pool: str | None = None,
    epochs: int | None = None,
    layers: int | None = None,
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
) -> Fit:
    """Fit one classifier to a stack's train rows, and score it once on its test rows.

    The dataset's own validation rows count as train.

    Args:
        stack: the feature stack, or several of the same rows, to be fused; by default the newest in features/stacks.
        model: the classifier.
        pool: flatten, avg or max over positions; by default what suits the classifier.
        epochs: networks only: maximum number of epochs.
        layers: fine-tuning only: how many of the backbone's last layers are trained.
        views: number of augmented views of each train image to train on; by default all that the stack has.
        search: classical models only: choose the settings by cross-validation inside the train rows; fine tries 45
            penalties of a linear model over eleven decades.
        balance: classical models only: let every class weigh the same, however many images it has.
        jobs: threads; by default as many as there are cores.
        dask: run the search's fits, and passes over many rows, on a Dask cluster: a scheduler's address, or local:N for
            N processes here.
        seed: seeds everything random in the fit.
        out: folder to write; by default classify/runs/<stack>/<model>, or classify/runs/<stack>/split-<seed>/<model>.
        data: where the dataset's images are now, if no longer where the stack was made from; networks need them.
        weights: where the backbone's weights file is now, likewise.
        split_seed: split the images again by this seed, a quarter of each class to test on; the stack stays as it is.

    Returns:
        the folder, with the model, `result.json` and `predictions.csv` in it; its `table()` has the scores.

    Raises:
        Refused: an argument is unknown, or the stack has too few classes or views or no test rows.
    """
    stack = stack or str(newest_stack())
    command = command_line(["python", "-m", "classify", "fit"], fit, dict(locals()), positional=("stack",))
    at_least(0, seed=seed, split_seed=split_seed)
    at_least(1, epochs=epochs, layers=layers, jobs=jobs)
    row = model_named(model)
    if pool is not None and pool not in POOLS:
        raise Refused(f"no pooling is called {pool!r}; there are {', '.join(POOLS)}")
    if pool and not row.pool:
        raise Refused(f"{model} has no --pool")
    options = {name: value for name, value in (("epochs", epochs), ("layers", layers)) if value is not None}
    if strange := [name for name in options if name not in row.options]:
        raise Refused(f"{model} has no --{strange[0]}")
    check_search(search)
    if search == FINE and not row.fine:
        raise Refused(f"{model} has no --search=fine: that is the linear models'")
    if search and not row.grid:
        raise Refused(f"{model} has no --search")
    if balance and row.network:
        raise Refused(f"{model} has no --balance")
    opened = split_again(open_stacks(stack, data, weights), split_seed)
    task = Task(opened, views, Settings(search, balance, jobs or 0, dask, seed))
    folder = Path(out) if out else runs_of(task.name, split_seed) / model
    about = {"model": model, "title": row.title, "command": command, **recorded(split_seed)}
    return Fit(task.run(row, pool or row.pool, options, folder, about))


def open_stacks(names: list[str] | str, data: str | None = None, weights: str | None = None) -> Stack:
    """One stack, or several of the same images side by side, or of different images end to end.

    Args:
        names: the files.
        data: the dataset as `extract` takes it, if it is no longer where the stack was made from.
        weights: where the backbone's weights file is now, likewise.

    Raises:
        Refused: one cannot be opened, they do not fit together, or a place is not there.
    """
    from classify.fusion import side_by_side

    stacks = open_apart(names, data, weights)
    return stacks[0] if len(stacks) == 1 else side_by_side(stacks)


def open_apart(names: list[str] | str, data: str | None = None, weights: str | None = None) -> list[Stack]:
    """One stack, or several of the same images; shards of different images are one, end to end.

    Args:
        names, data, weights: see `open_stacks`.

    Raises:
        Refused: one cannot be opened, some images are the same and some are not, or a place is not there.
    """
    from classify.fusion import end_to_end_or_apart

    several = [names] if isinstance(names, str) else names
    stacks = [open_stack(name) for name in several]
    if len(stacks) > 1:
        stacks = end_to_end_or_apart(stacks)
    now = {}
    for option, place, attribute in (("data", data, "dataset_root"), ("weights", weights, "weights_file")):
        if place and not Path(place.partition(IN_ARRAY)[0]).exists():
            raise Refused(f"--{option} {place}: there is no such place")
        if place:
            now[attribute] = place
    if data and Path(data).suffix == ".csv":
        now["dataset_root"] = str(Path(data).parent)  # paths are relative to a manifest's folder
    return [dataclasses.replace(stack, attrs=stack.attrs | now) if now else stack for stack in stacks]


def check_search(search: bool | str) -> None:
    """Raise Refused if there is no such search."""
    if search not in (True, False, FINE):
        raise Refused(f"no search is called {search!r}; there are True and {FINE!r}")


def split_again(stack: Stack, seed: int | None) -> Stack:
    """A stack with the seeded split that stage one would give a dataset without one; None leaves its own.

    Views of test images are left out where rows are taken for training or scoring: they are neither.
    """
    if seed is None:
        return stack
    again = seeded_again(stack, seed)
    test = int(((again.split == SPLITS["test"]) & (stack.view == 0)).sum())
    log.info(f"split again with seed {seed}: {int((stack.view == 0).sum()) - test} train and {test} test images")
    return again


def seeded_again(stack: Stack, seed: int) -> Stack:
    """See `split_again`."""
    from extract.images.split import chosen, seeded_split  # stage one's, and without Keras

    images = stack.view == 0
    sha256, groups = stack.identity, chosen(stack.groups, images)
    split = seeded_split(stack.y[images], sha256[images], seed, groups=groups)
    of = {image.tobytes(): code for image, code in zip(sha256[images], split.tolist(), strict=True)}
    return stack.with_split(np.array([of[image.tobytes()] for image in sha256], "u1"))


def runs_of(name: str, split_seed: int | None) -> Path:
    """Where the runs of a stack go unless told otherwise; those of another split apart."""
    return RUNS / name if split_seed is None else RUNS / name / f"split-{split_seed}"


def recorded(split_seed: int | None) -> dict[str, int]:
    """What `model.json` and `result.json` say of another split than the stack's."""
    return {} if split_seed is None else {"split_seed": split_seed}
