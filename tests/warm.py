"""Commands in processes of their own that need not import TensorFlow: each is forked off one that has.

Importing it takes most of the time of a command on a few tiny photos. Real processes all the same: with their own
folder, environment, exit code and signals. A server that has only imported forks safely: no TensorFlow thread runs in
it yet. What depends on the import itself (another Keras backend, `KERAS_HOME`, which modules are loaded) needs
`tiny.run`.
"""

import contextlib
import functools
import importlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from tiny import environment

IMPORTED = ["keras", "h5py", "xgboost", "skops.io", "sklearn.svm", "sklearn.linear_model", "sklearn.tree"]


@functools.cache
def _server() -> Any:
    if "QUICK" in os.environ:
        importlib.import_module("keras")  # which says which test it is that is not marked slow
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:  # what TensorFlow says when it is imported
        os.dup2(nowhere.fileno(), 2)
        forkserver.ensure_running()
    os.dup2(stderr, 2)
    os.close(stderr)
    return context


def _become(words: list[str], cwd: Path, env: dict[str, str], out: Connection, err: Connection) -> None:
    """In the new process: `python -m …`, or `python -c …`."""
    for pipe, number in ((out, 1), (err, 2)):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    # Those of the server took what was there for a file to seek in.
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[:0] = [str(cwd), *env["PYTHONPATH"].split(":")]
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)


class Started:
    """A command that runs, with as much of `subprocess.Popen` as is needed."""

    def __init__(self, *words: object, cwd: Path, **env: str) -> None:
        (out, to_out), (err, to_err) = (multiprocessing.Pipe(duplex=False) for _ in range(2))
        given = (list(map(str, words)), cwd, environment(**env), to_out, to_err)
        self._process = _server().Process(target=_become, args=given)
        self._process.start()
        for pipe in (to_out, to_err):
            pipe.close()
        self.stdout, self.stderr = (os.fdopen(os.dup(pipe.fileno())) for pipe in (out, err))

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def communicate(self) -> tuple[str, str]:
        """The rest of stdout and of stderr, once it has ended."""
        err, out = self.stderr.read(), self.stdout.read()
        self._process.join()
        self.returncode = int(self._process.exitcode)
        return out, err

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.poll() is None:
                self.send_signal(signal.SIGKILL)
        self._process.join()
        self.stdout.close()
        self.stderr.close()


def run(*words: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """`tiny.run`, sooner."""
    with Started(*words, cwd=cwd, **env) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(list(words), process.returncode, out, err)
