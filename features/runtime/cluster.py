"""A Dask cluster, where one was asked for: at an address, or of processes on this machine."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from features.runtime.errors import Failed, Refused
from features.runtime.machine import cores

ANSWER, WORKERS = 5, 30  # seconds that a scheduler has to answer, and that its first worker has to come

DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"  # a terminal's Ctrl-C is for the writer to act on


@contextmanager
def connect(where: str) -> Iterator[Any]:
    """A `distributed.Client`; what was started for it ends with it.

    Args:
        where: the address of a scheduler, or `local:N` for N processes here, which share its cores as threads.

    Raises:
        Refused: the dask extra is not installed, or `where` is no address.
        Failed: no scheduler answers, or it has no workers.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise Refused(f"--dask {where}: Dask is not installed; pip install -e '.[dask]'") from None
    for name in ("distributed", "distributed.client"):  # what matters of it becomes one line of ours
        logging.getLogger(name).setLevel(logging.CRITICAL)
    kind, _, count = where.partition(":")
    if kind == "local":
        if not count.isdecimal() or int(count) < 1:
            raise Refused(f"--dask {where}: say how many processes, as in --dask local:4")
        threads = max(1, cores() // int(count))
        with (
            LocalCluster(
                n_workers=int(count),
                threads_per_worker=threads,
                processes=True,
                memory_limit=None,  # blocks in flight are counted; Dask would end a worker for its network's size
                dashboard_address="127.0.0.1:0",  # None would be port 8787, and a warning where that is taken
                preload=[DEAF],
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster, direct_to_workers=True) as client,
        ):
            yield client
        return
    try:  # results come straight from the workers: through the scheduler, all rows would pass its one process as well
        client = Client(where, timeout=ANSWER, direct_to_workers=True)
    except (OSError, ValueError, TypeError) as error:
        why = str(error).splitlines()[0]
        raise Failed(
            f"--dask {where}: no scheduler answers there within {ANSWER} s ({why}). Start one (dask scheduler), give "
            f"its address as in --dask tcp://10.0.0.1:8786, or use processes of this machine: --dask local:2"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKERS)
        except TimeoutError:
            raise Failed(
                f"--dask {where}: the scheduler has no workers after {WORKERS} s; start some: dask worker {where}"
            ) from None
        yield client


def all_fit(client: Any, unfit: Callable[..., str], *given: Any) -> None:
    """Check that every worker can take part.

    Args:
        client: see `connect`.
        unfit: run by each worker; says why it cannot, or the empty string.
        given: its arguments.

    Raises:
        Refused: one cannot.
        Failed: one has not even this project.
    """
    for worker, answer in client.run(unfit, *given, on_error="return").items():
        if isinstance(answer, Exception):
            raise Failed(f"worker {worker} does not have this project ({answer}): install it there as it is here")
        if answer:
            raise Refused(f"worker {worker}: {answer}")


def other_versions(here: dict[str, str], there: dict[str, str]) -> str:
    """Why a worker with those versions of the packages could give other numbers; empty where they are the same."""
    differs = [f"{n} {was} here, {there.get(n, 'none')} there" for n, was in here.items() if there.get(n) != was]
    if not differs:
        return ""
    return f"its numbers could differ in their last bits: {'; '.join(differs)}. Install there what constraints.txt says"
