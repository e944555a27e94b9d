"""What the packages say while they work: one logger, `feature_stacks`. The command line shows it on stderr."""

import logging
import os
import re
import shutil
import sys
import traceback
from pathlib import Path

from features.runtime.errors import Failed, reason

log = logging.getLogger("feature_stacks")


class ToStderr(logging.Handler):
    """Every message as a line on stderr, with warnings named so, and commands as they can be typed here."""

    def emit(self, record: logging.LogRecord) -> None:
        mark = "warning: " if record.levelno == logging.WARNING else ""
        print(f"{mark}{typed_here(record.getMessage())}", file=sys.stderr)


def say_failed(what: str, error: Exception) -> str:
    """Say that something failed, with the traceback of an error that nobody foresaw; returns the reason."""
    if not isinstance(error, (Failed, OSError)):
        log.error(traceback.format_exc().rstrip())
    why = reason(error)
    log.error(f"{what} failed: {why}")
    return why


def show() -> None:
    """Show all messages on stderr, and nowhere else."""
    if not any(isinstance(handler, ToStderr) for handler in log.handlers):
        log.addHandler(ToStderr())
    log.setLevel(logging.INFO)
    log.propagate = False


def typed_here(text: str) -> str:
    """A text whose commands start this Python, also where its environment is not activated."""
    folder = Path(sys.executable).parent
    found = shutil.which("python")
    if found and Path(found).parent.absolute() == folder:
        return text
    near = os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else str(folder)
    text = re.sub(r"\bpython -m (?=extract|classify|features)", f"{near}/python -m ", text)
    return re.sub(r"\bpip install\b", f"{near}/pip install", text)
