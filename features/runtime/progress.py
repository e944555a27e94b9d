"""How far a long work is: a bar on a terminal and in a notebook, nothing in a log."""

import sys
import warnings
from typing import Any


def progress(**how: Any) -> Any:
    """A tqdm bar.

    Args:
        how: as tqdm takes it: `total`, `initial`, `unit`, …
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in a notebook without ipywidgets tqdm warns, and the bar is text
        from tqdm.auto import tqdm
    unless_a_terminal = False if "ipykernel" in sys.modules else None
    return tqdm(**{"disable": unless_a_terminal, "dynamic_ncols": True, **how})
