"""A saved model with its base → one file for other runtimes, from pixels to probabilities."""

import dataclasses
import json
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from classify.answers import SavedModel
from classify.models import MODELS
from classify.saved import load_answers
from extract.compute.rebuild import only_pixels, recipe_again
from extract.recipe import Recipe
from features import Failed, Refused, __version__
from features.runtime.lock import check_writable
from features.runtime.log import log


def export(model: str, to: str, out: str | None = None, weights: str | None = None) -> Path:
    """Write a saved model and the base below it as one file that other runtimes load without this project.

    The file takes uint8 RGB pixels, (n, size, size, 3), and gives (n, classes) probabilities: those of predict, up to
    rounding. The label names are in its metadata. A page beside it, FILE.md, says how an image becomes pixels. Before
    the file is put there, its own runtime has loaded it and answered.

    Args:
        model: folder of a saved model, classify/runs/<stack>/<model>.
        to: format of the file: keras, onnx or openvino.
        out: file to write, which ends in .keras, .onnx or .xml; by default in the folder export-FORMAT of the model.
        weights: where the backbone's weights file is now, if it has moved, or a folder that it is in.

    Returns:
        the file; of OpenVINO the .xml, with the .bin beside it.

    Raises:
        Refused: the format cannot hold this model, the file is there already, the model has no probabilities, or its
            base cannot be had here.
        Failed: a file of the model is damaged, or the file that was made does not work.
    """
    if to not in TARGETS:
        raise Refused(f"--to {to}: there are {', '.join(TARGETS)}")
    file = _file(Path(model), to, out)
    estimator, about = load_answers(model)
    saved = SavedModel(estimator, about)
    made, recipes = _stage_one(about, Path(weights) if weights else None)
    target = TARGETS[to](recipes)
    from classify.portable.guide import guide
    from classify.portable.head import probabilities, rows_of

    parts = [rows_of(target, recipe, each) for recipe, each in zip(recipes, made, strict=True)] if made else []
    graph = probabilities(target, saved, parts)
    facts = {"label_names": json.dumps(about["label_names"], ensure_ascii=False), "model": about["title"]}
    facts |= {"stack_key": about["stack_key"], "version": __version__}
    check_writable(file.resolve().parent)  # not sooner: what is refused leaves no empty folder
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".export-") as made_in:
        target.save(graph, Path(made_in) / file.name, facts)
        _check_answers(target, Path(made_in) / file.name, len(about["label_names"]))
        (Path(made_in) / _guide(file).name).write_text(guide(to, file.name, about, recipes[0]), "utf-8")
        parts_first = sorted(Path(made_in).iterdir(), key=lambda path: path.name == file.name)
        for each in parts_first:
            each.replace(file.parent / each.name)
    size = sum(path.stat().st_size for path in _files(file))
    log.info(f"{size / 1e6:.1f} MB; {_guide(file)} says how to use it")
    return file


def _file(model: Path, to: str, out: str | None) -> Path:
    """The file to write.

    Raises:
        Refused: it has another ending, or something that would be written is there already.
    """
    suffix = SUFFIXES[to]
    file = Path(out) if out else model / f"export-{to}" / f"model{suffix}"
    if file.suffix != suffix:
        raise Refused(f"--out {file}: a file that ends in {suffix} is expected")
    if there := [path for path in (*_files(file), _guide(file)) if path.exists()]:
        raise Refused(f"{there[0]} is there already: delete it, or name a file in another folder with --out FILE")
    return file


def _files(file: Path) -> list[Path]:
    return [file, file.with_suffix(".bin")] if file.suffix == ".xml" else [file]


def _guide(file: Path) -> Path:
    """The page beside it; of its own for each file, so that several can lie in one folder."""
    return file.with_name(f"{file.name}.md")


def _check_answers(target: Any, file: Path, classes: int) -> None:
    """Raise Failed unless the format's own runtime loads a file, and its probabilities of two images are such."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, target.size, target.size, 3), "u1")
    try:
        given = target.answer(file, pixels)
    except Exception as error:  # of each runtime
        reason = " ".join(str(error).split())[-300:]  # the end says what is wrong
        raise Failed(f"{file.name} was made, but its runtime cannot use it: {reason}. Nothing is kept") from None
    if given.shape != (2, classes) or not np.allclose(given.sum(axis=1), 1, atol=1e-3) or given.min() < -1e-3:
        raise Failed(
            f"{file.name} was made, but does not answer with probabilities of {classes} classes: it gives "
            f"{given.ravel()[:4].tolist()} … of shape {given.shape}. Nothing is kept"
        )


def _stage_one(about: dict[str, Any], weights: Path | None) -> tuple[list[dict[str, Any]], list[Recipe]]:
    """What the model's rows were made by, and its recipes; of the network that takes pixels, nothing and how they are.

    Raises:
        Refused: a base cannot be had here, or one file of pixels does not suit all of them.
    """
    takes = MODELS[about["model"]].takes
    if takes == "pixels":
        from classify.networks.scratch import SIDE

        return [], [only_pixels(SIDE, about["recipes"][0]).recipe]
    made = [about["network"]["cut_"]] if takes == "cut base" else about["recipes"]
    recipes = [recipe_again(each, weights) for each in made]
    recipes = [dataclasses.replace(each, layers=()) for each in recipes]  # one layer of its pass is enough
    seen = {(each.size, each.resize, each.filter, each.decode, each.page, each.white) for each in recipes}
    if len(seen) > 1:
        told = "; ".join(f"{size} px, {resize}, {filter}" for size, resize, filter, *_ in sorted(seen, key=str))
        raise Refused(f"the model's stacks see other pixels of one image ({told}): one file cannot take both")
    return made, recipes


def _keras(recipes: Sequence[Recipe]) -> Any:
    if files := [each.backbone.name for each in recipes if each.is_onnx]:
        raise Refused(
            f"{files[0]} is an ONNX file, of which Keras makes no layers: "
            "python -m classify export … --to onnx, or --to openvino"
        )
    return import_module("classify.portable.keras_target").KerasTarget(recipes[0].size)


def _onnx(recipes: Sequence[Recipe]) -> Any:
    files = [each.network.file for each in recipes if each.is_onnx]  # type: ignore[attr-defined]
    opsets = [file.opsets.get("", 1) for file in files]
    return import_module("classify.portable.onnx_target").OnnxTarget(recipes[0].size, opsets)


def _openvino(recipes: Sequence[Recipe]) -> Any:
    return import_module("classify.portable.openvino_target").OpenvinoTarget(recipes[0].size)


TARGETS: dict[str, Callable[[Sequence[Recipe]], Any]] = {"keras": _keras, "onnx": _onnx, "openvino": _openvino}
SUFFIXES = {"keras": ".keras", "onnx": ".onnx", "openvino": ".xml"}
