"""Every classifier there is, one row each. Nothing is imported before it is built."""

import dataclasses
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from features import Refused
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
    """A classifier of the table.

    Attributes:
        title: what it is, in a few words.
        pool: how rows are pooled for it unless told otherwise: `flatten`, `avg` or `max`; empty where it takes none.
        takes: what `fit` reads: a whole `stack`; or rows pooled, where flattened an `array` in memory, or a stack and
            the `products` of its rows with each other.
        options: its settings that have an option of their own on the command line.
        grid: settings → values that `--search` tries; empty where there is no search.
        balanced: settings that make every class weigh the same; XGBoost's is an argument of its fit.
        loss: of the stochastic gradients that stand in where the rows do not fit into memory.
        build: seed → unfitted scikit-learn estimator. The linear and kernel models' defaults were chosen by
            cross-validation inside the train rows of food101-10 on MobileNetV2, where all are flat around their best;
            the networks' on 15 % of them held out; XGBoost's are set for speed.
    """

    title: str
    pool: str
    takes: str
    build: Callable[[int], Any]
    options: tuple[str, ...] = ()
    grid: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    balanced: Mapping[str, str] = dataclasses.field(default_factory=dict)
    loss: str | None = None


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


def import_xgboost() -> Any:
    """XGBoost.

    Raises:
        Refused: it is not installed.
    """
    try:
        return importlib.import_module("xgboost")
    except ImportError:
        raise Refused("--model xgboost: XGBoost is not installed; pip install -e '.[cpu]' (or '.[gpu]')") from None


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
WIDTHS = (
    0.05,
    0.15,
    0.5,
    1.5,
    5.0,
)  # of γ at unit spread; 0.5 is one over the median squared distance
TREES = {"max_depth": (2, 4, 6), "colsample_bynode": (0.05, 0.1, 0.2), "min_child_weight": (1, 5)}
WEIGHED = {"estimator__class_weight": "balanced"}

MODELS = {
    "logreg": Model("logistic regression", "flatten", "products", _logreg, (), {"c": DECADES}, WEIGHED, "log_loss"),
    "linearsvm": Model("linear SVM", "flatten", "products", _linearsvm, (), {"c": DECADES}, WEIGHED, "hinge"),
    "svm": Model(
        "SVM, RBF kernel",
        "flatten",
        "products",
        _svm,
        grid={"C": tuple(10 * c for c in DECADES), "gamma": WIDTHS},
        balanced={"class_weight": "balanced"},
    ),
    "xgboost": Model("XGBoost", "avg", "array", _xgboost, grid=TREES),
    "dense": Model("dense head", "avg", "stack", _dense, ("epochs",)),
    "finetune": Model("fine-tuned network", "avg", "stack", _finetune, ("epochs", "layers")),
    "scratch": Model("CNN from scratch", "", "stack", _scratch, ("epochs",)),
}
