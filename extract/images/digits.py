"""The dataset that needs no download: scikit-learn's handwritten digits, rendered to PNG class folders."""

import os
import shutil
from pathlib import Path

from features.runtime.disk import sync_all
from features.runtime.lock import writer_lock
from features.runtime.log import log

SIDE = 32  # pixels; the scans themselves are 8×8


def render_digits(folder: Path = Path("data/digits")) -> Path:
    """Write the 1,797 digits of scikit-learn (8×8 scans, 17 grey levels) as `folder/<digit>/<index>.png`, once.

    Returns:
        the folder.

    Raises:
        Refused: another process is at it.
    """
    if folder.is_dir():
        return folder
    with writer_lock(folder):
        if not folder.is_dir():  # else another process made it since
            _render(folder)
    return folder


def _render(folder: Path) -> None:
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    unfinished = folder.with_name(folder.name + ".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    for i, (scan, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = unfinished / str(digit) / f"{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.round(scan * (255 / 16)).astype("u1")
        Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
    sync_all()
    os.replace(unfinished, folder)
    log.info(f"rendered scikit-learn's {len(digits.target)} handwritten digits to {folder}")
