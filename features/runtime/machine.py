"""How many CPU cores there are for this process. Asked by both stages."""

import os
import sys
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
_most_cores = sys.maxsize  # as of `use_only`


def cores() -> int:
    """CPU cores that this process may really use: its affinity, the quota of its control group, and `use_only`."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(count, _most_cores)
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # cgroup v2, v1
        try:
            quota, period = map(int, " ".join((CGROUP / file).read_text() for file in files).split())
        except (OSError, ValueError):  # no control group, or no quota ("max")
            continue
        if quota > 0:  # -1 in v1: none
            count = max(1, min(count, quota // period))
    return count


def use_only(count: int) -> None:
    """Leave the other cores to others, from here on."""
    global _most_cores
    _most_cores = count
