"""Open feature stacks: one that is named, the only one there is, or the rows so far of one that is unfinished."""

import json
import os
import shlex
from pathlib import Path

import h5py
import numpy as np

from features.hdf5 import open_hdf5, unreadable
from features.layout import partial_path
from features.packed import Packed
from features.reader import Stack
from features.runtime.errors import Failed, Refused, check_readable
from features.runtime.log import log
from features.runtime.names import on_disk
from features.schema import STATES
from features.shards import EndToEnd, end_to_end
from features.validate import RESTORE, check_codes, check_fields, check_root

INDEX, INDEX_VERSION = "feature-stack-index", 1  # `format` and `format_version` of a file that names shards
STACKS = Path("features/stacks")  # where `extract` puts stacks unless told otherwise


def open_stack(path: str | os.PathLike[str]) -> Stack:
    """Open a finished stack for reading, or the shards that an index names; nothing but small fields is read yet.

    Raises:
        Refused: it is unfinished, missing, of a newer format version, or no feature stack at all.
        Failed: it is damaged (shorter than its rows, fields that do not fit together).
    """
    path = Path(on_disk(os.fspath(path)))
    if path.suffix == ".json" and path.is_file():
        return open_index(path)
    if path.name.endswith(".partial") or (not path.exists() and partial_path(path).exists()):
        partial = path if path.name.endswith(".partial") else partial_path(path)
        raise Refused(f"{path} is unfinished. Finish it with: {recorded_command(partial)}")
    if path.is_dir():
        raise Refused(f"{path} is a folder, not a stack. Name the .h5 file, one in it perhaps.")
    if not path.is_file():
        raise Refused(f"no stack at {path}. Make one with: make features, or python -m extract DATA")
    try:
        with open_hdf5(path) as file:
            return _open(path, file)
    except OSError as error:
        raise unreadable(path, error, RESTORE) from None
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:  # whatever h5py makes of nonsense
        reason = " ".join(str(error).split())[:200]
        raise Failed(f"{path} is damaged: {reason}. {RESTORE}") from None


def open_index(path: Path) -> EndToEnd:
    """The shards that an index names, as one stack.

    Raises:
        Refused: it is no index, of a newer version, or names a file elsewhere; or a shard is not the one it named.
        Failed: a shard is missing or damaged.
    """
    try:
        held = json.loads(path.read_text("utf-8"))
        kind, version = held["format"], int(held["format_version"])
        shards = [(str(shard["path"]), str(shard["key"])) for shard in held["shards"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        check_readable(path, error)
        raise Refused(f"{path} is no index of feature stacks ({error})") from None
    if kind != INDEX or version > INDEX_VERSION or not shards:
        raise Refused(f"{path} is no index of feature stacks that this program reads (up to version {INDEX_VERSION})")
    stacks = []
    for name, key in shards:
        if Path(name).is_absolute() or os.path.normpath(name).startswith(".."):
            raise Refused(f"{path} names {name}, which is outside its folder; an index names shards in it or below")
        place = path.parent / name
        if not place.exists():
            raise Failed(f"{path} names the shard {place}, which is not there. Nothing was fitted to the rest")
        stack = open_stack(place)
        if stack.key != key:
            raise Refused(f"{place} is not the shard that {path} names (its key is {stack.key[:12]}…). Index it again")
        stacks.append(stack)
    return end_to_end(stacks, path)


def open_rows_so_far(path: Path) -> Stack:
    """The finished rows of an unfinished file; views without their image are left out. Nobody may write it meanwhile.

    Raises:
        Failed: it is damaged. The rows' checksums have not been looked at.
    """
    try:
        with open_hdf5(path) as file:
            stack = _opened(path, file)
            done = stack.take(file["row_state"][:] == STATES["done"])
            return done.take(np.isin(done.paths, done.take(done.view == 0).paths))
    except OSError as error:
        raise unreadable(path, error, "Remove it.") from None
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise Failed(f"{path} is damaged ({error}). Remove it.") from None


def newest_stack() -> Path:
    """The stack in `features/stacks` that was written last, for commands that were given none.

    A stack of the digits that come with the project is taken only if there is no other.

    Raises:
        Refused: there is none.
    """
    stacks = sorted(STACKS.glob("*.h5"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    if not stacks:
        partials = sorted(STACKS.glob("*.h5.partial"))
        if partials:
            raise Refused(f"{partials[0]} is unfinished. Finish it with: {recorded_command(partials[0])}")
        raise Refused(f"no stack in {STACKS}. Make one with: make features")
    taken = next((path for path in stacks if not _is_of_bundled_digits(path)), stacks[0])
    if len(stacks) > 1:
        log.info(f"stack: {taken}, the newest of {len(stacks)} in {STACKS} (STACK= takes another)")
    elif _is_of_bundled_digits(taken):  # whoever takes it for a stack of their own photos reads that it is not
        log.info(f"stack: {taken}, of the bundled digits: there is no other in {STACKS}")
    return taken


def _is_of_bundled_digits(path: Path) -> bool:
    try:
        with open_hdf5(path) as file:
            return Path(str(file.attrs.get("dataset_root"))).parts[-2:] == ("data", "digits")
    except OSError:  # it says why when it is opened
        return False


def recorded_command(path: Path) -> str:
    """The command that made or would finish the stack at `path`."""
    try:
        with open_hdf5(path) as file:
            return str(file.attrs["command"])
    except (OSError, KeyError):
        return f"the command that began it, or remove {shlex.quote(str(path))} and start again"


def _open(path: Path, file: h5py.File) -> Stack:
    stack = _opened(path, file)
    if empty := int((file["row_state"][:] != STATES["done"]).sum()):
        command = stack.attrs["command"]
        raise Refused(
            f"{path} is unfinished: {empty} of its {len(stack)} rows were never written. Remove it and run: {command}"
        )
    return stack


def _opened(path: Path, file: h5py.File) -> Stack:
    """All rows of a file, finished or not."""
    attrs = check_root(path, file)
    shape = tuple(int(side) for side in attrs["feature_shape"])
    count = check_fields(path, file, shape)
    names = [str(name) for name in file["label_names"].asstr(errors="replace")[:]]
    check_codes(path, file["labels"][:], len(names), file["split"][:], file["view"][:])
    features = file["features"]
    offset = features.id.get_offset()
    values = Packed(path) if offset is None else np.memmap(path, features.dtype, "r", offset, features.shape)
    return Stack(path, attrs, names, shape, np.arange(count), values)
