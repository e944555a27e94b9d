"""Models on disk, one folder each, described by `model.json`. No pickle: loading one never runs code."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from classify import skops_file
from classify.coverage import COVERAGE_FILE, Coverage
from classify.familiarity import FAMILIAR_FILE, Familiarity
from classify.fusion import parts
from classify.history import KEPT, keep_earlier
from classify.models import MODELS, import_xgboost
from classify.skops_file import command_of
from features import Failed, Refused, Stack
from features.layout import HDF5_OWN, check_space
from features.runtime.disk import write_json
from features.runtime.errors import listed
from features.runtime.names import on_disk
from features.schema import made_by, recipe_attrs
from features.source import file_sha256

VERSION = 1  # of `model.json`
# Parts of Keras that run code which a model file brings along. Its safe mode refuses some of them.
RUNS_CODE = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "function", "__lambda__")


def save_model(
    estimator: Any,
    folder: Path,
    about: dict[str, Any],
    like: Familiarity | None = None,
    coverage: Coverage | None = None,
) -> None:
    """Write a fitted estimator and what it was trained on. `model.json`, with each file's SHA-256, comes last.

    Args:
        estimator: fitted.
        folder: where; made if need be. What another model left there goes, its scores too.
        about: JSON, `model`, `pool`, `stack_key`, `recipes`, `label_names`, … of it.
        like, coverage: are saved beside it, if there are any.

    Raises:
        Failed: the disk has no room for a kernel machine's rows; the model that was there stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind = FORMATS[MODELS[about["model"]].saved_as]
    if more := kind.more_bytes(estimator):
        _check_room(folder, more)
    keep_earlier(folder)
    for name in ("model.json", *KEPT, *MODEL_FILES):  # of another model perhaps, whose scores are not this one's
        (folder / name).unlink(missing_ok=True)
    about = {"format_version": VERSION, **about, **kind.save(estimator, folder)}
    for beside in (like, coverage):
        if beside:
            beside.save(folder)
    files = {name: _sha256(folder / name) for name in MODEL_FILES if (folder / name).is_file()}
    write_json(folder / "model.json", {**about, "files": files})


def load_model(folder: str | Path, stack: Stack | None = None) -> tuple[Any, dict[str, Any]]:
    """A saved estimator and its `model.json`.

    Args:
        folder: where it was saved.
        stack: rows that it is to predict; those of another base, layer, weights, … are refused.

    Raises:
        Refused: there is no model, it is of a newer format or made of what no model here is, or the stack is another's.
        Failed: a file of it is damaged, missing, or not the one that was saved.
    """
    return _loaded(folder, stack, lambda kind, *of: kind.load(*of))


def load_answers(folder: str | Path) -> tuple[Any, dict[str, Any]]:
    """A saved model as `SavedModel` takes it, and its `model.json`: the classical ones without scikit-learn.

    Raises:
        Refused, Failed: see `load_model`.
    """
    return _loaded(folder, None, lambda kind, *of: kind.answers(*of) or kind.load(*of))


def _loaded(folder: str | Path, stack: Stack | None, load: Callable[..., Any]) -> tuple[Any, dict[str, Any]]:
    folder = Path(on_disk(str(folder)))
    if not (folder / "model.json").is_file():
        raise Refused(f"no model in {folder} (no model.json). Make one with: make classify MODEL=svm")
    try:
        about = json.loads((folder / "model.json").read_text("utf-8"))
        _check_files(folder, about)
        if stack is not None:
            _check_recipes(folder, about, stack)
        return load(FORMATS[MODELS[about["model"]].saved_as], folder, about), about
    except Failed:
        raise
    except Exception as error:  # of each library its own, where its file is damaged
        reason = " ".join(str(error).split())[:200]
        raise Failed(f"the model in {folder} is damaged ({reason}). Fit it again: {command_of(folder)}") from None


def _check_files(folder: Path, about: dict[str, Any]) -> None:
    if (version := about.get("format_version", 1)) > VERSION:
        raise Refused(f"the model in {folder} has format version {version}, newer than the {VERSION} that is read here")
    if "files" not in about:
        raise Refused(f"the model in {folder} was saved by an older version. Fit it again: {command_of(folder)}")
    for name, saved in about["files"].items():
        if (now := _sha256(folder / name)) != saved:
            what = f"has SHA-256 {now[:12]}…, and {saved[:12]}… was saved" if now else "is missing"
            raise Failed(f"{folder / name} {what}. Copy the folder again, or fit the model again: {command_of(folder)}")


def _check_room(folder: Path, size: int) -> None:
    """Check the space first: HDF5 can crash the process when the disk fills while it closes a file."""
    try:
        check_space(folder, size + HDF5_OWN)
    except OSError as error:
        way = "Free some space or choose another --out."
        raise Failed(f"cannot save the model in {folder}: {error.strerror}. {way}") from None


def _sha256(file: Path) -> str:
    return (file_sha256(file) or b"").hex()


def _save_ubj(estimator: Any, folder: Path) -> dict[str, Any]:
    """XGBoost's own format."""
    estimator.save_model(folder / "model.ubj")
    return {}


def _load_ubj(folder: Path, about: dict[str, Any]) -> Any:
    estimator = import_xgboost().XGBClassifier()
    estimator.load_model(folder / "model.ubj")
    return estimator


def _save_keras(estimator: Any, folder: Path) -> dict[str, Any]:
    """Keras's own format; what else was fitted goes to `model.json`."""
    estimator.model_.save(folder / "model.keras")
    return {"network": estimator.facts()}


def _load_keras(folder: Path, about: dict[str, Any]) -> Any:
    from extract.network.importing import import_keras

    strange = _strange_parts(folder / "model.keras")
    if strange:
        raise Refused(f"{folder / 'model.keras'} holds what no network here is made of: {listed(strange)}")
    network = import_keras().saving.load_model(folder / "model.keras", safe_mode=True)
    return MODELS[about["model"]].build(about["seed"]).restore(network, about["network"])


class Format(NamedTuple):
    """How a kind of estimator is saved on disk, never as a pickle.

    Attributes:
        files: names of the files that it may write.
        save: (estimator, folder) → what `model.json` has to say of it.
        load: (folder, `model.json`) → the estimator.
        more_bytes: what an estimator needs on the disk beyond a few megabytes.
        answers: (folder, `model.json`) → what `SavedModel` takes, where that can be had sooner than the estimator; None
            where it cannot.
    """

    files: tuple[str, ...]
    save: Callable[[Any, Path], dict[str, Any]]
    load: Callable[[Path, dict[str, Any]], Any]
    more_bytes: Callable[[Any], int] = lambda estimator: 0
    answers: Callable[[Path, dict[str, Any]], Any] = lambda folder, about: None


FORMATS = {
    "skops": Format(skops_file.FILES, skops_file.save, skops_file.load, skops_file.more_bytes, skops_file.answers),
    "ubj": Format(("model.ubj",), _save_ubj, _load_ubj),
    "keras": Format(("model.keras",), _save_keras, _load_keras),
}
MODEL_FILES = (*(name for kind in FORMATS.values() for name in kind.files), FAMILIAR_FILE, COVERAGE_FILE)


def made_by_parts(stack: Stack) -> list[dict[str, Any]]:
    """How each part of a stack was made. Rows to predict must be made alike."""
    return [made_by(part.attrs) for part in parts(stack)]


def _check_recipes(folder: Path, about: dict[str, Any], stack: Stack) -> None:
    """Refuse rows of another recipe: a model would classify them, and wrongly."""
    trained_on, given = about["recipes"], made_by_parts(stack)
    if len(trained_on) != len(given):
        raise Refused(f"the model in {folder} takes {len(trained_on)} stacks side by side, not {len(given)}")
    differs = [
        f"{name}: {there.get(name)} for the model, {value} in the stack"
        for there, here in zip(trained_on, given, strict=True)
        for name, value in recipe_attrs(here).items()
        if there.get(name) != value
    ]
    if differs:
        raise Refused(f"{stack.path} does not fit the model in {folder}:\n  " + "\n  ".join(differs))


def _strange_parts(file: Path) -> list[str]:
    """Everything in a .keras file's configuration that is not plain Keras: functions, lambdas, other classes."""
    with zipfile.ZipFile(file) as archive:
        left = [json.loads(archive.read("config.json"))]
    strange = []
    while left:
        part = left.pop()
        if isinstance(part, dict):
            name, module = part.get("class_name"), part.get("module")
            if name and (name in RUNS_CODE or str(module or "keras").split(".")[0] != "keras"):
                strange.append(f"{module}.{name}" if module else str(name))
            left.extend(part.values())
        elif isinstance(part, list):
            left.extend(part)
    return sorted(set(strange))
