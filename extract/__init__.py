"""Stage one: images → frozen conv base → rows of a feature stack."""

from pathlib import Path
from runpy import run_path

run_path(str(Path(__file__).parents[1] / "features/runtime/in_the_way.py"))["check_free"]("extract")

from extract.backbones import BACKBONES
from extract.stage import extract, extract_layers
from features import __version__

__all__ = ["BACKBONES", "__version__", "extract", "extract_layers"]
