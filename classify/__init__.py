"""Stage two: rows of a feature stack → classifiers → one comparison on the same test rows."""

from pathlib import Path
from runpy import run_path

run_path(str(Path(__file__).parents[1] / "features/runtime/in_the_way.py"))["check_free"]("classify")

from classify.audit import audit
from classify.classifier import Classifier
from classify.compare import compare
from classify.explain import explain
from classify.export import export
from classify.fit import fit
from classify.models import MODELS
from classify.predict import predict
from features import __version__

__all__ = ["MODELS", "Classifier", "__version__", "audit", "compare", "explain", "export", "fit", "predict"]
