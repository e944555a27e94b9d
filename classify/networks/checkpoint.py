"""Keep the best weights of a training on disk, so that not even a kill loses them."""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from features.hdf5 import NewHDF5, open_hdf5
from features.runtime.disk import publish, sync
from features.runtime.errors import check_readable, listed
from features.runtime.log import log

WRITING_SHARE = 0.05  # of the time; 400 MB are a second, so a small head is written each epoch, a large one less often


class Trained(NamedTuple):
    """How a training went.

    Attributes:
        history: `loss`, `accuracy`, `val_loss`, `val_accuracy`, each a list with one value an epoch; the last two are
            empty where no row was held out.
        best: epoch whose weights the network has now, from 1; 0 are those it began with.
        lowest: loss of those weights, on validation rows where there are any.
        stopped: why it ended, one of `network.STOPPED`; on disk, `interrupted` until it has.
    """

    history: dict[str, list[float]]
    best: int
    lowest: float
    stopped: str


class Checkpoint:
    """One file that is replaced as a training gets better, and goes on from there when the same training runs again.

    Args:
        path: the file, HDF5: `about`, JSON, and one dataset for each array of weights.
        run: what the training is: stack, parameters, …, JSON. A file of another run is left out of account.
    """

    def __init__(self, path: Path, run: dict[str, Any]) -> None:
        self.path = path
        self.run = json.loads(json.dumps(run, default=str))
        self._parts: list[Checkpoint] = []
        self._not_before = 0.0

    def part(self, name: str) -> "Checkpoint":
        """The checkpoint of a training that is part of this one."""
        self._parts.append(Checkpoint(self.path.with_stem(f"{self.path.stem}-{name}"), self.run))
        return self._parts[-1]

    def load(self, weights: list[np.ndarray]) -> tuple[Trained, list[np.ndarray]] | None:
        """The state in which the same training was interrupted; stderr says what happens with it.

        Args:
            weights: of the network; those in the file must have their shapes.

        Raises:
            Failed: the system does not let the file be read.
        """
        if not self.path.is_file():
            return None
        try:
            with open_hdf5(self.path) as file:
                about = json.loads(file["about"].asstr()[()])
                arrays = [file[f"weights/{i}"][()] for i in range(len(file["weights"]))]
            run = dict(about.pop("run"))
            trained = Trained(**about)
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:  # damaged, or not ours
            check_readable(self.path, error)  # the training of days that may be in it is not replaced
            log.info(f"{self.path} is damaged, so training begins anew ({error})")
            return None
        differ = sorted(name for name in {*run, *self.run} if run.get(name) != self.run.get(name))
        if not differ and [array.shape for array in arrays] != [array.shape for array in weights]:
            differ = ["shapes of the weights"]
        if differ:
            log.info(f"{self.path} is of another training (other {listed(differ)}); this one begins anew")
            return None
        anew = f"to begin anew, remove {self.path}"
        if trained.stopped != "interrupted":
            log.info(f"an interrupted run had trained this to its end, so that is not done again; {anew}")
            return trained, arrays
        log.info(f"going on after epoch {trained.best}, the best of a run that was interrupted; {anew}")
        until_best = {name: values[: trained.best] for name, values in trained.history.items()}
        return trained._replace(history=until_best), arrays

    def keep(self, trained: Trained, weights: list[np.ndarray], at_once: bool = False) -> None:
        """Replace the file as a whole; unless `at_once`, not if more than 5 % of the time would go into that."""
        began = time.monotonic()
        if began < self._not_before and not at_once:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._unfinished
        with NewHDF5(unfinished) as file:
            file["about"] = json.dumps({"run": self.run, **trained._asdict()})
            group = file.create_group("weights")
            for i, array in enumerate(weights):
                group[str(i)] = array
        with open(unfinished, "rb") as file:
            sync(file.fileno())
        publish(unfinished, self.path)
        ended = time.monotonic()
        self._not_before = ended + (ended - began) / WRITING_SHARE

    def remove(self) -> None:
        """Remove the files once the result is written. Other files in the folder are left alone."""
        for each in (self, *self._parts):
            each.path.unlink(missing_ok=True)
            each._unfinished.unlink(missing_ok=True)

    @property
    def _unfinished(self) -> Path:
        return self.path.with_name(self.path.name + ".partial")
