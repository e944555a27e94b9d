"""Finished cells on disk, named by all that decides what they say: a killed comparison goes on, a larger one adds."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from classify.across.cells import Answers
from classify.across.feature_set import FeatureSet
from classify.across.splits import Split
from classify.fitting import Settings
from classify.models import model_versions

VERSION = 1  # of a cell's file, and of how it is computed
Arrays = dict[str, np.ndarray]


class Kept:
    """Cells in a folder, one file each.

    Args:
        folder: is made where it is not there.
        settings: of the fits.
        options: of networks, from the command line.
    """

    def __init__(self, folder: Path, settings: Settings, options: dict[str, Any]) -> None:
        self.folder = folder
        how = {"search": settings.search, "balance": settings.balance, "seed": settings.seed}
        self._how = {**how, "options": options, "versions": model_versions(), "format": VERSION}
        self._in_memory: dict[Path, Answers] = {}

    def place(self, features: FeatureSet, model: str, split: Split) -> Path:
        """The file of a cell."""
        digest = hashlib.sha256(features.stack.rows.tobytes())
        for part in (split.train, split.test):
            digest.update(np.sort(part).tobytes())
        what = {"stack": features.stack.key, "pool": features.pool, "rows": digest.hexdigest(), "model": model}
        name = hashlib.sha256(
            json.dumps({**(self._how if model else {"format": VERSION}), **what}, sort_keys=True).encode()
        ).hexdigest()
        return self.folder / f"{name[:32]}.npz"

    def load(self, place: Path) -> Answers | None:
        """A cell's answers; None where they are not there, or the file is damaged."""
        if place in self._in_memory:
            return self._in_memory[place]
        kept = _read(place)
        if "facts" not in kept:
            return None
        held = kept.get("held_probabilities")
        facts = json.loads(str(kept["facts"]))
        return Answers(kept["predicted"], kept.get("probabilities"), kept["held"], held, facts)

    def save(self, place: Path, answers: Answers, for_good: bool) -> None:
        """Keep a cell's answers.

        Args:
            for_good: on disk. A user's own classifier may be another one the next time.
        """
        if not for_good:
            self._in_memory[place] = answers
            return
        told = answers._asdict() | {"facts": np.array(json.dumps(answers.facts))}
        self._write(place, {name: value for name, value in told.items() if value is not None})

    def alone(self, features: FeatureSet, split: Split, compute: Callable[[], Arrays]) -> Arrays:
        """What is known of a feature set before any model is fitted: from disk, or computed and kept."""
        place = self.place(features, "", split)
        kept = _read(place)
        if not kept:
            kept = compute()
            self._write(place, kept)
        return kept

    def _write(self, place: Path, arrays: Arrays) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = place.with_suffix(".partial.npz")
        np.savez(partial, **arrays)  # type: ignore[arg-type]  # its stub takes a name for an option
        partial.replace(place)


def _read(place: Path) -> Arrays:
    """The arrays of a file; none where it is not there or damaged."""
    try:
        with np.load(place, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
