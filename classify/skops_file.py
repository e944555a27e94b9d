"""A classical model's file: what it was fitted to, by skops, and the rows that it answers by, as HDF5."""

import copy
import io
import json
import math
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from classify.classical.answering import ANSWERING, Answering
from classify.models import MODELS
from classify.rows import row_chunks, shape
from features import Refused
from features.hdf5 import NewHDF5, open_hdf5

FILES = ("model.skops", "support.h5")


def save(estimator: Any, folder: Path) -> dict[str, Any]:
    """scikit-learn's estimators and ours: what they hold to `model.skops`, the rows they need to `support.h5`."""
    import skops.io

    bare = copy.copy(estimator)
    vars(bare).pop("support_rows_", None)
    vars(bare).pop("scores_", None)  # in a file of their own, as every model's
    skops.io.dump(bare, folder / "model.skops")
    support = estimator.support_rows_
    if support is not None:
        with NewHDF5(folder / "support.h5") as file:
            rows = file.create_dataset("rows", shape(support), "<f4")
            row = 0
            for piece in row_chunks(support):
                rows[row : row + len(piece)] = piece
                row += len(piece)
    return {}


def load(folder: Path, about: dict[str, Any]) -> Any:
    """The estimator."""
    import skops.io

    file, row = folder / "model.skops", MODELS[about["model"]]
    if not zipfile.is_zipfile(file):  # a pickle perhaps, which would run code: it is not even opened
        raise Refused(f"{file} is no skops file. Fit the model again: {command_of(folder)}")
    # Beside skops's own list of scikit-learn types, the class that this model's row builds: it is only data.
    kind = type(row.build(0))
    trusted = [f"{kind.__module__}.{kind.__name__}"]
    unknown = [name for name in skops.io.get_untrusted_types(file=file) if name not in trusted]
    if any(name.startswith("classify.") for name in unknown):
        raise Refused(f"the model in {folder} was saved by an older version. Fit it again: {command_of(folder)}")
    if unknown:
        raise Refused(f"{file} holds types that no model here is made of: {', '.join(unknown)}")
    return _with_support(skops.io.load(file, trusted=trusted), folder, about)


def answers(folder: Path, about: dict[str, Any]) -> Answering | None:
    """What answers for the estimator; None where only the estimator itself can."""
    if not zipfile.is_zipfile(folder / "model.skops"):
        return None
    kind, fitted = _plain_data(folder / "model.skops")
    return ANSWERING[kind](_with_support(fitted, folder, about)) if kind in ANSWERING else None


def _with_support(fitted: Any, folder: Path, about: dict[str, Any]) -> Any:
    if "support.h5" in about["files"]:
        with open_hdf5(folder / "support.h5") as support:
            rows = support["rows"]
            fitted.support_rows_ = np.memmap(folder / "support.h5", "<f4", "r", rows.id.get_offset(), rows.shape)
    return fitted


def _plain_data(file: Path) -> tuple[str, Any]:
    """What a skops file holds as plain data, its module and class, and an object with its attributes.

    No class of the file is imported, so nothing of it runs. What is no array, number, text or object is left out.
    """
    with zipfile.ZipFile(file) as archive:
        schema = json.loads(archive.read("schema.json"))

        def value(node: dict[str, Any]) -> Any:
            kind: str = node["__loader__"]
            held: Any = node.get("content")
            if kind == "JsonNode":
                return json.loads(held)
            if kind == "NdArrayNode" and node["type"] == "numpy":
                return np.load(io.BytesIO(archive.read(node["file"])), allow_pickle=False)
            if kind == "ObjectNode" and held:
                return SimpleNamespace(**value(held))
            if kind == "DictNode":
                return {name: value(each) for name, each in held.items()}
            return None

        return f"{schema['__module__']}.{schema['__class__']}", value(schema)


def more_bytes(estimator: Any) -> int:
    return 0 if estimator.support_rows_ is None else 4 * math.prod(shape(estimator.support_rows_))


def command_of(folder: Path) -> str:
    """The command that fitted the model in a folder."""
    try:
        return str(json.loads((folder / "model.json").read_text("utf-8"))["command"])
    except (ValueError, KeyError, TypeError):
        return "make classify"
