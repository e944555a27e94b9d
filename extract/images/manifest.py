"""A CSV file that lists images and their labels."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from extract.images.folders import IMAGE_SUFFIXES, SPLIT_FOLDERS, Image, Layout
from features import Refused
from features.runtime.errors import listed
from features.schema import SPLITS

# What a column is for → the names that it is known by, the first before the next.
KNOWN = {
    "path": ("path", "filename", "file_name", "file", "filepath", "image", "image_path", "image_id", "img"),
    "label": ("label", "class", "category", "target", "class_name"),
    "split": ("split",),
    "group": ("group",),
}
DELIMITERS = (",", ";", "\t", "|")
TRIED = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".bmp")  # suffixes of images that are listed without one


def read_manifest(path: Path, columns: str | None = None, group: str | None = None) -> Layout:
    """The images that a manifest lists. Paths are relative to its folder; an empty label means unlabelled.

    Args:
        path: the file, CSV in UTF-8 with a line of column names; the delimiter is `,`, `;`, tab or `|`.
        columns: `path=filename,label=class,…`, where the columns have other names than those in `KNOWN`.
        group: the column whose equal values are never divided between train and test, likewise.

    Raises:
        Refused: it is no such file, a column is missing, or a line is wrong.
    """
    text = _text(path)
    header = text.splitlines()[0] if text.strip() else ""
    delimiter = max(DELIMITERS, key=lambda mark: (_known(header, mark), header.count(mark)))
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    given = _given(columns) | ({"group": group} if group else {})
    names, notes = _columns(path, list(rows.fieldnames or []), given)
    images: list[Image] = []
    missing: list[str] = []
    seen: dict[str, int] = {}
    try:
        for row in rows:
            where = f"{path} line {rows.line_num}"
            if None in row or None in row.values():
                fields = ", ".join(rows.fieldnames or [])
                raise Refused(f"{where}: expected {len(row) - (None in row)} fields ({fields}), as in the first line")
            value = {kind: row[name].strip() for kind, name in names.items()}
            split = (value.get("split") or "train").lower()
            if split not in SPLIT_FOLDERS:
                raise Refused(f"{where}: split {split!r} is none of {', '.join(SPLITS)}")
            name = _file(path.parent, PurePosixPath(value["path"].replace("\\", "/")).as_posix())
            if name in seen:
                raise Refused(f"{where}: {name} is there already, on line {seen[name]}")
            seen[name] = rows.line_num
            if not (path.parent / name).is_file():
                missing.append(f"line {rows.line_num}: {name}")
            images.append(Image(SPLITS[SPLIT_FOLDERS[split]], name, value["label"], value.get("group", "")))
    except csv.Error as error:
        raise Refused(f"{path} is no CSV file: {error}") from None
    if missing:
        raise Refused(f"{path} names {len(missing)} files that are not there: {listed(missing)}")
    return Layout(images, "split" in names, notes)


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        kind = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "another encoding, Latin-1 perhaps"
        raise Refused(f"{path} is no CSV manifest in UTF-8 ({error}). It is in {kind}: save it as UTF-8.") from None


def _known(header: str, delimiter: str) -> int:
    """How many columns of a header have a known name, if this divides it."""
    names = {name.strip().strip('"').lower() for name in header.split(delimiter)}
    return sum(bool(names.intersection(known)) for known in KNOWN.values())


def _given(columns: str | None) -> dict[str, str]:
    """`path=filename,label=class` → what a column is for → its name."""
    pairs = [pair.partition("=") for pair in columns.split(",")] if columns else []
    if wrong := [kind + equals + name for kind, equals, name in pairs if kind not in KNOWN or not name]:
        raise Refused(
            f"--columns {wrong[0]}: expected path=NAME,label=NAME, and split=NAME or group=NAME if there is one"
        )
    return {kind: name for kind, _, name in pairs}


def _columns(path: Path, there: list[str], given: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """What a column is for → its name in the file, and what to tell about that."""
    if strange := [name for name in given.values() if name not in there]:
        raise Refused(f"{path} has no column {strange[0]!r}; it has {', '.join(there) or 'none'}")
    plain = {name.strip().lower(): name for name in reversed(there)}
    free = {kind: [plain[name] for name in known if name in plain] for kind, known in KNOWN.items()}
    names = {kind: given.get(kind) or free[kind][0] for kind in KNOWN if kind in given or free[kind]}
    if missing := [kind for kind in ("path", "label") if kind not in names]:
        raise Refused(
            f"{path} has the columns {', '.join(there) or '(none)'}; expected path,label or path,label,split. "
            f"Say which is which: --columns {','.join(f'{kind}=NAME' for kind in missing)}"
        )
    guessed = [
        f"{name} as {kind}" for kind, name in names.items() if kind not in given and name.strip().lower() != kind
    ]
    notes = [f"{path.name}: took the column {' and '.join(guessed)}"] if guessed else []
    if "familiar" in there:  # the table that `predict` writes; its other columns are known
        return names, notes
    if unused := [name for name in there if name not in names.values() and name]:
        notes.append(
            f"{path.name}: did not use the columns {listed(unused)}. If images with the same value belong together, "
            f"such as those of one patient, keep them on one side of the split: --group {unused[0]}"
        )
    return names, notes


def _file(folder: Path, name: str) -> str:
    """The name of a listed image, with its suffix if the list leaves it out."""
    if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES or (folder / name).is_file():
        return name
    return next((name + suffix for suffix in TRIED if (folder / (name + suffix)).is_file()), name)
