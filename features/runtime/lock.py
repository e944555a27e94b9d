"""One writer a stack: a sidecar lock file that names its holder. Readers never look at it."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from features.runtime.errors import Failed, Refused
from features.runtime.log import log


@contextmanager
def writer_lock(stack: Path) -> Iterator[None]:
    """Hold `<stack>.lock` for the length of a `with` block. The kernel lets go of it when the process dies.

    Raises:
        Refused: another process holds it; the message says which.
        Failed: the folder cannot be written.
    """
    path = stack.with_name(stack.name + ".lock")
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+")  # noqa: SIM115  (closed by the `with` below)
        except OSError as error:
            raise _unwritable(path.parent, error) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise Refused(f"{stack} is being written by {_holder(file.read())}. Wait for it, or stop it.") from None
            except OSError as error:  # a file system without locks: the name in the file has to do
                file.seek(0)
                if _may_live(text := file.read()):
                    raise Refused(
                        f"{stack} is being written by {_holder(text)}, as {path} says, and this file system has no "
                        f"locks to be sure by. Wait for it, or, if it has ended, remove {path}."
                    ) from None
                log.warning(f"no locks in {path.parent} ({error.strerror}): start one writer at a time")
            # The holder before us removes the file as it leaves: what we locked may have lost its name meanwhile.
            if not path.exists() or os.fstat(file.fileno()).st_ino != path.stat().st_ino:
                continue
            try:
                _sign(file.fileno(), path.parent)
                yield
            finally:
                path.unlink(missing_ok=True)
            return


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


def _sign(fd: int, folder: Path) -> None:
    try:
        os.ftruncate(fd, 0)
        os.write(fd, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
    except OSError as error:  # a full disk lets a file be made, but nothing be written into it
        raise _unwritable(folder, error) from None


def _unwritable(folder: Path, error: OSError) -> Failed:
    return Failed(f"cannot write in {folder}: {error.strerror}. Choose another --out.")


def _may_live(text: str) -> bool:
    """Whether the process that signed a lock file may still run. For another host, assume that it does."""
    try:
        holder = json.loads(text)
        if holder["host"] != socket.gethostname():
            return True
        os.kill(int(holder["pid"]), 0)
    except PermissionError:
        return True
    except (ValueError, KeyError, TypeError, ProcessLookupError):
        return False
    return int(holder["pid"]) != os.getpid()


def _holder(text: str) -> str:
    try:
        holder = json.loads(text)
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError):
        return "another process"
