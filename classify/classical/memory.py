"""Estimate the memory that a fit needs before any is taken, and choose the method that fits."""

from features import Refused

FLOAT = 8  # bytes
ROOM = 1 << 30  # beside the matrices: the interpreter, its libraries, pieces of rows
SHARED = 2  # matrices that all threads read: the inner products, and their factor or kernel
MANY = 5_000  # rows from which on passes are faster for the linear models
MOST_PAIRED = 300  # classes: libsvm's decisions between all pairs of 1,000 about 3,000 rows take 12 GB
PAIRED = 3  # copies of such decisions about held-out rows: the library's own, each fold's, and all folds'
SAID = 6  # copies of rows × classes numbers: decisions, their logarithms, targets, probabilities
EACH = 2  # matrices that each thread fills at most: a fold's part, and the same again in its solver's own form


def choose_method(rows: int, width: int, kernel: bool, free: int, stacks: int = 1, paired: int = 0) -> str | None:
    """How a model is fitted: `kernel`, `span` or `primal`, in matrices; None where blocks of rows are the better way.

    Args:
        rows, width: of the train rows.
        kernel: whether the model takes the inner products of all pairs of rows.
        free: bytes of `free_memory`.
        stacks: see `threads`.
        paired: classes, where the model decides between all pairs of them; else 0.
    """
    if (not kernel and rows >= MANY) or paired > MOST_PAIRED:
        return None
    if needed(rows, width, kernel, stacks, paired) > free:
        return None
    return "kernel" if kernel else "span" if rows < width else "primal"


def needed(rows: int, width: int, kernel: bool, stacks: int = 1, paired: int = 0) -> int:
    """Bytes that fitting in matrices takes; arguments: see `choose_method`."""
    pairs = FLOAT * rows * (paired * (paired - 1) // 2)
    return matrix_bytes(rows, rows if kernel else width) * (SHARED + EACH + _kept(stacks)) + PAIRED * pairs + ROOM


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


def check_classes(rows: int, classes: int, free: int, who: str) -> None:
    """Raise Refused if what is said of every row about every class does not fit into memory, nor the table of errors.

    Args:
        rows: that are predicted at a time: the test rows, and those that are held out of a fit.
        classes: how many there are.
        free: bytes of `free_memory`.
        who: the model.
    """
    needed = SAID * FLOAT * classes * (rows + classes) + ROOM
    if needed > free:
        raise Refused(
            f"{who} with {classes:,} classes needs {needed / 1e9:.1f} GB of memory for the probabilities of {rows:,} "
            f"rows, and {free / 1e9:.1f} GB are free. Take fewer classes or fewer test images, or more memory."
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
