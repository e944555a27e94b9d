"""XGBoost's trees as ONNX's own: the attributes of a `TreeEnsembleRegressor`, from XGBoost's JSON."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from features import Refused

DOMAIN = "ai.onnx.ml"
# Thresholds are numbers of train rows. Another runtime computes an image's rows to other last digits, and those very
# images would fall to either side: thresholds are moved below them.
HAIR = 2.0**-18
KINDS = {"multi:softprob": "softmax", "multi:softmax": "softmax", "binary:logistic": "sigmoid"}


def ensemble(estimator: Any) -> tuple[dict[str, Any], str]:
    """Attributes of the node, and what becomes of its sums: `softmax` over the classes, or `sigmoid` of the second.

    Args:
        estimator: a fitted XGBClassifier of trees with numeric splits.

    Raises:
        Refused: another objective or booster.
    """
    booster = estimator.get_booster()
    learner = json.loads(booster.save_config())["learner"]
    objective = learner["objective"]["name"]
    if objective not in KINDS or learner["gradient_booster"]["name"] != "gbtree":
        raise Refused(f"XGBoost's {objective} of a {learner['gradient_booster']['name']} booster has no way into ONNX")
    finish = KINDS[objective]
    count = estimator.n_classes_ if finish == "softmax" else 1
    start = np.atleast_1d(np.array(json.loads(learner["learner_model_param"]["base_score"]), np.float64))
    if finish == "sigmoid":
        start = np.log(start / (1 - start))  # recorded as a probability
    nodes: dict[str, list[Any]] = {name: [] for name in NODES}
    leaves: dict[str, list[Any]] = {name: [] for name in LEAVES}
    best = getattr(booster, "best_iteration", None)
    trees = booster.get_dump(dump_format="json")
    for number, text in enumerate(trees if best is None else trees[: (best + 1) * count]):
        for values in _walked(json.loads(text)):
            for name, value in zip(NODES, (number, *values[:-1]), strict=True):
                nodes[name].append(value)
            if values[1] == "LEAF":
                for name, value in zip(LEAVES, (number, values[0], number % count, values[-1]), strict=True):
                    leaves[name].append(value)
    attributes = {f"nodes_{name}": column for name, column in nodes.items()}
    attributes |= {f"target_{name}": column for name, column in leaves.items()}
    whole = np.broadcast_to(start, count).tolist()
    return attributes | {"n_targets": count, "aggregate_function": "SUM", "base_values": whole}, finish


NODES = (
    "treeids",
    "nodeids",
    "modes",
    "featureids",
    "values",
    "truenodeids",
    "falsenodeids",
    "missing_value_tracks_true",
)
LEAVES = ("treeids", "nodeids", "ids", "weights")


def _walked(node: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """(id, mode, feature, threshold, node if below it, node if not, whether NaN counts as below, leaf's value)."""
    if "leaf" in node:
        yield node["nodeid"], "LEAF", 0, 0.0, 0, 0, 0, float(node["leaf"])  # JSON has 0 for 0.0, which ONNX tells apart
        return
    feature = int(node["split"].removeprefix("f"))
    way = int(node["missing"] == node["yes"])
    threshold = float(node["split_condition"])
    threshold -= abs(threshold) * HAIR
    yield node["nodeid"], "BRANCH_LT", feature, threshold, node["yes"], node["no"], way, 0.0
    for child in node["children"]:
        yield from _walked(child)
