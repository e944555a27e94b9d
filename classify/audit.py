"""A stack → what is odd about its images and labels, as a table and a page to correct them on."""

import csv as tables
import time
from pathlib import Path
from typing import Any

from classify.auditing.finding import KINDS, NAMES
from classify.fit import open_stacks, runs_of
from classify.result import Audited
from features import Refused
from features.archive import open_source
from features.open import newest_stack
from features.runtime.disk import write_json
from features.runtime.errors import at_least
from features.runtime.lock import check_writable
from features.runtime.log import log
from features.schema import UNLABELLED

COLUMNS = ("kind", "path", "split", "label", "suggested", "score", "sure", "group")


def audit(
    stack: str | None = None, data: str | None = None, csv: bool = False, most: int = 200, out: str | None = None
) -> Audited:
    """Find labels that look wrong, near copies, outliers and bad photos, and write a page to correct them on.

    Every labelled image is judged by logistic regressions that have not seen it or a copy of it, test images too. No
    model is kept. The page needs no server: it saves corrections.csv, which `extract --corrections` applies.

    Args:
        stack: the feature stack; by default the newest in features/stacks.
        data: where the dataset's images are now, if no longer where the stack was made from.
        csv: write the table alone, no page, and look at no photo.
        most: number of findings of each kind on the page, the worst; the table has all.
        out: folder to write; by default classify/runs/<stack>/audit.

    Returns:
        the page audit.html, or the table audit.csv; audit.json with the counts lies beside them.

    Raises:
        Refused: the stack has no labels, or fewer than two classes with two images.
    """
    from classify.auditing.findings import audit_images
    from classify.auditing.page import write_page

    at_least(1, most=most)
    opened = open_stacks(stack or str(newest_stack()), data)
    if not (opened.y != UNLABELLED).any():
        raise Refused(f"{opened.path} is unlabelled: there is no label to look at")
    folder = Path(out) if out else runs_of(opened.path.stem, None) / "audit"
    check_writable(folder)
    source = open_source(opened.attrs["dataset_root"])
    there = None if csv or not source.exists() else source
    if not (there or csv):
        log.warning(f"the images are not at {source.root}, so the page has none: --data FOLDER says where they are")
    began = time.perf_counter()
    found = audit_images(opened, there)
    folder.mkdir(parents=True, exist_ok=True)
    table = _write_table(folder / "audit.csv", found)
    about = {"stack": str(opened.path), "stack_key": opened.key}
    write_json(folder / "audit.json", about | found.summary() | {"seconds": time.perf_counter() - began})
    return Audited(table if csv else write_page(folder / "audit.html", found, there, most))


def _write_table(path: Path, found: Any) -> Path:
    """One row for each finding of an `Audit`."""
    images = found.images
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = tables.writer(file)
        table.writerow(COLUMNS)
        for each in found.findings():
            label, split = images.label_names[images.y[each.row]], NAMES[int(images.split[each.row])]
            sure, group = ("yes" if each.sure else "", each.group if each.group >= 0 else "")
            score = f"{each.score:.6g}"
            table.writerow([each.kind, images.paths[each.row], split, label, each.suggested, score, sure, group])
    return path


def told(about: dict[str, Any]) -> str:
    """The counts of `audit.json` as lines for a terminal."""
    beside = {
        "label": f"{about['sure']:,} of them look wrong",
        "copy": f"in {about['groups']:,} groups, {about['across']:,} of them in train and in test",
    }
    lines = [f"{about['images']:,} images of {about['classes']} classes"]
    for kind, name in KINDS.items():
        more = f", {beside[kind]}" if kind in beside and about[kind] else ""
        lines.append(f"{about[kind]:6,}  {name}{more}")
    pairs = [f"{' – '.join(pair['classes'])} {pair['share']:.1%}" for pair in about["overlaps"][:3]]
    if pairs:
        lines.append(f"classes that overlap most: {', '.join(pairs)}")
    return "\n".join(lines)
