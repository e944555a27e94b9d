"""Every classifier there is, one row each. Nothing is imported before it is built."""

import dataclasses
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from features import Refused
from features.runtime.errors import nearest
from features.runtime.versions import installed

# Trees are thousands of short parallel steps. OpenMP's threads spin while they wait for each other, so that on two
# cores with one other busy process 450 rows took 90 s; asleep instead of spinning, 1.6 s. Read when scikit-learn's
# OpenMP, which XGBoost shares, is loaded: so before anything here imports either.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


PACKAGES = ("numpy", "scikit-learn", "scipy", "xgboost", "xgboost-cpu", "keras", "tensorflow", "tensorflow-cpu")


def model_versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect a fitted model."""
    return installed(PACKAGES)


@dataclasses.dataclass(frozen=True)
class Model:
    """A classifier of the table. Its row holds everything that others need to know about it.

    Attributes:
        title: what it is, in a few words.
        takes: what it learns from. `products`: the inner products of all pairs of rows. `span`: rows, in their own span
            where they are wide. `rows`: rows, pooled. `cut base`: rows cut below the backbone's last layers, which it
            trains too. `pixels`: the images themselves.
        pool: how rows are pooled for it unless told otherwise: `flatten`, `avg` or `max`; empty where it takes none.
        saved_as: the kind of its file, a name in `FORMATS` of `classify.saved`; empty for a user's own, which is not saved.
        build: seed → unfitted scikit-learn estimator. The linear and kernel models' defaults were chosen by
            cross-validation inside the train rows of food101-10 on MobileNetV2, where all are flat around their best;
            the networks' on 15 % of them held out; XGBoost's are set for speed.
        options: its settings that have an option of their own on the command line.
        grid: settings → values that `--search` tries, the simplest model's first; empty where there is no search.
        fine: what `--search=fine` tries instead; empty where that is the same.
        few: what is tried without being asked where a class has fewer than `FEW` rows; empty where the defaults suit.
        balanced: settings that make every class weigh the same; XGBoost's is an argument of its fit.
        of_many: how it is fitted where the matrices of the other paths do not fit or take longer, or the pairs of classes
            are too many, a name in `METHODS` of `classify.fitting`; empty where rows are taken as they are.
        by_pairs: whether it decides between all pairs of classes, of which 1,000 classes have 499,500.
        only_if_named: whether a comparison of all models leaves it out, because it takes hours.
    """

    title: str
    takes: str
    pool: str
    saved_as: str
    build: Callable[[int], Any]
    options: tuple[str, ...] = ()
    grid: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    fine: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    few: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    balanced: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    of_many: str = ""
    by_pairs: bool = False
    only_if_named: bool = False

    @property
    def by_products(self) -> bool:
        """Whether it sees rows only through their inner products, which several models and splits can share."""
        return self.takes in ("span", "products")

    def paired(self, y: np.ndarray) -> int:
        """How many classes (n,) labels have that it decides between in pairs; 0 if it does not."""
        return len(np.unique(y)) if self.by_pairs else 0

    def searched(self, search: bool | str, smallest: int) -> Mapping[str, Sequence[float]]:
        """What is tried: by a search, `fine` or True, or without one for the smallest class of so many rows."""
        if not search:
            return self.few if smallest < FEW else {}
        return self.fine if search == FINE and self.fine else self.grid

    @property
    def network(self) -> bool:
        """Whether it is a Keras network, which is trained in epochs and on one stack."""
        return self.saved_as == "keras"


def model_named(name: str) -> Model:
    """The row of a classifier.

    Raises:
        Refused: there is none; the message offers the nearest names.
    """
    if name not in MODELS:
        raise Refused(f"no model is called {name!r}.{nearest(name, list(MODELS))} All: {', '.join(MODELS)}")
    return MODELS[name]


def _logreg(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    from classify.classical.linear import SpanLinear

    return SpanLinear(LogisticRegression(solver="newton-cg", tol=1e-6, max_iter=1000), c=20.0)


def _linearsvm(seed: int) -> Any:
    from sklearn.svm import LinearSVC

    from classify.classical.linear import SpanLinear

    return SpanLinear(LinearSVC(dual=True, max_iter=10_000, random_state=seed), c=0.5)


def _svm(seed: int) -> Any:
    from classify.classical.kernel import KernelSVC

    return KernelSVC(C=10.0, gamma=0.5)


def _knn(seed: int) -> Any:
    from classify.classical.neighbours import CosineNeighbours

    return CosineNeighbours()


def _xgboost(seed: int) -> Any:
    xgboost = import_xgboost()
    from classify.classical.trees import device

    return xgboost.XGBClassifier(
        n_estimators=200,
        learning_rate=0.15,
        max_depth=4,
        max_bin=64,
        colsample_bynode=0.2,
        tree_method="hist",
        device=device(),
        random_state=seed,
    )


def import_xgboost() -> Any:
    """XGBoost.

    Raises:
        Refused: it is not installed.
    """
    try:
        return importlib.import_module("xgboost")
    except ImportError:
        raise Refused("--model xgboost: XGBoost is not installed; pip install -e '.[cpu]' (or '.[gpu]')") from None


def _dense(seed: int) -> Any:
    from classify.networks.dense import Dense

    return Dense(random_state=seed)


def _finetune(seed: int) -> Any:
    from classify.networks.finetune import Finetune

    return Finetune(random_state=seed)


def _scratch(seed: int) -> Any:
    from classify.networks.scratch import Scratch

    return Scratch(random_state=seed)


DECADES = tuple(10.0**power for power in range(-4, 5))  # of C at unit spread: eight decades around 1
WIDTHS = (0.05, 0.15, 0.5, 1.5, 5.0)  # of γ at unit spread; 0.5 is one over the median squared distance
PENALTY = {"c": DECADES}
FINE = "fine"  # the search with a protocol that is published for linear probes of frozen networks:
FINELY = {"c": tuple(10.0 ** (step / 4 - 6) for step in range(45))}  # (Oquab et al., DINOv2, 2023)
KERNEL = {"C": tuple(10 * c for c in DECADES), "gamma": WIDTHS}
NEIGHBOURS = {"k": (100, 50, 20, 10, 5, 3, 1)}
FEW = 40  # rows of the smallest class: below twice 20 neighbours, these are mostly of other classes
FEW_NEIGHBOURS = {"k": (1, 3, 5, 10, 20)}  # equally good: the fewest, which the smallest class suits
TREES = {"max_depth": (2, 4, 6), "colsample_bynode": (0.05, 0.1, 0.2), "min_child_weight": (1, 5)}
INNER_WEIGHTS = {"estimator__class_weight": "balanced"}
WEIGHTS = {"class_weight": "balanced"}

# fmt: off
MODELS = {
    "logreg": Model("logistic regression", "span", "flatten", "skops", _logreg, grid=PENALTY, fine=FINELY, balanced=INNER_WEIGHTS, of_many="passes"),
    "linearsvm": Model("linear SVM", "span", "flatten", "skops", _linearsvm, grid=PENALTY, fine=FINELY, balanced=INNER_WEIGHTS, of_many="passes"),
    "svm": Model("SVM, RBF kernel", "products", "flatten", "skops", _svm, grid=KERNEL, balanced=WEIGHTS, of_many="nystrom", by_pairs=True),
    "knn": Model("nearest neighbours, cosine", "products", "flatten", "skops", _knn, grid=NEIGHBOURS, few=FEW_NEIGHBOURS, balanced={"balance": True}, of_many="blocks"),
    "xgboost": Model("XGBoost", "rows", "avg", "ubj", _xgboost, grid=TREES),
    "dense": Model("dense head", "rows", "avg", "keras", _dense, ("epochs",)),
    "finetune": Model("fine-tuned network", "cut base", "avg", "keras", _finetune, ("epochs", "layers")),
    "scratch": Model("CNN from scratch", "pixels", "", "keras", _scratch, ("epochs",), only_if_named=True),
}
# fmt: on
BASELINE = "dense"  # the model that the others are tested against, where it is compared
