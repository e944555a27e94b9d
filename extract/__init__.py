"""Stage one: images → frozen conv base → rows of a feature stack."""

from extract.backbones import BACKBONES
from extract.stage import extract

__all__ = ["BACKBONES", "extract"]
