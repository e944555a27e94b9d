"""The RBF support vector machine: through one matrix of inner products, or, of many rows, by some of them."""

from typing import Any

import numpy as np
from sklearn.svm import SVC, LinearSVC

from classify.classical.answering import Kernel, Landmarks, of_kernel_machine
from classify.classical.calibration import Calibrate, Tempered, classes_of_pairs, pair_temperature, temperature
from classify.classical.coupling import from_pairs
from classify.classical.crossfit import fit_by_passes
from classify.classical.descent import Descent
from classify.classical.nystrom import Nystrom, landmarks
from classify.classical.passes import Rows
from classify.classical.products import rbf
from classify.rows import taken

C_OF_LINEAR = 20  # the default C of this machine over the linear SVM's


class KernelSVC(Tempered):
    """RBF SVM on rows scaled to unit length, through a precomputed kernel.

    Equal, but for rounding, to `make_pipeline(Normalizer(), SVC(C=C, gamma=gamma / spread)).fit(X, y)`, which on wide
    rows spends minutes computing the same inner products again and again.

    Where that matrix does not fit into memory, the path `nystrom` is a linear SVM on kernels with some of the rows (see
    `Nystrom`), each class against the rest. At the default C its own is the linear SVM's.

    Args:
        C: inverse penalty.
        gamma: γ at unit spread: γ = gamma / spread, where spread is the mean squared distance of the unit rows to their
            mean, so that one default fits every backbone. 0.5 makes γ about one over the median squared distance.
        class_weight: None or `balanced`, see scikit-learn's SVC.
        path: `kernel`, the default, or `nystrom`.

    Attributes:
        gamma_: the γ that was used.
        path_: the path that was taken.
        model_: the fitted scikit-learn SVC with its precomputed kernel; of `nystrom` a LinearSVC on kernels with the
            landmarks.
        temperature_: T of the sigmoids σ(decision / T) of all pairs of classes, fitted on out-of-fold decisions and
            coupled; of `nystrom`, of softmax(decision / T). None where a class is too small for folds.
        support_rows_: (support vectors or landmarks, d) rows, unscaled: a `Stack` if it was fitted on one.
        classes_: class labels.
    """

    walked = "C"
    FOUND = ("gamma_",)

    def __init__(
        self, C: float = 10.0, gamma: float = 0.5, class_weight: str | None = None, path: str | None = None
    ) -> None:
        self.C = C
        self.gamma = gamma
        self.class_weight = class_weight
        self.path = path

    def _fit(self, X: Any, codes: np.ndarray, products: np.ndarray | None, calibrate: Calibrate) -> None:
        self.path_ = self.path or "kernel"
        scale = self.scale(X, products)
        self.gamma_ = self.gamma / scale
        if products is None:
            nystrom, descent = self._nystrom(X, codes, scale)
            plain = self.plain(1.0)
            self.temperature_ = calibrate(plain, descent)
            self.model_ = fit_by_passes(plain, descent)
            self.model_.coef_ = self.model_.coef_ @ nystrom.root.T
            self.support_rows_ = nystrom.rows
            return
        kernel, svc = self.space(X, codes, products, scale), self.plain(1.0)
        self.coupled_ = len(self.classes_) > 2
        self.temperature_ = calibrate(svc, kernel, self.find_temperature)
        self.model_ = svc.set_params(decision_function_shape="ovr").fit(kernel, codes)
        self.support_rows_ = taken(X, self.model_.support_)

    def wants_products(self, X: Any) -> bool:
        """Whether its kernel is made of them."""
        return self.path != "nystrom"

    def find_temperature(self, decisions: np.ndarray, y: np.ndarray) -> float:
        """See `Tempered`; of more than two classes by the decisions of all pairs, but for `nystrom`."""
        pairs = self.path != "nystrom" and decisions.ndim == 2
        return pair_temperature(decisions, y) if pairs else temperature(decisions, y)

    def probabilities(self, decisions: np.ndarray, predicted: np.ndarray, T: float | None) -> np.ndarray | None:
        """See `Tempered` and `find_temperature`."""
        if T is None or self.path == "nystrom" or decisions.ndim == 1:
            return super().probabilities(decisions, predicted, T)
        return from_pairs(decisions, predicted, classes_of_pairs(decisions), T)

    def plain(self, scale: float) -> Any:
        """scikit-learn's SVC, unfitted, on a kernel, with a decision for each pair of classes; its C needs no scale.

        Of `nystrom`, its LinearSVC.
        """
        if self.path == "nystrom":
            return LinearSVC(C=self.C / C_OF_LINEAR, class_weight=self.class_weight)
        how = {"class_weight": self.class_weight, "decision_function_shape": "ovo"}
        return SVC(C=self.C, kernel="precomputed", **how)

    def space(self, X: Any, codes: np.ndarray, products: np.ndarray | None, scale: float) -> Any:
        """(n, n) float64 kernel of X's rows, from their products; of `nystrom`, a `Descent` on their features."""
        if products is None:
            return self._nystrom(X, codes, scale)[1]
        squares = np.diag(products)
        return rbf(products, squares, squares, self.gamma / scale)

    def _nystrom(self, X: Any, codes: np.ndarray, scale: float) -> tuple[Nystrom, Descent]:
        nystrom = Nystrom.of(landmarks(X, codes), self.gamma / scale)
        return nystrom, Descent(Rows(nystrom.features(X), codes, are_unit=True))

    @property
    def answering(self) -> Kernel | Landmarks:
        """See `Tempered`."""
        return of_kernel_machine(self)
