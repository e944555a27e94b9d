"""Classifiers that a user brings: any estimator with scikit-learn's interface takes part in a comparison."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from classify.comparison.wording import joined
from classify.models import MODELS, Model, model_named
from features import Refused
from features.runtime.log import log


class Estimator(Protocol):
    """An unfitted estimator, as scikit-learn defines it; also a pipeline or a search."""

    def fit(self, X: Any, y: Any) -> Any: ...

    def predict(self, X: Any) -> Any: ...

    def get_params(self, deep: bool = True) -> dict[str, Any]: ...


def models_named(given: Sequence[str | Estimator] | None, several: bool = False) -> dict[str, Model]:
    """Name → row, of models of the table and of a user's own.

    Args:
        given: names in `MODELS`; `module:factory`, whose call without arguments gives a classifier; or classifiers.
            None: all of the table that are not too slow to be unasked for.
        several: whether several stacks are compared: then None is the models that share their inner products.

    Raises:
        Refused: there is no such model, or what is given is no classifier.
    """
    if given is None:
        quick = {name: model for name, model in MODELS.items() if model.by_products}
        every = {name: model for name, model in MODELS.items() if not model.only_if_named}
        left_out = joined([name for name in MODELS if name not in (quick if several else every)])
        if several:
            log.info(f"{left_out} are left out unless they are named: they take far longer")
        else:
            log.info(f"{left_out} is left out unless it is named: it takes hours on a CPU")
        return quick if several else every
    models: dict[str, Model] = {}
    for each in given:
        if isinstance(each, str) and ":" not in each:
            models[each] = model_named(each)
            continue
        name, estimator = _made(each) if isinstance(each, str) else (type(each).__name__, each)
        if name in MODELS:  # its folder would hold that model beside this one's scores
            raise Refused(f"--models: {name} is the name of a model here already; call yours something else")
        _check(name, estimator)
        number = sum(taken.split("-")[0] == name for taken in models)
        models[f"{name}-{number + 1}" if number else name] = _own(name, estimator)
    return models


def _made(spec: str) -> tuple[str, Any]:
    """The classifier that `module:factory` makes; the working folder is searched first, as by `python -m`."""
    module, _, factory = spec.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        make = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError, ValueError) as error:
        raise Refused(f"--models {spec}: {error}. Give module:factory, a function without arguments") from None
    finally:
        sys.path.remove(str(Path.cwd()))
    return factory, make()


def _check(name: str, estimator: Any) -> None:
    if isinstance(estimator, type) or not all(hasattr(estimator, what) for what in ("fit", "predict", "get_params")):
        raise Refused(f"--models: {name} is no classifier with fit, predict and get_params, such as scikit-learn's")


def _own(name: str, estimator: Any) -> Model:
    def build(seed: int) -> Any:
        from sklearn.base import clone

        fresh = clone(estimator)
        unset = [key for key, value in fresh.get_params().items() if value is None and _is_seed(key)]
        return fresh.set_params(**dict.fromkeys(unset, seed))

    return Model(name, "rows", "avg", "", build)


def _is_seed(key: str) -> bool:
    return key.split("__")[-1] == "random_state"
