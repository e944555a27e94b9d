"""One writer a stack: a sidecar lock file that names its holder. Readers never look at it."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.errors import Failed, Refused


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
            raise Failed(f"cannot write in {path.parent}: {error.strerror}. Choose another --out.") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise Refused(f"{stack} is being written by {_holder(file.read())}. Wait for it, or stop it.") from None
            # The holder before us removes the file as it leaves: what we locked may have lost its name meanwhile.
            if not path.exists() or os.fstat(file.fileno()).st_ino != path.stat().st_ino:
                continue
            file.truncate(0)
            json.dump({"pid": os.getpid(), "host": socket.gethostname()}, file)
            file.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _holder(text: str) -> str:
    try:
        holder = json.loads(text)
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError):
        return "another process"
