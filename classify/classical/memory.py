"""Estimate the memory that a fit needs before any is taken, and choose the method that fits."""

from features import Refused

FLOAT = 8  # bytes
ROOM = 1 << 30  # beside the matrices: the interpreter, its libraries, pieces of rows
SHARED = 2  # matrices that all threads read: the inner products, and their factor or kernel
EACH = 2  # matrices that each thread fills at most: a fold's part, and the same again in its solver's own form


def choose_method(rows: int, width: int, kernel: bool, free: int, stacks: int = 1) -> str:
    """How a model is fitted: `kernel`, `span`, `primal` or `out of core`.

    Args:
        rows, width: of the train rows.
        kernel: whether the model takes a kernel, which has no other way.
        free: bytes of `free_memory`.
        stacks: see `threads`.

    Raises:
        Refused: the kernel does not fit.
    """
    matrices = SHARED + EACH + _kept(stacks)
    needed = matrix_bytes(rows, rows if kernel else width) * matrices + ROOM
    if kernel:
        if needed > free:
            most = int((max(free - ROOM, 0) / (FLOAT * matrices)) ** 0.5)
            raise Refused(
                f"the inner products of all pairs of {rows:,} rows need {needed / 1e9:.1f} GB of memory, and "
                f"{free / 1e9:.1f} GB are free, enough for {most:,} rows. --model linearsvm and logreg fit any "
                "number of rows."
            )
        return "kernel"
    if needed > free:
        return "out of core"
    return "span" if rows < width else "primal"


def check_trees(rows: int, width: int, free: int, who: str = "XGBoost") -> None:
    """Raise Refused if a model's rows do not fit into memory: float32, and once more in bins.

    Args:
        rows, width: of the train rows.
        free: bytes of `free_memory`.
        who: the model.
    """
    needed = 2 * 4 * rows * width + ROOM
    if needed > free:
        raise Refused(
            f"{who} on {rows:,} rows of {width:,} columns needs {needed / 1e9:.1f} GB of memory, and "
            f"{free / 1e9:.1f} GB are free. --pool avg makes rows narrower; --model logreg fits any number."
        )


def threads(jobs: int, rows: int, width: int, all_rows: int, free: int, stacks: int = 1) -> int:
    """How many of the jobs may work at a time, within free memory and within 3 · all_rows² · 8 bytes and 1 GB.

    Args:
        jobs: asked for.
        rows, width: of the train rows.
        all_rows: train and test rows.
        free: bytes of `free_memory`.
        stacks: that are fused; the inner products of each are kept beside their sum.
    """
    matrix = matrix_bytes(rows, width)
    budget = min(free, 3 * FLOAT * all_rows**2 + ROOM) - (SHARED + _kept(stacks)) * matrix - ROOM // 2
    return max(1, min(jobs, budget // (EACH * matrix)))


def _kept(stacks: int) -> int:
    """Matrices beside the sum of all stacks' inner products; of a single stack they are that sum."""
    return stacks if stacks > 1 else 0


def matrix_bytes(rows: int, width: int) -> int:
    """Bytes of the rows' coordinates: no more of them than there are rows, nor than they are wide."""
    return FLOAT * rows * min(rows, width)
