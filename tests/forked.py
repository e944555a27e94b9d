"""Commands in children of one process that has imported what they need: killed, limited, or several at once."""

import json
import subprocess
import sys
from pathlib import Path

from tiny import REPO, environment

# Each argument is the JSON of a list of words, or of several such lists, whose commands run together. `kill N` before
# a command kills it at its Nth write into a begun stack, `limit N` has its files hold N bytes at most. Prints each
# one's exit code, stdout and stderr.
PROGRAM = """
import json, os, resource, runpy, signal, sys
import classify, extract
from features import writer

def begun(words):
    pipes = os.pipe(), os.pipe()
    if pid := os.fork():
        for _, to in pipes:
            os.close(to)
        return pid, [open(here) for here, _ in pipes]
    for number, (_, to) in enumerate(pipes, 1):
        os.dup2(to, number)
        os.close(to)
    how, number = words[:2]
    if how in ("kill", "limit"):
        words = words[2:]
    if how == "kill":
        write, left = writer.pwrite_all, int(number)
        def killed(*given):
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            write(*given)
        writer.pwrite_all = killed
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(number), int(number)))
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)

for argument in sys.argv[1:]:
    words = json.loads(argument)
    for pid, pipes in [begun(each) for each in (words if isinstance(words[0], list) else [words])]:
        texts = [pipe.read() for pipe in pipes]  # each far below what a pipe holds
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), *texts]), flush=True)
"""


def commands(cwd: Path, *words: list[object], **env: str) -> list[tuple[int, str, str]]:
    """(exit code, stdout, stderr) of each command, see `PROGRAM`."""
    given = [sys.executable, "-c", PROGRAM, *(json.dumps(each, default=str) for each in words)]
    env = environment(PYTHONPATH=str(REPO), **env)
    done = subprocess.run(given, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]
