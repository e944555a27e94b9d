"""The command line of all three packages: `argparse` over a function's signature, and errors as one line.

A door is a public function. Its parameters without a default are positional, the others are `--options`; types come
from the annotations, help from the `Args:` of the docstring, defaults from the signature and nowhere else.
"""

import argparse
import codecs
import contextlib
import inspect
import io
import json
import re
import shlex
import signal
import sys
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from features.runtime.errors import Failed, reason
from features.runtime.log import show, typed_here

DONE_WITH_REJECTS = 3
# The signs that our own texts use, for terminals that cannot show them: the C locale's, for example.
ASCII = {"–": "-", "−": "-", "×": "x", "…": "...", "→": "->", "≤": "<=", "≥": ">=", "±": "+-", "\u202f": " ", "’": "'"}
KEPT = "what was finished is kept, and the same command goes on from there"
_asked_by = signal.SIGINT  # or SIGTERM: the signal that ends this command


def add_door(
    parser: argparse.ArgumentParser,
    door: Callable[..., Any],
    *,
    positional: Sequence[str] = (),
    several: Sequence[str] = (),
    choices: dict[str, Sequence[str]] | None = None,
    named: Sequence[str] = (),
) -> None:
    """Give a parser the arguments of a function.

    Args:
        parser: the parser to fill; its description becomes the docstring's first paragraph.
        door: the function.
        positional: parameters that have a default and are positional all the same.
        several: parameters of which the command takes several values: each is a list then, or None.
        choices: the names in a parameter's table.
        named: parameters that have no default and are options all the same; the command asks for them.
    """
    parser.description = (inspect.getdoc(door) or "").split("\n\nArgs:")[0]
    helps, hints = _helps(door), typing.get_type_hints(door)
    for name, parameter in inspect.signature(door).parameters.items():
        kind, many = _kind(hints[name])
        many = many or name in several
        how: dict[str, Any] = {"help": helps[name].replace("%", "%%")}
        required = parameter.default is inspect.Parameter.empty
        if not required:
            how["default"] = parameter.default
            if parameter.default not in (None, False):
                how["help"] += " (default: %(default)s)"
        if choices and name in choices:
            how["choices"] = choices[name]
            how["metavar"] = name.upper() if len(choices[name]) > 8 else None
        if kind is bool:
            option = f"--{name.replace('_', '-')}"
            parser.add_argument(option, action="store_true", help=how["help"])
            for value in _other_values(hints[name]):  # a value after a blank would be the next positional argument
                told = f"see {option}"
                parser.add_argument(f"{option}={value}", dest=name, action="store_const", const=value, help=told)
            continue
        how["type"] = kind
        if (required and name not in named) or name in positional:
            nargs = ("+" if required else "*") if many else (None if required else "?")
            parser.add_argument(name, nargs=nargs, **how)
        else:
            option = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
            parser.add_argument(option, nargs="+" if many else None, required=required, **how)


def add_version(parser: argparse.ArgumentParser) -> None:
    """Give a command `--version`."""
    from features import __version__

    parser.add_argument("--version", action="version", version=f"feature-stacks {__version__}")


def as_json(value: Any, indent: int | None = None) -> str:
    """JSON for stdout, with letters as they are if stdout can show all of them, else escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


@contextlib.contextmanager
def stdout_in(encoding: str) -> Iterator[IO[str]]:
    """stdout in this encoding, whatever the locale says, for what programs read; a terminal keeps its own."""
    if sys.stdout.isatty() or not hasattr(sys.stdout, "buffer"):  # or a notebook's, which takes any letter
        yield sys.stdout
        return
    sys.stdout.flush()
    file = io.TextIOWrapper(sys.stdout.buffer, encoding, "surrogateescape", newline="")
    try:
        yield file
    finally:
        file.detach()


def print_path(path: Path) -> None:
    """Print a path as the bytes that it has on the disk, so that a shell's `$(…)` is that path."""
    with stdout_in(sys.getfilesystemencoding()) as file:
        print(path, file=file)


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """What a stream gets for a character that it cannot show: a sign of ours in ASCII, other letters escaped.

    Odd bytes of a file's name stay those bytes.
    """
    assert isinstance(error, UnicodeEncodeError)
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return ASCII.get(character) or character.encode("ascii", "backslashreplace").decode(), error.start + 1


def run(main: Callable[[], int | None], kept: str = KEPT) -> typing.NoReturn:
    """Run a command: it returns its exit code, errors meant for people are one line, signals end it cleanly.

    Args:
        main: the command.
        kept: what becomes of its work where it is broken off.
    """
    global _asked_by
    _asked_by = signal.SIGINT
    signal.signal(signal.SIGTERM, _terminate)
    show()
    codecs.register_error("plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")
    try:
        code = main() or 0
    except Failed as error:
        print(f"error: {typed_here(str(error))}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print(f"\ninterrupted; {kept}", file=sys.stderr)
        code = interrupted()
    except BrokenPipeError:
        code = 1
    except MemoryError:
        print(f"error: out of memory; {kept}", file=sys.stderr)
        code = 1
    except OSError as error:  # a full disk, a folder that went away: a fault of the machine, and not of the program
        print(f"error: {reason(error)}; {kept}", file=sys.stderr)
        code = 1
    sys.exit(code)


def command_line(
    start: Sequence[str], door: Callable[..., Any], given: dict[str, Any], positional: Sequence[str]
) -> str:
    """The command that calls a door with these arguments, to be recorded in what it makes; defaults are left out."""
    words = list(start)
    for name in positional:
        words += map(str, given[name] if isinstance(given[name], list) else [given[name]] if given[name] else [])
    for name, parameter in inspect.signature(door).parameters.items():
        value = given[name]
        if name in positional or value == parameter.default:
            continue
        if parameter.default is False and value is not True:
            words.append(f"--{name.replace('_', '-')}={value}")
            continue
        words.append(f"--{name.replace('_', '-')}")
        words += [] if value is True else [str(part) for part in value] if isinstance(value, list) else [str(value)]
    return shlex.join(words)


def interrupted() -> int:
    """Exit code of a command that was asked to end: 143 by SIGTERM, else 130. A training makes a result first."""
    return 128 + _asked_by


def _terminate(signum: int, frame: types.FrameType | None) -> typing.NoReturn:
    global _asked_by
    _asked_by = signal.SIGTERM
    raise KeyboardInterrupt


def _kind(hint: Any) -> tuple[Any, bool]:
    """(type of one value, whether there are several) of an annotation: `int`, `str | None`, `list[str | Other]`."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    many = typing.get_origin(hint) is list
    return (_kind(typing.get_args(hint)[0])[0] if many else hint), many


def _other_values(hint: Any) -> tuple[Any, ...]:
    """What a flag may be beside given or not: the values of `Literal`."""
    return tuple(value for part in typing.get_args(hint) for value in typing.get_args(part))


def _helps(door: Callable[..., Any]) -> dict[str, str]:
    """Parameter → help, from the docstring's `Args:` section."""
    section = re.search(r"\nArgs:\n(.*?)(\n\n|\Z)", inspect.getdoc(door) or "", re.S)
    entries = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", section[1] if section else "", re.S | re.M)
    return {name: " ".join(text.split()) for name, text in entries}
