"""A process that is killed in the middle of a write into a begun stack."""

import os
import signal

import numpy as np

from features import writer


def die_in_write(number: int) -> None:
    """Have this process kill itself when half of its so many-th write is on the disk; 0 is never."""
    whole, left = writer.pwrite_all, number

    def pwrite_all(fd: int, values: np.ndarray, offset: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            data = np.ascontiguousarray(values).reshape(-1).view("u1")
            whole(fd, data[: len(data) // 2], offset)
            os.kill(os.getpid(), signal.SIGKILL)
        whole(fd, values, offset)

    writer.pwrite_all = pwrite_all
