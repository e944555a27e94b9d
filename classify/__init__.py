"""Stage two: rows of a feature stack → classifiers → one comparison on the same test rows."""

from classify.compare import compare
from classify.fit import fit
from classify.models import MODELS

__all__ = ["MODELS", "compare", "fit"]
