"""What `fit` and `compare` return: the path that they wrote, and the scores that lie there."""

from typing import Any

from features.runtime.result import Result

SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "calibration_error")
COSTS = ("fit_seconds", "predict_seconds", "model_bytes")


class Fit(Result):
    """The folder of a fitted model, with its files, `result.json` and `predictions.csv`."""

    def table(self) -> list[dict[str, Any]]:
        """One row: `model` and its scores on the test rows."""
        result = self._json("result.json")
        return [_row(result)] if result else []


class Report(Result):
    """The page of a comparison, `report.html`, beside `compare.json`."""

    def table(self) -> list[dict[str, Any]]:
        """A row for each model, best first: its scores, intervals, and the difference from the baseline."""
        return [_row(result) for result in self._json("compare.json") or []]


class Audited(Result):
    """The page or the table of an audit, with `audit.json` and `audit.csv` beside it."""

    def table(self) -> list[dict[str, Any]]:
        """One row: the number of images and of findings of each kind."""
        about = self._json("audit.json")
        return [{name: value for name, value in about.items() if not isinstance(value, list)}] if about else []


def _row(result: dict[str, Any]) -> dict[str, Any]:
    low, high = result.get("accuracy_interval") or (None, None)
    scores = {name: result.get(name) for name in SCORES}
    apart = {"difference": result.get("difference"), "p": result.get("mcnemar_holm_p", result.get("p"))}
    costs = {name: result.get(name) for name in COSTS}
    ended = {"failed": result["failed"]} if "failed" in result else {}
    interval = {"accuracy_low": low, "accuracy_high": high}
    known = {} if low is None and "failed" not in result else {**interval, **apart}
    of = {"features": result["features"], "repeats": result.get("repeats")} if "features" in result else {}
    return {**of, "model": result["model"], "n_test": result.get("n_test"), **scores, **known, **costs, **ended}
