"""A CSV file that lists images and their labels."""

import codecs
import csv
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from extract.images.folders import SPLIT_FOLDERS, Image, Layout, files_below, is_image
from features import Refused
from features.runtime.errors import listed
from features.runtime.names import meant_paths, on_disk, same_name
from features.schema import SPLITS

# What a column is for → the names that it is known by, the first before the next.
KNOWN = {
    "path": ("path", "filename", "file_name", "file", "filepath", "image", "image_path", "image_id", "img"),
    "label": ("label", "class", "category", "target", "class_name"),
    "split": ("split",),
    "group": ("group",),
}
DELIMITERS = (",", ";", "\t", "|")
PREDICTIONS = ["path", "label", "probability"]  # how `predict` begins its table; a column for each class follows
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_manifest(path: Path, columns: str | None = None, group: str | None = None) -> Layout:
    """The images that a manifest lists. Paths are relative to its folder; an empty label means unlabelled.

    Args:
        path: the file, CSV in UTF-8, or UTF-16 with a byte order mark, with a line of column names; the delimiter is
            `,`, `;`, tab or `|`.
        columns: `path=filename,label=class,…`, where the columns have other names than those in `KNOWN`; a role
            without a name (`label=`) has no column.
        group: the column whose equal values are never divided between train and test, likewise.

    Raises:
        Refused: it is no such file, a column is missing, or a line is wrong.
    """
    text = text_of(path, "manifest")
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter_of(text))
    given = _given(columns) | ({"group": group} if group else {})
    names, notes = _columns(path, list(rows.fieldnames or []), given)
    images: dict[int, Image] = {}
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
            code = SPLITS[SPLIT_FOLDERS[split]]
            images[rows.line_num] = Image(code, value["path"], value.get("label", ""), value.get("group", ""))
    except csv.Error as error:
        raise Refused(f"{path} is no CSV file: {error}") from None
    found, odd = _files(path, {line: image.path for line, image in images.items()})
    seen: dict[str, int] = {}
    for line in images:
        if (before := seen.setdefault(found[line], line)) != line:
            raise Refused(f"{path} line {line}: {found[line]} is there already, on line {before}")
    return Layout([image._replace(path=found[line]) for line, image in images.items()], "split" in names, notes + odd)


def delimiter_of(text: str) -> str:
    """What divides the columns of a table: that which gives its first line most names that are known."""
    header = text.splitlines()[0] if text.strip() else ""
    return max(DELIMITERS, key=lambda mark: (_known(header, mark), header.count(mark)))


def text_of(path: Path, what: str) -> str:
    """A table's text: UTF-8, or UTF-16 with a byte order mark.

    Args:
        path: the file.
        what: it is, for messages.

    Raises:
        Refused: it is in another encoding.
    """
    data = path.read_bytes()
    try:
        return data.decode("utf-16" if data.startswith(UTF_16) else "utf-8-sig")  # Excel's Unicode text, and others'
    except UnicodeDecodeError as error:
        raise Refused(
            f"{path} is no CSV {what} in UTF-8 ({error}). Its encoding is another, Latin-1 perhaps: save it as UTF-8."
        ) from None


def _known(header: str, delimiter: str) -> int:
    """How many columns of a header have a known name, if this divides it."""
    names = {name.strip().strip('"').lower() for name in header.split(delimiter)}
    return sum(bool(names.intersection(known)) for known in KNOWN.values())


def _given(columns: str | None) -> dict[str, str]:
    """`path=filename,label=class` → what a column is for → its name."""
    pairs = [pair.partition("=") for pair in columns.split(",")] if columns else []
    if wrong := [kind + equals + name for kind, equals, name in pairs if kind not in KNOWN or not equals]:
        raise Refused(
            f"--columns {wrong[0]}: expected path=NAME,label=NAME, and split=NAME or group=NAME if there is one; "
            "label= for none"
        )
    return {kind: name for kind, _, name in pairs}


def _columns(path: Path, there: list[str], given: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """What a column is for → its name in the file, and what to tell about that."""
    if there[:3] == PREDICTIONS and "error" in there and not given:  # the others are classes, whatever they are called
        return {"path": "path", "label": "label"}, [f"{path.name}: the labels are predictions of a model"]
    given = {kind: same_name(name, there) for kind, name in given.items()}
    if strange := [name for name in given.values() if name and name not in there]:
        raise Refused(f"{path} has no column {strange[0]!r}; it has {', '.join(there) or 'none'}")
    plain = {name.strip().lower(): name for name in reversed(there)}
    free = {kind: [plain[name] for name in known if name in plain] for kind, known in KNOWN.items()}
    names = {kind: given[kind] if kind in given else free[kind][0] for kind in KNOWN if kind in given or free[kind]}
    names = {kind: name for kind, name in names.items() if name}
    others = [name for name in there if name and name not in names.values()]  # one of them may be the label
    needed = ["path", "label"] if others and "label" not in given else ["path"]
    if missing := [kind for kind in needed if kind not in names]:
        raise Refused(
            f"{path} has the columns {', '.join(there) or '(none)'}; expected path,label or path,label,split. "
            f"Say which is which: --columns {','.join(f'{kind}=NAME' for kind in missing)}"
        )
    guessed = [
        f"{name} as {kind}" for kind, name in names.items() if kind not in given and name.strip().lower() != kind
    ]
    notes = [f"{path.name}: took the column {' and '.join(guessed)}"] if guessed else []
    if others:
        group = (
            ". If images with the same value belong together, such as those of one patient, keep them on one side of "
            f"the split: --group {others[0]}"
        )
        notes.append(f"{path.name}: did not use the columns {listed(others)}" + group * ("group" not in names))
    return names, notes


def _files(manifest: Path, given: Mapping[int, str]) -> tuple[dict[int, str], list[str]]:
    """Line → the POSIX path of the file that it names, relative to the manifest's folder if it lies there; and what to
    tell about names that are written otherwise, see `meant_paths`.

    A name may also be relative to the working directory, as in the tables that `predict` writes.

    Args:
        manifest: the file.
        given: line → name.

    Raises:
        Refused: there is no such file, or it could be any of several.
    """
    root, here = manifest.parent, Path.cwd()
    found: dict[int, str] = {}
    for line, name in given.items():
        ways = [root / name, root / name.replace("\\", "/")]
        ways += [here / name] if (here / name).is_relative_to(root) else []
        if file := next(filter(Path.is_file, ways), None):
            found[line] = _below(root, file)
    lost = {line: name for line, name in given.items() if line not in found}
    if not lost:
        return found, []
    there = list(files_below(root, Counter()))
    for parent in {PurePosixPath(name.replace("\\", "/")).parent for name in lost.values()}:
        place = Path(on_disk(str(root / parent)))
        if (".." in parent.parts or not place.is_relative_to(root)) and place.is_dir():
            there += [_below(root, file) for file in place.iterdir()]
    meant = meant_paths(lost.values(), filter(is_image, there), root.name)
    for line, name in lost.items():
        if name in meant.several:
            raise Refused(f"{manifest} line {line}: {name} may be {listed(meant.several[name])}: write it in full")
    if missing := [f"line {line}: {name}" for line, name in lost.items() if name not in meant.paths]:
        raise Refused(f"{manifest} names {len(missing)} files that are not there: {listed(missing)}")
    notes = [f"{manifest.name}: {note}" for note in meant.notes]
    return found | {line: meant.paths[name] for line, name in lost.items()}, notes


def _below(root: Path, file: Path) -> str:
    return (file.relative_to(root) if file.is_relative_to(root) else file).as_posix()
