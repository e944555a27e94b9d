"""Results as a table for the terminal."""

from collections.abc import Callable, Sequence
from typing import Any

from classify.comparison.wording import joined, p_value, points


def table(rows: list[dict[str, Any]]) -> str:
    """Results as a table for the terminal, within 100 columns.

    A column that nobody has a value for is left out, and so is balanced accuracy where it is everybody's accuracy.
    """
    there = [row for row in rows if "failed" not in row]
    if all(f"{row['accuracy']:.2%}" == f"{row['balanced_accuracy']:.2%}" for row in there):
        there = [row | {"balanced_accuracy": None} for row in there]
    lead = there[0].get("leads_by", "accuracy")
    columns = [column for column in columns_of(lead) if any(row.get(column[1]) is not None for row in there)]
    cells = [[head for head, _, _ in columns]] + [
        ["–" if row.get(field) is None else show(row[field]) for _, field, show in columns] for row in there
    ]
    lines = aligned(cells)
    lines += [
        f"{row['model']}{': ' if row.get('pending') else ' failed: '}{row['failed']}" for row in rows if "failed" in row
    ]
    lines.append(f"{there[0]['n_train']} train rows, {there[0]['n_test']} test rows of {there[0]['stack']}")
    if (baseline := there[0].get("baseline")) and len(there) > 1:
        what, within = ("", "") if lead == "accuracy" else ("of balanced accuracy ", " within classes")
        lines.append(f"diff: points {what}from {baseline} on the same rows; p: exact McNemar{within}, Holm-corrected")
    if earlier := [row["model"] for row in there if row.get("earlier")]:
        lines.append(f"fitted to the same rows by an earlier command: {joined(earlier)}")
    if unsaved := [row["model"] for row in there if row["model_bytes"] is None]:
        lines.append(f"not saved, so that predict cannot use it: {joined(unsaved)}")
    unsure = [row["model"] for row in there if row.get("separation") is not None and not row["separates"]]
    if unsure:
        lines.append(f"the confidence of {joined(unsure)} does not separate right answers from wrong ones")
    if any(row.get("views_difference") is not None for row in there):
        lines.append(f"views: points gained by training on {there[0]['views']} views of each image, same test rows")
    return "\n".join(lines)


def aligned(cells: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a table, the head first: the first `left` columns are ranged left, the others right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            f"{cell:>{w}}" if i >= left else f"{cell:<{w}}"
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]


def short(value: float) -> str:
    """A number in two digits or so."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def columns_of(lead: str) -> list[tuple[str, str, Callable[[Any], str]]]:
    """Head, name in `compare.json`, and form of each column; what leads, and its interval, come first."""
    accuracy, balanced = ("accuracy", "accuracy", "{:.2%}".format), ("bal.acc", "balanced_accuracy", "{:.2%}".format)
    interval = ("95 %", f"{lead}_interval", lambda ends: f"{100 * ends[0]:.1f}–{100 * ends[1]:.1f}")
    f1 = ("F1", "macro_f1", "{:.3f}".format)
    return [
        ("model", "model", str),
        *([accuracy, interval, balanced, f1] if lead == "accuracy" else [balanced, interval, f1, accuracy]),
        ("logloss", "log_loss", "{:.3f}".format),
        ("ECE", "calibration_error", "{:.1%}".format),
        ("diff", "difference", points),
        ("p", "mcnemar_holm_p", p_value),
        ("views", "views_difference", points),
        ("fit s", "fit_seconds", short),
        ("pred s", "predict_seconds", short),
        ("MB", "model_bytes", lambda size: short(size / 1e6)),
    ]
