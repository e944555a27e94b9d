"""The notebooks of examples/: they are kept without outputs, they run, and what they find is what was planted."""

import json
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from sklearn.decomposition import PCA
from tiny import REPO, stack

from features import open_stack

NOTEBOOKS = [path for path in sorted((REPO / "examples").glob("*.ipynb")) if not path.name.startswith("found_")]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    """Guards the repository: no photos, no figures of somebody's machine, no diffs of outputs."""
    cells = nbformat.read(path, 4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def found_by(name: str, folder: Path, wanted: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, int]:
    """Run a notebook in a folder; returns the value of an expression at its end, and how many figures it drew."""
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    book = nbformat.read(REPO / "examples" / f"{name}.ipynb", 4)
    (folder / "examples").mkdir(exist_ok=True)  # Jupyter starts in a notebook's own folder
    book.cells.append(nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({wanted}))"))
    NotebookClient(book, timeout=120, resources={"metadata": {"path": str(folder / "examples")}}).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    figures = sum("image/png" in output.get("data", {}) for output in outputs)
    return json.loads(outputs[-1]["text"]), figures


@pytest.fixture(scope="module")
def held(digits_stack: Path) -> dict[str, Any]:
    """Every other digit, 64 principal components of its row: what a small stack of real features may hold."""
    digits = open_stack(digits_stack)
    digits = digits.take(np.arange(0, len(digits), 2))
    rows = {name: digits.field(name) for name in ("labels", "split", "sha256", "size", "mtime_ns", "view")}
    X = PCA(64, svd_solver="full").fit_transform(digits.pooled("avg")).astype("<f4")
    return rows | {"features": X, "paths": digits.paths, "label_names": digits.label_names, "shape": (64,)}


@pytest.mark.slow
def test_planted_label_errors_and_duplicates_are_found(held, digits_stack, tmp_path, monkeypatch) -> None:
    """Wrongly labelled digits are among the ten suspects, their true class beside them; a photo saved anew is found."""
    held = held | {name: held[name].copy() for name in ("labels", "features")}
    paths = held["paths"]
    random = np.random.default_rng(0)
    train, test = (np.flatnonzero(held["split"] == code) for code in (0, 2))
    wrong = random.choice(train, 5, replace=False)
    held["labels"][wrong] = (held["labels"][wrong] + 1 + random.integers(0, 9, 5)) % 10
    held["features"][test[0]] = held["features"][train[0]] * 1.001  # and another SHA-256: the photo, saved once more
    (tmp_path / "features" / "stacks").mkdir(parents=True)
    stack(
        tmp_path / "features" / "stacks" / "planted.h5",
        held,
        dataset_root=open_stack(digits_stack).attrs["dataset_root"],
    )

    wanted = "[[(stack.paths[train[i]], called[claim[i]]) for i in suspects], [stack.paths[i] for i in pairs[0]]]"
    (suspects, pair), figures = found_by("label_errors", tmp_path, wanted, monkeypatch)
    claims = dict(suspects)
    assert len(claims) == 10
    found = [paths[i] for i in wrong if paths[i] in claims]
    assert len(found) >= 4  # by chance, ten of 674 rows hold one of the five in one run of fourteen
    assert all(claims[path] == path.split("/")[0] for path in found)
    assert set(pair) == {paths[train[0]], paths[test[0]]}
    assert figures == 2


@pytest.mark.slow
def test_the_few_shot_curve_rises(held, tmp_path, monkeypatch) -> None:
    """From above chance with one photo a class to what all of them give."""
    (tmp_path / "features" / "stacks").mkdir(parents=True)
    stack(tmp_path / "features" / "stacks" / "digits.h5", held)
    (shots, curve), figures = found_by("few_shot", tmp_path, "[shots, scores.mean(1).tolist()]", monkeypatch)
    train = held["split"] != 2
    assert shots == [1, 2, 5, 10, 20, 50, np.bincount(held["labels"][train]).min()]
    assert 0.2 < curve[0] < 0.7 < curve[-1]
    assert curve == sorted(curve)
    assert figures == 1
