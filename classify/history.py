"""Earlier runs of a model, kept by date and stack, and what changed since the last one."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from classify.comparison.intervals import difference_interval
from classify.comparison.predictions import read_predictions
from classify.comparison.wording import percent, points
from features import Failed, Stack
from features.schema import SPLITS

EARLIER = "earlier"  # folder inside a model's folder
ROWS_FILE = "rows.npz"  # of which images a run was: enough to say what changed, and small
DATE = "%Y-%m-%dT%H:%M:%S"  # of the machine's own time
SHOWN = {"model", "n_train", "n_test", "accuracy", "stack_key"}  # of an earlier run, on the page
KEPT = ("result.json", "predictions.csv", ROWS_FILE)


def keep_earlier(folder: Path) -> None:
    """Copy what a model's last run said to `earlier/<date>-<stack key>`; the model itself is replaced."""
    if not (result := read_result(folder / "result.json")):
        return
    date = result.get("date") or time.strftime(DATE, time.localtime((folder / "result.json").stat().st_mtime))
    place = folder / EARLIER / f"{date.replace(':', '')}-{result.get('stack_key', '')[:8]}"
    place.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        if (folder / name).is_file():
            shutil.copy2(folder / name, place / name)


def read_result(path: Path) -> dict[str, Any]:
    """A `result.json`; empty if it is not there, or damaged."""
    try:
        result = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return result if isinstance(result, dict) else {}


def write_rows(stack: Stack, folder: Path) -> None:
    """Record which images a run was of: (n,) uint64 of their SHA-256, int32 label, uint8 split."""
    images = stack.take(stack.view == 0)
    start = np.ascontiguousarray(images.field("sha256")[:, :8]).view("<u8")[:, 0]
    split = images.split.view(np.uint8)  # HDF5's type has metadata, which NumPy's files cannot hold
    np.savez(folder / ROWS_FILE, image=start, label=images.y, split=split)


def settle(folder: Path) -> dict[str, Any] | None:
    """Compare a run with the one before it, and forget that one if it was the very same.

    Args:
        folder: the model's, with the files of `KEPT`.

    Returns:
        `date` of the run before, `came`, `went`, `relabelled`, `moved` (images that changed sides), `settings` (name →
        then and now), `accuracy` (then, now), and on the `common` test images `difference` and `difference_interval`.
        None if there was none.
    """
    earlier = sorted((folder / EARLIER).glob("*/result.json"), key=lambda path: path.stat().st_mtime_ns)
    if not earlier:
        return None
    before = earlier[-1].parent
    try:
        then, now = (read_result(each / "result.json") for each in (before, folder))
        since = {
            "date": then.get("date", before.name[:10]),
            **_images(before, folder, then["label_names"], now["label_names"]),
            "settings": _settings(then, now),
            "accuracy": (then["accuracy"], now["accuracy"]),
            **_on_common_images(before, folder, then["label_names"], now["label_names"]),
        }
    except (KeyError, ValueError, OSError, Failed):  # written by an older version, or by hand
        return None
    same = (before / "predictions.csv").read_bytes() == (folder / "predictions.csv").read_bytes()
    if same and then["stack_key"] == now["stack_key"] and not since["settings"]:
        shutil.rmtree(before)
        earlier_since: dict[str, Any] | None = then.get("since")
        return earlier_since
    return since


def earlier_runs(folder: Path) -> list[dict[str, Any]]:
    """Results of earlier runs of all models below a folder, the newest first."""
    found = [read_result(path) for path in folder.glob(f"*/{EARLIER}/*/result.json")]
    return sorted((run for run in found if run.keys() >= SHOWN), key=lambda run: run.get("date", ""), reverse=True)


def said(since: Mapping[str, Any]) -> str:
    """What changed since the last run, in one line."""
    counts = [
        (since.get("came"), "came"),
        (since.get("went"), "went"),
        (since.get("relabelled"), "got another label"),
        (since.get("moved"), "changed between train and test"),
    ]
    what = [f"{count:,} image{'s' if count > 1 else ''} {how}" for count, how in counts if count]
    what += [f"{name} was {then} and is {now}" for name, (then, now) in since["settings"].items()]
    then, now = since["accuracy"]
    what.append(f"accuracy was {percent(then)} and is {percent(now)}")
    line = f"Since {since['date'].replace('T', ' ')[:16]}: {'; '.join(what)}"
    if since.get("difference_interval"):
        low, high = since["difference_interval"]
        interval = f"{points(since['difference'])} points ({points(low)} to {points(high)})"
        line += f"; on the {since['common']:,} test images of both runs {interval}"
    return line + "."


def _images(before: Path, folder: Path, then: list[str], now: list[str]) -> dict[str, int]:
    if not (before / ROWS_FILE).is_file():
        return {}
    with np.load(before / ROWS_FILE) as a, np.load(folder / ROWS_FILE) as b:
        old, new = ({name: file[name] for name in ("image", "label", "split")} for file in (a, b))
    _, i, j = np.intersect1d(old["image"], new["image"], return_indices=True)  # copies count once
    named = [np.array([*names, ""])[held["label"]] for names, held in ((then, old), (now, new))]
    side = [held["split"] == SPLITS["test"] for held in (old, new)]
    return {
        "came": len(np.setdiff1d(new["image"], old["image"])),
        "went": len(np.setdiff1d(old["image"], new["image"])),
        "relabelled": int((named[0][i] != named[1][j]).sum()),
        "moved": int((side[0][i] != side[1][j]).sum()),
    }


def _settings(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that differ; what fitting found, whose names end in _, is no setting."""
    old, new = (
        {**run["params"], "rows": run["pool"], "views": run["views"], "seed": run["seed"]} for run in (then, now)
    )
    names = [name for name in {**old, **new} if not name.endswith("_")]
    return {name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)}


def _on_common_images(before: Path, folder: Path, then: list[str], now: list[str]) -> dict[str, Any]:
    """The paired difference on test images that both runs have, by path and label."""
    runs = []
    for place, names in ((before, then), (folder, now)):
        given = read_predictions(place / "predictions.csv", names)
        labels = [names[label] for label in given.y]
        runs.append(dict(zip(zip(given.paths, labels, strict=True), given.right.tolist(), strict=True)))
    common = [key for key in runs[0] if key in runs[1]]
    if not common:
        return {"common": 0}
    old, new = (np.array([run[key] for key in common]) for run in runs)
    return {
        "common": len(common),
        "difference": float(new.mean() - old.mean()),
        "difference_interval": difference_interval(new, old),
    }
