"""Stage two: rows of a feature stack → classifiers → one comparison on the same test rows."""

from classify.classifier import Classifier
from classify.compare import compare
from classify.export import export
from classify.fit import fit
from classify.models import MODELS
from classify.predict import predict
from features import __version__

__all__ = ["MODELS", "Classifier", "__version__", "compare", "export", "fit", "predict"]
