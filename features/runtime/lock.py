"""One writer a stack: a sidecar lock file that names its holder. Readers never look at it.

The kernel locks the file where the file system can. Where it cannot (some network mounts; Windows, for us), the file
itself is the lock: made exclusively, with the process and the host that made it. `filelock` does that, and recognises
what a killed process left, also after a restart or when another process has got its number.
"""

import errno
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from features.runtime.disk import lock_file
from features.runtime.errors import Failed, Refused
from features.runtime.log import log

SOFT_WAIT = 2.5  # seconds, in which a lock file of nonsense can be told from one that is being written


@contextmanager
def writer_lock(stack: Path) -> Iterator[None]:
    """Hold `<stack>.lock` for the length of a `with` block. A killed process keeps nobody out.

    Raises:
        Refused: another process holds it; the message says which.
        Failed: the folder cannot be written, or something else has the lock file's name.
    """
    path = stack.with_name(stack.name + ".lock")
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if lacking := _locks_lacking(path.parent):
                _warn_once(lacking)
                _lock_by_name(path, stack, held)
            else:
                _lock_by_kernel(path, stack, held)
        except OSError as error:
            if path.is_symlink() or path.is_dir():
                raise Failed(f"{path} is no lock file ({error.strerror}). Remove it.") from None
            raise _unwritable(path.parent, error) from None
        yield


def check_writable(folder: Path) -> None:
    """Make a folder and write something into it, before the work whose result belongs there.

    Raises:
        Failed: it cannot be written.
    """
    probe = folder / f".{os.getpid()}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(4096))
    except OSError as error:
        raise _unwritable(folder, error) from None
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def _locks_lacking(folder: Path) -> str:
    """Why the kernel locks no file in a folder; empty where it does. A file of no name shows it."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        try:
            lock_file(probe.fileno())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):  # a server that keeps locks in files of its own
                raise
            return os.strerror(error.errno or 0)
    return ""


@cache
def _warn_once(why: str) -> None:
    log.warning(f"this file system has no locks ({why}): a lock file that names this process keeps other writers out")


def _lock_by_kernel(path: Path, stack: Path, held: ExitStack) -> None:
    while True:
        file = held.enter_context(open(path, "a+"))  # noqa: SIM115  (the stack closes it)
        try:
            lock_file(file.fileno())
        except BlockingIOError:
            file.seek(0)
            raise Refused(f"{stack} is being written by {_holder(file.read())}. Wait for it, or stop it.") from None
        # The holder before us removes the file as it leaves: what we locked may have lost its name meanwhile.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
    held.callback(path.unlink, missing_ok=True)
    os.ftruncate(file.fileno(), 0)
    os.write(file.fileno(), json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())


def _lock_by_name(path: Path, stack: Path, held: ExitStack) -> None:
    from filelock import SoftFileLock, Timeout

    try:
        held.enter_context(SoftFileLock(path, timeout=SOFT_WAIT))
    except Timeout:
        text = path.read_text("utf-8", "replace") if path.exists() else ""
        raise Refused(
            f"{stack} is being written by {_holder(text)}, as {path} says, and this file system has no locks to be "
            f"sure by. Wait for it, or, if it has ended, remove {path}."
        ) from None


def _unwritable(folder: Path, error: OSError) -> Failed:
    return Failed(f"cannot write in {folder}: {error.strerror}. Choose another --out.")


def _holder(text: str) -> str:
    """Who signed a lock file: JSON, or lines of the process, the host and the start by `filelock`."""
    try:
        if text.startswith("{"):
            holder = json.loads(text)
            return f"process {holder['pid']} on {holder['host']}"
        pid, host = text.split("\n")[:2]
        return f"process {int(pid)} on {host.partition('?')[0]}"
    except (ValueError, KeyError):
        return "another process"
