"""Stage one: images → frozen conv base → rows of a feature stack."""

from extract.backbones import BACKBONES
from extract.stage import extract, extract_layers
from features import __version__

__all__ = ["BACKBONES", "__version__", "extract", "extract_layers"]
