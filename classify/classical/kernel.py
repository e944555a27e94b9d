"""The RBF support vector machine on wide rows, through one matrix of inner products."""

from typing import Any

import numpy as np
from sklearn.svm import SVC

from classify.classical.answering import Kernel
from classify.classical.calibration import Calibrate, Tempered, pair_temperature, temperature
from classify.classical.products import rbf, spread
from classify.rows import taken


class KernelSVC(Tempered):
    """RBF SVM on rows scaled to unit length, through a precomputed kernel.

    Equal, but for rounding, to `make_pipeline(Normalizer(), SVC(C=C, gamma=gamma / spread)).fit(X, y)`, which on wide
    rows spends minutes computing the same inner products again and again.

    Args:
        C: inverse penalty.
        gamma: γ at unit spread: γ = gamma / spread, where spread is the mean squared distance of the unit rows to their
            mean, so that one default fits every backbone. 0.5 makes γ about one over the median squared distance.
        class_weight: None or `balanced`, see scikit-learn's SVC.

    Attributes:
        gamma_: the γ that was used.
        model_: the fitted scikit-learn SVC with its precomputed kernel.
        temperature_: T of the sigmoids σ(decision / T) of all pairs of classes, fitted on out-of-fold decisions and
            coupled; None where a class is too small for folds.
        support_rows_: (support vectors, d) rows, unscaled: a `Stack` if it was fitted on one.
        classes_: class labels.
    """

    walked = "C"
    FOUND = ("gamma_",)

    def __init__(self, C: float = 10.0, gamma: float = 0.5, class_weight: str | None = None) -> None:
        self.C = C
        self.gamma = gamma
        self.class_weight = class_weight

    def _fit(self, X: Any, codes: np.ndarray, products: np.ndarray, calibrate: Calibrate) -> None:
        self.gamma_ = self.gamma / self.scale(X, products)
        kernel, svc = self.space(X, products), self.plain(1.0)
        self.coupled_ = len(self.classes_) > 2
        self.temperature_ = calibrate(svc, kernel, pair_temperature if self.coupled_ else temperature)
        self.model_ = svc.set_params(decision_function_shape="ovr").fit(kernel, codes)
        self.support_rows_ = taken(X, self.model_.support_)

    def wants_products(self, X: Any) -> bool:
        """Always: its kernel is made of them."""
        return True

    def plain(self, scale: float) -> SVC:
        """scikit-learn's SVC, unfitted, on a kernel, with a decision for each pair of classes; its C needs no scale."""
        how = {"class_weight": self.class_weight, "decision_function_shape": "ovo"}
        return SVC(C=self.C, kernel="precomputed", **how)

    def scale(self, X: Any, products: np.ndarray) -> float:
        """Spread of X's rows, from their products; 1 where all rows are one."""
        return spread(products) or 1.0

    def space(self, X: Any, products: np.ndarray) -> np.ndarray:
        """(n, n) float64 kernel of X's rows, from their products."""
        squares = np.diag(products)
        return rbf(products, squares, squares, self.gamma / self.scale(X, products))

    @property
    def answering(self) -> Kernel:
        """See `Tempered`."""
        return Kernel.of(self)
