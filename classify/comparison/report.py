"""The comparison as one HTML file that needs nothing else: no network, no script, light and dark."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classify.comparison import figures
from classify.comparison.drawing import linear, ticks
from classify.comparison.photos import Errors
from classify.comparison.predictions import Predictions
from classify.comparison.rendering import rendered
from classify.comparison.statistics import reliability
from classify.comparison.wording import natural, verdict
from classify.fusion import parts
from classify.history import EARLIER, earlier_runs, said
from classify.rows import unit_rows
from features import Stack
from features.archive import open_source
from features.schema import recipe_attrs

REACH = 0.15  # an axis goes so far below the best: a model further off would squash all others, and becomes an arrow
MAPPED = 1500  # rows on the map: t-SNE takes seconds for so many, and more would hide each other


def write_report(
    path: Path,
    rows: Sequence[dict[str, Any]],
    failed: Sequence[dict[str, Any]],
    predictions: Mapping[str, Predictions],
    test: Stack,
    seed: int,
    train: Stack | None = None,
) -> Path:
    """Write the report of a comparison.

    Args:
        path: the file to write.
        rows: of `compare.json`, best first.
        failed: `model`, `title` and `failed`, the reason, of the models that have no row.
        predictions: model → what it said of the test rows.
        test: the test rows.
        seed: of the map, and printed.
        train: the train rows, where errors are to be explained and the map of the test rows to be drawn, which takes
            seconds.

    Returns:
        path.
    """
    names = test.label_names
    best = rows[0]
    best_said = predictions[best["model"]]
    errors, top = Errors(best, predictions, test), heat_top(rows)
    pairs, surest = errors.pairs(), errors.surest()
    photos = [*surest, *(photo for pair in pairs for photo in pair["photos"])]
    explained = None if train is None else explain(photos, rows, path.parent, train, test)
    context = {
        "rows": rows,
        "failed": failed,
        "verdict": verdict(rows),
        "runs": earlier_runs(path.parent),
        "since": [(row, said(row["since"])) for row in rows if row.get("since")],
        "names": names,
        "parts": parts(test),
        "recipe_attrs": recipe_attrs,
        **{"key": test.key, "seed": seed},
        "versions": versions(test, best),
        "gained": any(row.get("views_interval") for row in rows),
        "chance_loss": np.log(len(names)),
        "score_axis": axis(spans(rows, best["leads_by"])),
        "difference_axis": axis([(0.0, 0.0, 0.0), *spans(rows, "difference")]),
        "pairs": pairs,
        "surest": surest,
        "explained": explained,
        "photos": photos,
        "root": test.attrs.get("dataset_root", ""),
        "right": np.column_stack([p.right for p in predictions.values()]).sum(axis=1),
        "heat_top": top,
        "heat_maps": heat_maps(rows, names, top),
        "searches": [(row, searched(row)) for row in rows if row.get("search")],
        "histories": [(row, *learning(row["history"])) for row in rows if row.get("history", {}).get("loss")],
        "reliability": reliabilities(rows, predictions),
        "map": placed(test, best_said, seed) if train else None,
        **{"levels": figures.LEVELS, "named": figures.NAMED, "EARLIER": EARLIER},
    }
    path.write_text(rendered("report.html.jinja", context), encoding="utf-8")
    return path


def versions(test: Stack, best: Mapping[str, Any]) -> list[tuple[str, dict[str, str]]]:
    """Whose versions, and package → version."""
    rows = json.loads(test.attrs.get("versions", "{}"))
    return [("Versions, features", rows), ("Versions, models", best.get("versions", {}))]


def reliabilities(rows: Sequence[dict[str, Any]], predictions: Mapping[str, Predictions]) -> list[tuple[Any, Any]]:
    """Each row that has probabilities, and its reliability curve."""
    said = [(row, predictions[row["model"]]) for row in rows]
    return [(row, figures.reliability_curve(reliability(p.y, p.proba))) for row, p in said if p.proba is not None]


def explain(
    photos: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], folder: Path, train: Stack, test: Stack
) -> dict[str, Any] | None:
    """Give the photos of errors their `maps` and `like`, see `Reasons`; returns `model` and `kind`."""
    from classify.explaining.errors import Error, reasons

    if not photos:
        return None
    errors = [Error(*photo["error"]) for photo in photos]
    source = open_source(test.attrs["dataset_root"])
    found = reasons(errors, [folder / row["model"] for row in rows], train, test, source)
    for i, photo in enumerate(photos):
        photo |= {"like": found.like[i], **(found.maps[i] if found.maps else {"overlays": []})}
    return {"model": found.model, "kind": found.kind}


def spans(rows: Sequence[Mapping[str, Any]], score: str) -> list[tuple[float, float, float]]:
    """(low, value, high) of a score and its interval, of the rows that have them."""
    return [(ends[0], row[score], ends[1]) for row in rows if (ends := row.get(f"{score}_interval"))]


def heat_maps(rows: Sequence[dict[str, Any]], names: Sequence[str], top: float) -> list[tuple[dict[str, Any], Any]]:
    """Each row with its confusion matrix, whose classes are in natural order."""
    order = sorted(range(len(names)), key=lambda i: natural(names[i]))
    in_order, ordered = np.ix_(order, order), [names[i] for i in order]
    return [(row, figures.heat(np.array(row["confusion"])[in_order], ordered, top)) for row in rows]


def axis(spans: Sequence[tuple[float, float, float]]) -> dict[str, Any]:
    """An axis for values with their intervals, (low, value, high) each, the best first.

    It leaves out values more than REACH below the greatest end, but for the first. Whoever is on it is on it whole.

    Returns:
        its round `ticks`, and `at`, value → percent of the way along it.
    """
    right = max(high for _, _, high in spans)
    left = max(min(low for low, _, _ in spans), min(right - REACH, spans[0][0]))
    marks = ticks(left, right)
    while (low := min(low for low, value, _ in spans if value >= marks[0])) < marks[0]:
        marks = ticks(low, right)
    return {"ticks": marks, "at": linear(marks[0], marks[-1], 0, 100)}


def heat_top(rows: Sequence[dict[str, Any]]) -> float:
    """The largest share of a class's rows that any model takes for one other class: where all heat maps' scale ends."""
    top = 0.0
    for row in rows:
        confusion = np.array(row["confusion"])
        shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        np.fill_diagonal(shares, 0)
        top = max(top, float(shares.max()))
    return top


def learning(history: Mapping[str, Sequence[float]]) -> tuple[Any, Any, int]:
    """Curves of loss and accuracy, and the index of the least validation loss; of train loss, if none was held out."""
    best = int(np.argmin(history["val_loss"] or history["loss"]))
    loss = figures.curves(history["loss"], history["val_loss"], best, "Loss")
    return loss, figures.curves(history["accuracy"], history["val_accuracy"], best, "Accuracy"), best


def searched(row: Mapping[str, Any]) -> Any:
    """What a search found, as a curve along one setting or a heat map over two; None over more."""
    best = row["best"]
    table = [entry for entry in row["search"] if entry.get("weights") == row.get("weights")]
    names = list(best)
    if len(names) > 2:
        return None
    axes = [sorted({entry["params"][name] for entry in table}) for name in names]
    scores = np.zeros([len(axis) for axis in axes] + [len(table[0]["scores"])])
    for entry in table:
        place = tuple(axis.index(entry["params"][name]) for axis, name in zip(axes, names, strict=True))
        scores[place] = entry["scores"]
    if len(names) == 1:
        return figures.search_curve(scores, axes[0], axes[0].index(best[names[0]]), names[0])
    chosen = axes[1].index(best[names[1]]), axes[0].index(best[names[0]])
    return figures.search_heat(scores.mean(axis=2).T, axes[0], axes[1], (names[0], names[1]), chosen)


def placed(test: Stack, said: Predictions, seed: int) -> Any:
    """The map of test rows: average-pooled, unit length, 50 principal components, then t-SNE (van der Maaten, 2008).

    Returns:
        SVG, or None with fewer than ten rows or where all are one: there is nothing to see.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    n = len(test)
    if n < 10:
        return None
    chosen = np.sort(np.random.default_rng(seed).permutation(n)[:MAPPED])
    some = test.take(chosen)
    rows = np.hstack(
        [unit_rows(part.pooled("avg") if len(part.feature_shape) > 1 else np.asarray(part.X)) for part in parts(some)]
    )
    if (rows == rows[0]).all():  # scikit-learn's t-SNE would crash
        return None
    components = PCA(min(50, *rows.shape), random_state=seed).fit_transform(rows)
    # Its threads wait for each other by spinning: on a busy machine 300 rows took two of them 60 s, and one alone 3 s.
    with threadpool_limits(1):
        at = TSNE(perplexity=min(30, (len(rows) - 1) / 3), init="pca", random_state=seed).fit_transform(components)
    y, predicted = said.y[chosen], said.predicted[chosen]
    shown = [figures.readable(name) for name in test.label_names]
    told = [f"{shown[a]}, taken for {shown[b]} ({path})" for a, b, path in zip(y, predicted, some.paths, strict=True)]
    return figures.plane(at, y, test.label_names, y != predicted, told)
