"""How far a comparison has come, on disk, so that the same command does not fit again what was fitted."""

import json
from pathlib import Path
from typing import Any

from classify.saved import write_json


class Progress:
    """Which models of a comparison are fitted, on disk until it is finished.

    Args:
        path: the file, JSON.
        run: what the comparison is: command, versions, stack. What a file of another run says does not count.

    Attributes:
        done: the models.
    """

    def __init__(self, path: Path, run: dict[str, Any]) -> None:
        self.path, self.run = path, run
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            found = {}
        self.done: list[str] = found["done"] if found.get("run") == run else []

    def add(self, name: str) -> None:
        """A model is fitted and scored."""
        self.done.append(name)
        write_json(self.path, {"run": self.run, "done": self.done})

    def remove(self) -> None:
        """Once the report is written: the same command then means to do it all again."""
        self.path.unlink(missing_ok=True)
