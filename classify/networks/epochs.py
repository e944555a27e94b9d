"""How far a training is, on a terminal, in a notebook or in a log."""

import time
from collections.abc import Mapping, Sequence

from features.runtime.log import log
from features.runtime.progress import progress

A_LINE_EACH = 60.0  # seconds


class Epochs:
    """The progress of a training: a bar on a terminal or in a notebook, and elsewhere a line each minute.

    Args:
        epochs: maximum number.
        done: epochs that were done before.
    """

    def __init__(self, epochs: int, done: int) -> None:
        self._bar = progress(total=epochs, initial=done, unit="epochs", leave=False)
        self._epochs, self._told = epochs, time.monotonic()

    def tell(self, epoch: int, history: Mapping[str, Sequence[float]]) -> None:
        """An epoch is done."""
        facts = ", ".join(f"{name} {values[-1]:.4f}" for name, values in history.items() if values)
        self._bar.set_postfix_str(facts, refresh=False)
        self._bar.update()
        if self._bar.disable and time.monotonic() - self._told >= A_LINE_EACH:
            self._told = time.monotonic()
            log.info(f"epoch {epoch} of {self._epochs}: {facts}")

    def close(self) -> None:
        """Nothing more comes."""
        self._bar.close()
