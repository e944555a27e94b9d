"""The minimum of a linear model's loss on any number of rows, by passes over them.

A pass reads every row once and sums the loss and its gradient (`Passes`). SciPy's L-BFGS chooses the steps. Two things
keep them few:

- **The loss is made round.** Principal axes of a sample of the rows, with variances λ, and the curvature of the loss in
  the classes, Q·diag(μ)·Qᵀ summed over the rows, stand for the Hessian: along axis i and class direction j it is
  about 1 + C·λᵢ·μⱼ (a Kronecker factorisation, as K-FAC's: Martens and Grosse, ICML 2015). The steps are taken in
  variables that are scaled by its root. Intercepts are those at the mean row, where they hardly depend on coefficients.
- **It starts near the minimum.** Along most axes the penalty outweighs the data. The model is first fitted to the rows'
  coordinates along the others, which are held in memory and are fewer numbers, then to the rows themselves.

It stops where the scores settle, not the loss: under a strong penalty the loss hardly differs between models that
answer differently.
"""

from typing import Any, NamedTuple

import numpy as np

from classify.classical.axes import Axes, Variables
from classify.classical.losses import Loss, columns
from classify.classical.passes import Passes, Rows, blas_on_one_thread

FEW, FEWEST, HELD = 0.3, 64, 1 << 30  # coordinates held: their share of the width, least number, and most bytes
STEPS, REMEMBERED = 1000, 1 << 29  # of L-BFGS at most, and bytes of those that it remembers
RENEWED = (10, 30)  # steps after which the curvature is measured again, while steps are cheap
# What the last step and Newton's next one may change in the scores, as a share of their spread. The minimum itself is
# about as far where the loss is nearly round; at large C it was up to 40 times as far, and hardly an answer changed.
EXACT = 1e-4  # of a model that answers
SCORED = 5e-4  # of models that only score held-out rows: accuracies are within a tenth of a point
ROUGH = 1e-2  # of models to start from, and of those that only show how large the scores of held-out rows get
STILL = 1e-6  # a step that changes no more than this is rounding


class Minimum(NamedTuple):
    """Where a loss is least.

    Attributes:
        coef: (d, f·k) float32.
        intercept: (f·k,) float64.
        steps: of L-BFGS, on the rows themselves.
        converged: whether the scores had settled, see `EXACT`.
    """

    coef: np.ndarray
    intercept: np.ndarray
    steps: int
    converged: bool


class Descent:
    """Fits linear models to the same rows: with other penalties, other weights, several at a time.

    Args:
        passes: over the rows.
        axes: of the rows; by default found in a sample of them.

    Attributes:
        few: fits to the rows' coordinates along the first axes; None where these would be hardly fewer numbers, or too
            many to hold.
    """

    def __init__(self, passes: Passes, axes: Axes | None = None) -> None:
        self.passes = passes
        self._axes = axes or Axes.of(passes)
        n, width = passes.shape
        count = min(int(FEW * width), len(self._axes.variances))
        self.few: Descent | None = None
        if axes is None and count >= FEWEST and 4 * n * count <= HELD:
            self._first = self._axes.first(count)
            near = Rows(passes.coordinates(self._first.mean, self._first.basis), passes.codes, are_unit=True)
            self.few = Descent(near, self._first.of_coordinates())

    def minimise(
        self,
        loss: Loss,
        C: float | np.ndarray,
        weights: np.ndarray,
        start: Minimum | None = None,
        tolerance: float = EXACT,
    ) -> Minimum:
        """The minimum of C · Σ loss + ½ · |coefficients|², of each model.

        Args:
            loss: of each model.
            C: inverse penalty, of all models or (f,) of each.
            weights: (n, f) float32, how much each row counts in each model.
            start: the minimum of a loss that is much like it.
            tolerance: see `EXACT`.
        """
        renewed: tuple[int, ...] = ()
        if start is None and self.few:
            near = self.few.minimise(loss, C, weights, None, max(tolerance, ROUGH))
            coef = self._first.basis @ near.coef
            start = Minimum(coef, near.intercept - self._first.mean @ coef, 0, True)
        elif start is None:
            size = weights.shape[1] * columns(int(self.passes.codes.max()) + 1)
            start = Minimum(np.zeros((self.passes.shape[1], size), np.float32), np.zeros(size), 0, True)
            renewed = RENEWED
        penalties = np.broadcast_to(np.asarray(C, float), weights.shape[1])
        return _descend(self.passes, self._axes, _Goal(loss, penalties, weights, tolerance), start, renewed)


class _Goal(NamedTuple):
    """What is to be minimised, and how far; see `Descent.minimise`."""

    loss: Loss
    C: np.ndarray
    weights: np.ndarray
    tolerance: float


class _Objective:
    """C · Σ loss + ½ · |coefficients|², in numbers that L-BFGS steps in, and the least of it that was seen.

    L-BFGS begins with a step of length 1. So the numbers' unit is the length of the slope at the start in the scaled
    variables, where the curvature is about 1: the first step is Newton's, and few line searches ask twice.

    Attributes:
        start: what the numbers are at first.
        least: of the values seen.
        coef, intercept: where that was.
    """

    def __init__(self, passes: Passes, axes: Axes, goal: _Goal, start: Minimum) -> None:
        self._passes, self._goal = passes, goal
        curvature = passes.curvature(goal.loss, start.coef, start.intercept, goal.weights)
        weighted = goal.C[:, None, None] * curvature
        self._variables = Variables(axes, weighted, goal.loss.penalises_intercept)
        self.least = np.inf
        self.coef, self.intercept = start.coef, start.intercept
        numbers = self._variables.pack(start.coef, start.intercept)
        value, self._slope = self._look(numbers)
        self._unit = float(np.linalg.norm(self._slope)) or 1.0
        self.start = numbers / self._unit
        self._known: Any = (value, self._slope * self._unit)
        self._before = np.zeros_like(self.coef), np.zeros_like(self.intercept)

    def __call__(self, numbers: np.ndarray) -> tuple[float, np.ndarray]:
        known, self._known = self._known, None
        if known is not None:  # SciPy first asks about the start
            return known
        value, slope = self._look(numbers * self._unit)
        return value, slope * self._unit

    def _look(self, numbers: np.ndarray) -> tuple[float, np.ndarray]:
        coef, intercept = self._variables.unpack(numbers)
        goal = self._goal
        sums = self._passes.sums(goal.loss, coef, intercept, goal.weights)
        penalties = np.repeat(goal.C, coef.shape[1] // len(goal.C))  # of each column
        by_coef, by_intercept = penalties * sums.coef + coef, penalties * sums.intercept
        value = float(goal.C @ sums.value) + 0.5 * float(np.einsum("ij,ij->", coef, coef, dtype=np.float64))
        if goal.loss.penalises_intercept:
            value += 0.5 * float(intercept @ intercept)
            by_intercept = by_intercept + intercept
        slope = self._variables.gradient(by_coef, by_intercept)
        if value < self.least:
            self.least, self.coef, self.intercept, self._slope = value, coef, intercept, slope
        return value, slope

    def settled(self, tolerance: float) -> bool:
        """Whether neither the last step nor Newton's next one changes scores by more than a share of their spread."""
        spread = self._variables.spread(self.coef)
        spread[spread == 0] = 1  # all rows are one, and the scores are what the intercepts make them
        means = self._variables.means(self.coef, self.intercept)
        moved = self._variables.spread(self.coef - self._before[0], means - self._before[1])
        self._before = self.coef, means
        if (moved > tolerance * spread).any():
            return False
        # float32 bounds how small a slope can be told. Where steps come to nothing, it says no more.
        return bool(
            (moved <= STILL * spread).all() or (self._variables.change(self._slope) <= tolerance * spread).all()
        )


def _descend(passes: Passes, axes: Axes, goal: _Goal, at: Minimum, renewed: tuple[int, ...]) -> Minimum:
    """Steps of L-BFGS from a start until the scores settle, or no more of them help."""
    from scipy.optimize import minimize

    rounds, steps, reached, settled = [*renewed, STEPS], 0, np.inf, False
    while not settled and steps < STEPS:
        objective = _Objective(passes, axes, goal, at)

        def stop(numbers: np.ndarray, objective: _Objective = objective) -> None:
            nonlocal settled
            settled = objective.settled(goal.tolerance)
            if settled:
                raise StopIteration

        some = min(rounds.pop(0) if rounds else STEPS, STEPS - steps)
        remembered = int(np.clip(REMEMBERED // (16 * objective.start.size), 5, 30))
        options = {"maxcor": remembered, "maxiter": some, "maxfun": 2 * some + 20, "ftol": 0, "gtol": 0}
        with blas_on_one_thread():
            done = minimize(objective, objective.start, jac=True, method="L-BFGS-B", callback=stop, options=options)
        steps += max(1, done.nit)
        at = Minimum(objective.coef, objective.intercept, steps, settled)
        if not rounds and objective.least >= reached:
            break
        reached = objective.least
    return at
