"""The datasets that have a name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from extract.images.digits import render_digits
from extract.images.download import FOOD101, fetch

# Name → function that makes the dataset, where it is not there yet, and returns its folder.
NAMED: dict[str, Callable[[], Path]] = {"digits": render_digits, FOOD101.name: partial(fetch, FOOD101)}
