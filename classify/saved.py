"""Models on disk, without pickle: loading one never runs code. A folder a model, `model.json` says what it takes."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from classify.models import MODELS
from classify.rows import row_chunks, shape
from features import Refused

# What skops may rebuild beside its own list of scikit-learn types: our estimators, which are only data.
TRUSTED = ["classify.kernel.KernelSVC", "classify.linear.SpanLinear", "classify.outofcore.OutOfCore"]


def save_model(estimator: Any, folder: Path, about: dict[str, Any]) -> None:
    """Write a fitted estimator and what it was trained on.

    XGBoost goes to `model.ubj`, a network to `model.keras`, scikit-learn to `model.skops`, and the rows that a kernel
    machine needs to `support.h5`.

    Args:
        estimator: fitted.
        folder: where; made if need be.
        about: JSON, `model`, `pool`, `stack_key`, `label_names`, … of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if hasattr(estimator, "get_booster"):
        estimator.save_model(folder / "model.ubj")
    elif hasattr(estimator, "facts"):
        estimator.model_.save(folder / "model.keras")
        about = {**about, "network": estimator.facts()}
    else:
        import skops.io

        support = estimator.__dict__.pop("support_rows_", None)
        skops.io.dump(estimator, folder / "model.skops")
        if support is not None:
            estimator.support_rows_ = support
            with h5py.File(folder / "support.h5", "w") as file:
                rows = file.create_dataset("rows", shape(support), "<f4")
                row = 0
                for piece in row_chunks(support):
                    rows[row : row + len(piece)] = piece
                    row += len(piece)
    (folder / "model.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n")


def load_model(folder: str | Path) -> tuple[Any, dict[str, Any]]:
    """A saved model, ready to predict, and its `model.json`.

    Raises:
        Refused: there is no model in the folder, or its file holds types that no model here is made of.
    """
    folder = Path(folder)
    if not (folder / "model.json").is_file():
        raise Refused(f"no model in {folder} (no model.json). Make one with: make classify MODEL=svm")
    about = json.loads((folder / "model.json").read_text())
    if (folder / "model.ubj").is_file():
        from xgboost import XGBClassifier

        estimator = XGBClassifier()
        estimator.load_model(folder / "model.ubj")
        return estimator, about
    if (folder / "model.keras").is_file():
        from extract.base import import_keras

        network = import_keras().saving.load_model(folder / "model.keras", safe_mode=True)
        return MODELS[about["model"]].build(about["seed"]).restore(network, about["network"]), about
    import skops.io

    unknown = [name for name in skops.io.get_untrusted_types(file=folder / "model.skops") if name not in TRUSTED]
    if unknown:
        raise Refused(f"{folder / 'model.skops'} holds types that no model here is made of: {', '.join(unknown)}")
    estimator = skops.io.load(folder / "model.skops", trusted=TRUSTED)
    if (folder / "support.h5").is_file():
        with h5py.File(folder / "support.h5", "r") as file:
            rows = file["rows"]
            estimator.support_rows_ = np.memmap(folder / "support.h5", "<f4", "r", rows.id.get_offset(), rows.shape)
    return estimator, about
