"""The CPU cores and the memory that this process may use."""

import os
import sys
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
_most_cores = sys.maxsize  # see `use_only`


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
    """Use at most `count` cores from now on."""
    global _most_cores
    _most_cores = count


def free_memory() -> int:
    """Bytes of memory that are free to take: the machine's, or what a container's limit leaves of it."""
    free = _available()
    for folder, limit, usage, cache in (
        (CGROUP, "memory.max", "memory.current", "inactive_file"),
        (CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, used = (int((folder / name).read_text()) for name in (limit, usage))
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # no such limit, or `max`
            continue
        free = min(free, most - used + int(stat.get(cache, 0)))  # pages of files that were read give way
    return max(free, 0)


def _available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # not Linux
        import psutil

        return int(psutil.virtual_memory().available)
