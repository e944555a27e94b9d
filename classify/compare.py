"""Several classifiers on the very same rows, in one table."""

import json
import sys
from pathlib import Path
from typing import Any

from classify.fit import RUNS, Task, model_named
from classify.models import MODELS
from features import open_stack
from features.cli import command_line
from features.reader import only_stack


def compare(stack: str | None = None, models: list[str] | None = None, seed: int = 0, out: str | None = None) -> Path:
    """Fit several classifiers to a stack's train rows, and score each once on the same test rows.

    Args:
        stack: the feature stack; by default the only one in features/stacks.
        models: the classifiers; by default all.
        seed: of everything random in the fits.
        out: folder to write; by default classify/runs/<stack>.

    Returns:
        the comparison, `compare.json`: the list of the models' results, best accuracy first. Each model's own folder
        lies beside it.

    Raises:
        Refused: a model is unknown, or the stack has too few classes or no test rows.
    """
    command = command_line(["python", "-m", "classify", "compare"], compare, dict(locals()), positional=("stack",))
    rows = {name: model_named(name) for name in models or MODELS}
    opened = open_stack(stack or only_stack())
    folder = Path(out) if out else RUNS / opened.path.stem
    task = Task(opened)
    results: list[dict[str, Any]] = []
    for name, row in rows.items():
        print(f"fitting {row.title} to {len(task.train)} rows …", file=sys.stderr)
        made = task.run(row, row.pool, seed, folder / name, {"model": name, "command": command})
        results.append(json.loads((made / "result.json").read_text()))
    results.sort(key=lambda result: -result["accuracy"])
    report = folder / "compare.json"
    report.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    return report


def table(results: list[dict[str, Any]]) -> str:
    """Results as a table for the terminal."""
    columns = ("accuracy", 10), ("balanced", 10), ("macro F1", 10), ("fit s", 9), ("predict s", 11), ("MB", 9)
    head = f"{'model':<12}{'pool':<9}" + "".join(f"{name:>{width}}" for name, width in columns)
    lines = [
        f"{r['model']:<12}{r['pool']:<9}{r['accuracy']:>10.2%}{r['balanced_accuracy']:>10.2%}{r['macro_f1']:>10.3f}"
        f"{r['fit_seconds']:>9.1f}{r['predict_seconds']:>11.2f}{r['model_bytes'] / 1e6:>9.1f}"
        for r in results
    ]
    rows = f"{results[0]['n_train']} train rows, {results[0]['n_test']} test rows of {results[0]['stack']}"
    return "\n".join([head, *lines, rows])
