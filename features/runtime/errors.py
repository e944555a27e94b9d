"""The errors that a user's mistake or a fault raises: a message to read and an exit code.

Exit codes: 0 done, 1 failed, 2 usage or refused, 3 done with rejects, 130/143 interrupted.
"""

import os
from pathlib import Path


class Failed(Exception):
    """Something outside went wrong (disk, network, a damaged file). The message names it and what to do."""

    exit_code = 1


class Refused(Failed):
    """The request does not fit what is there. The message says what was expected, what was got, and the way on."""

    exit_code = 2


def reason(error: BaseException) -> str:
    """Why something failed, in one line: the system's words for a fault of the machine, else the error's own."""
    if isinstance(error, OSError) and error.errno:
        return (f"{error.filename}: " if error.filename else "") + os.strerror(error.errno)
    return str(error) or type(error).__name__


def check_readable(path: Path, error: BaseException) -> None:
    """Raise Failed if it was the system that did not let a file be opened or read: the file itself may be whole."""
    if isinstance(error, OSError) and error.errno:
        raise Failed(f"{path} cannot be opened: {os.strerror(error.errno)}") from None


def at_least(least: int, **given: int | None) -> None:
    """Raise Refused for the first option whose number is below `least` or too large for a NumPy seed."""
    for name, value in given.items():
        if value is not None and not least <= value < 2**32:
            raise Refused(f"--{name} {value}: give a number from {least} up")


def nearest(name: str, names: list[str]) -> str:
    """`did you mean …?` for a mistyped name, or the empty string."""
    from difflib import get_close_matches

    close = get_close_matches(name, names, n=3, cutoff=0.5)
    return f" Did you mean {', '.join(close)}?" if close else ""


def listed(names: list[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - most
    return ", ".join(map(shown, names[:most])) + (f" and {more} more" if more > 0 else "")


def shown(name: str) -> str:
    """A file's name as one line that can be printed anywhere: odd bytes and control characters escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1].replace("\\udc", "\\x") for c in name)
