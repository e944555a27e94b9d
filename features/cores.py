"""How many CPU cores there are for this process. Asked by both stages."""

import os
import sys
from pathlib import Path

_most_cores = sys.maxsize  # as of `use_only`


def cores() -> int:
    """CPU cores that this process may really use: its affinity, the quota of its control group, and `use_only`."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(count, _most_cores)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):  # no control group, or no quota ("max")
        return count


def use_only(count: int) -> None:
    """Leave the other cores to others, from here on."""
    global _most_cores
    _most_cores = count
