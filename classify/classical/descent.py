"""The minimum of a linear model's loss on any number of rows, by passes over them.

A pass reads every row once and sums the loss and its gradient (`Passes`). SciPy's L-BFGS chooses the steps. Two things
keep them few:

- **The loss is made round.** Principal axes of a sample of the rows, with variances λ, and the curvature of the loss in
  the classes, Q·diag(μ)·Qᵀ summed over the rows, stand for the Hessian: along axis i and class direction j it is
  about 1 + C·λᵢ·μⱼ (a Kronecker factorisation, as K-FAC's: Martens and Grosse, ICML 2015). The steps are taken in
  variables that are scaled by its root. Intercepts are those at the mean row, where they hardly depend on coefficients.
- **It starts near the minimum.** Along most axes the penalty outweighs the data. The model is first fitted to the rows'
  coordinates along the others, which are held in memory and are fewer numbers, then to the rows themselves.
"""

from typing import Any, NamedTuple

import numpy as np

from classify.classical.axes import Axes, Variables
from classify.classical.losses import Loss, columns
from classify.classical.passes import Passes, Rows, blas_on_one_thread

FEW, FEWEST, HELD = 0.3, 64, 1 << 30  # coordinates held: their share of the width, least number, and most bytes
STEPS, REMEMBERED = 1000, 1 << 29  # of L-BFGS at most, and bytes of those that it remembers
RENEWED = (10, 30)  # steps after which the curvature is measured again, while steps are cheap
TOLERANCE = 2e-5  # of a bound on how far the loss is above its minimum, relative; the truth was less than half of it


class Minimum(NamedTuple):
    """Where a loss is least.

    Attributes:
        coef: (d, f·k) float32.
        intercept: (f·k,) float64.
        steps: of L-BFGS, on the rows themselves.
        converged: whether the loss is as near to its minimum as `TOLERANCE` says.
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
        tolerance: float = TOLERANCE,
        most: int = STEPS,
    ) -> Minimum:
        """The minimum of C · Σ loss + ½ · |coefficients|², of each model.

        Args:
            loss: of each model.
            C: inverse penalty, of all models or (f,) of each.
            weights: (n, f) float32, how much each row counts in each model.
            start: the minimum of a loss that is much like it.
            tolerance: see `TOLERANCE`.
            most: steps.
        """
        renewed: tuple[int, ...] = ()
        if start is None and self.few:
            near = self.few.minimise(loss, C, weights, None, tolerance, most)
            coef = self._first.basis @ near.coef
            start = Minimum(coef, near.intercept - self._first.mean @ coef, 0, True)
        elif start is None:
            size = weights.shape[1] * columns(int(self.passes.codes.max()) + 1)
            start = Minimum(np.zeros((self.passes.shape[1], size), np.float32), np.zeros(size), 0, True)
            renewed = RENEWED
        penalties = np.broadcast_to(np.asarray(C, float), weights.shape[1])
        return _descend(self.passes, self._axes, _Goal(loss, penalties, weights, tolerance, most), start, renewed)


class _Goal(NamedTuple):
    """What is to be minimised, and how far; see `Descent.minimise`."""

    loss: Loss
    C: np.ndarray
    weights: np.ndarray
    tolerance: float
    most: int


class _Objective:
    """C · Σ loss + ½ · |coefficients|², in numbers that L-BFGS steps in, and the least of it that was seen."""

    def __init__(self, passes: Passes, axes: Axes, goal: _Goal, start: Minimum) -> None:
        self._passes, self._goal = passes, goal
        curvature = passes.curvature(goal.loss, start.coef, start.intercept, goal.weights)
        self.variables = Variables(axes, goal.C[:, None, None] * curvature)
        self.least, self.gap = np.inf, np.inf
        self.coef, self.intercept = start.coef, start.intercept

    def __call__(self, numbers: np.ndarray) -> tuple[float, np.ndarray]:
        coef, intercept = self.variables.unpack(numbers)
        goal = self._goal
        sums = self._passes.sums(goal.loss, coef, intercept, goal.weights)
        penalties = np.repeat(goal.C, coef.shape[1] // len(goal.C))  # of each column
        by_coef, by_intercept = penalties * sums.coef + coef, penalties * sums.intercept
        value = float(goal.C @ sums.value) + 0.5 * float(np.einsum("ij,ij->", coef, coef, dtype=np.float64))
        if goal.loss.penalises_intercept:
            value += 0.5 * float(intercept @ intercept)
            by_intercept = by_intercept + intercept
        gradient = self.variables.gradient(by_coef, by_intercept)
        if value < self.least:
            # The penalty curves the loss by one or more, so no minimum lies deeper than half the squared gradient.
            # Intercepts without a penalty count as they are scaled, by about what the loss itself curves along them.
            slope = float(np.vdot(by_coef, by_coef)) + float(np.sum(gradient[-len(intercept) :] ** 2))
            self.least, self.gap, self.coef, self.intercept = value, 0.5 * slope / value, coef, intercept
        return value, gradient


def _descend(passes: Passes, axes: Axes, goal: _Goal, at: Minimum, renewed: tuple[int, ...]) -> Minimum:
    """Steps of L-BFGS from a start until the gap is within the tolerance, or no more of them help."""
    from scipy.optimize import minimize

    rounds, steps, reached = [*renewed, goal.most], 0, np.inf
    while steps < goal.most:
        objective = _Objective(passes, axes, goal, at)

        def stop(intermediate_result: Any, objective: _Objective = objective) -> None:
            if objective.gap <= goal.tolerance:
                raise StopIteration

        first = objective.variables.pack(at.coef, at.intercept)
        some = min(rounds.pop(0) if rounds else goal.most, goal.most - steps)
        remembered = int(np.clip(REMEMBERED // (16 * first.size), 5, 30))
        options = {"maxcor": remembered, "maxiter": some, "maxfun": 2 * some + 20, "ftol": 0, "gtol": 0}
        with blas_on_one_thread():
            done = minimize(objective, first, jac=True, method="L-BFGS-B", callback=stop, options=options)
        steps += max(1, done.nit)
        at = Minimum(objective.coef, objective.intercept, steps, objective.gap <= goal.tolerance)
        if at.converged or (not rounds and objective.least > reached * (1 - goal.tolerance / 10)):
            break
        reached = objective.least
    return at
