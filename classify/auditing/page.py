"""The findings as one HTML file: photos, keys to correct them by, and a button that saves the corrections."""

import shlex
import string
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np

from classify.auditing.finding import CHECKED, KINDS, NAMES, Finding
from classify.auditing.findings import Audit
from classify.comparison.photos import thumbnail
from classify.comparison.rendering import rendered
from extract.images.corrections import LEFT_OUT
from extract.images.decode import reading
from features.runtime.machine import cores
from features.source import Source

SIDE, SMALL = 224, 72  # pixels of a photo, and of one that it looked like
LIKE = 3  # of these
KEYS = 9  # classes that have a key


def write_page(path: Path, audit: Audit, source: Source | None, most: int) -> Path:
    """Write the page.

    Args:
        path: the file to write.
        audit: what was found.
        source: where the photos are; None where they are not there.
        most: findings of each kind that are shown, the worst.

    Returns:
        path.
    """
    shown = {kind: list(islice(found, most)) for kind, found in groupby(audit.findings(), lambda each: each.kind)}
    rows = {each.row for found in shown.values() for each in found}
    like = {each.row: audit.near.rows[each.row, :LIKE].tolist() for each in shown.get("label", [])}
    photos = _thumbnails(audit, source, sorted(rows), SIDE)
    small = _thumbnails(audit, source, sorted({other for others in like.values() for other in others}), SMALL)
    card = _cards(audit, photos, small, like)
    stack, summary = audit.images, audit.summary()
    context = {
        "dataset": stack.attrs.get("dataset", stack.path.stem),
        "backbone": stack.attrs["backbone"],
        "summary": summary,
        "kinds": KINDS,
        "sections": [(kind, list(map(card, shown[kind])), summary[kind]) for kind in KINDS if kind in shown],
        "groups": _groups(audit, [card(each) for each in shown.get("copy", [])]),
        "names": stack.label_names,
        "unread": [] if audit.pixels is None else _unread(audit),
        "has_photos": source is not None,
        "command": _command(stack.attrs["command"]),
        "state": {
            "key": stack.key,
            "names": stack.label_names,
            "earlier": [list(each) for each in stack.corrections],
            "out": LEFT_OUT,
            "checked": CHECKED,
        },
        "script": (Path(__file__).parent / "audit.js").read_text("utf-8"),
    }
    path.write_text(rendered("audit.html.jinja", context), encoding="utf-8")
    return path


def _thumbnails(audit: Audit, source: Source | None, rows: Sequence[int], side: int) -> dict[int, str | None]:
    """Image → its data URI; None where it cannot be read or is another by now."""
    if source is None:
        return {}
    paths, sha256, how = audit.images.paths, audit.images.field("sha256"), reading(audit.images.attrs)
    with ThreadPoolExecutor(cores()) as threads:
        made = threads.map(lambda row: thumbnail(source, paths[row], sha256[row], how, side), rows)
        return dict(zip(rows, made, strict=True))


def _cards(audit: Audit, photos: Any, small: Any, like: dict[int, list[int]]) -> Any:
    """Finding → what its card shows."""
    images, names = audit.images, audit.images.label_names
    place = {row: i for i, row in enumerate(audit.judged.rows.tolist())}
    are_digits = all(name in string.digits for name in names)

    @cache
    def choices(row: int) -> list[tuple[str, str, float]]:
        """Keys of the likeliest classes, these, and their probabilities; of an image that was not judged, its own.

        Classes that are digits have those for keys: nobody types 1 and means 7. The key 0 has another meaning.
        """
        if row not in place:
            return [("1", names[images.y[row]], 1.0)]
        proba = audit.judged.proba[place[row]]
        best = np.argsort(-proba, kind="stable")[: len(names) if are_digits else KEYS].tolist()
        keys = [names[i].replace("0", "") for i in best] if are_digits else [str(key) for key in range(1, KEYS + 1)]
        return [(key, names[i], float(proba[i])) for key, i in zip(keys, best, strict=False)]

    def card(found: Finding) -> dict[str, Any]:
        return {
            **found._asdict(),
            "path": images.paths[found.row],
            "label": names[images.y[found.row]],
            "split": NAMES[int(images.split[found.row])],
            "photo": photos.get(found.row),
            "choices": choices(found.row),
            "like": [
                {"photo": small.get(other), "label": names[images.y[other]], "path": images.paths[other]}
                for other in like.get(found.row, [])
                if other >= 0
            ],
        }

    return card


def _groups(audit: Audit, cards: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cards of near copies, a group each."""

    def each() -> Iterator[dict[str, Any]]:
        for group, members in groupby(cards, lambda card: card["group"]):
            some = list(members)
            labels = {card["label"] for card in some}
            across = audit.across(audit.copies[group])
            yield {"cards": some, "across": across, "labels": len(labels), "cosine": max(c["score"] for c in some)}

    return list(each())


def _unread(audit: Audit) -> list[tuple[str, str]]:
    assert audit.pixels is not None
    return [(audit.images.paths[i], why) for i, why in sorted(audit.pixels.unread.items())]


def _command(command: str) -> str:
    """The command that made the stack, with corrections.csv in place of another file that it had."""
    words = shlex.split(command)
    if "--corrections" in words:
        at = words.index("--corrections")
        del words[at : at + 2]
    return shlex.join([*words, "--corrections", "corrections.csv"])
