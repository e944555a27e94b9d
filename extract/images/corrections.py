"""A CSV file of corrections: other labels for some images of a dataset, and images to leave out."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from extract.images.folders import Image, Layout
from extract.images.manifest import delimiter_of, text_of
from features import Refused
from features.runtime.errors import listed, nearest
from features.runtime.names import meant_paths, on_disk, same_name
from features.schema import Correction

LEFT_OUT = "-"  # as a label: the image is left out


class Corrections(NamedTuple):
    """The lines of a file of corrections.

    Attributes:
        file: where it is.
        sha256: (hex) of its bytes.
        entries: its lines.
        lines: (entries,) their numbers.
        new_classes: whether a label that no image has makes a new class.
        notes: how its paths differ from the dataset's, a line each; see `meant_for`.
    """

    file: Path
    sha256: str
    entries: tuple[Correction, ...]
    lines: tuple[int, ...]
    new_classes: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, file: str, new_classes: bool = False) -> "Corrections":
        """Read a file with the columns path, label and, if it has one, reason; see `read_manifest` for its encodings.

        Raises:
            Refused: there is no such file, a column is missing, or a line is wrong.
        """
        path = Path(on_disk(file))
        if not path.is_file():
            raise Refused(f"--corrections {file}: there is no such file")
        text = text_of(path, "table of corrections")
        table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter_of(text))
        names = {(name or "").strip().lower(): name for name in table.fieldnames or []}
        if missing := [name for name in ("path", "label") if name not in names]:
            there = ", ".join(filter(None, names)) or "none"
            raise Refused(f"{file} has no column {missing[0]}: expected path,label,reason, it has {there}")
        entries: dict[int, Correction] = {}
        try:
            for row in table:
                where = f"{file} line {table.line_num}"
                values = [(row[names[name]] or "").strip() if name in names else "" for name in Correction._fields]
                entry = entries[table.line_num] = Correction(*values)
                if not entry.path or not entry.label:
                    raise Refused(f"{where}: expected a path and a label, or {LEFT_OUT} to leave the image out")
        except csv.Error as error:
            raise Refused(f"{file} is no CSV file: {error}") from None
        if not entries:
            raise Refused(f"{file} has no lines below its first: nothing to correct")
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return cls(path, sha256, tuple(entries.values()), tuple(entries), new_classes)

    def meant_for(self, layout: Layout, root: str) -> "Corrections":
        """The same with paths and labels as the dataset writes them, one entry for each image.

        Args:
            layout: the dataset's images.
            root: the name of its folder; see `meant_paths`.

        Raises:
            Refused: a path could be any of several, or an image has two corrections.
        """
        there = {image.path: image.label for image in layout.images}
        meant = meant_paths([entry.path for entry in self.entries if entry.path not in there], there, root)
        known = sorted({label for label in there.values() if label})
        entries: dict[str, tuple[int, Correction]] = {}
        for line, entry in zip(self.lines, self.entries, strict=True):
            where = f"{self.file} line {line}: {entry.path}"
            if several := meant.several.get(entry.path):
                raise Refused(f"{where} may be {listed(several)}: write it in full")
            path = entry.path if entry.path in there else meant.paths.get(entry.path, entry.path.replace("\\", "/"))
            entry = Correction(path, same_name(entry.label, known), entry.reason)
            first, before = entries.setdefault(path, (line, entry))
            if before.label != entry.label:
                told = f"{before.label!r} on line {first}, {entry.label!r} here"
                raise Refused(f"{where} is corrected twice: {told}. Keep one of the two lines")
        lines, corrections = zip(*entries.values(), strict=True)
        return self._replace(entries=corrections, lines=lines, notes=tuple(meant.notes))

    def applied(self, layout: Layout) -> Layout:
        """A dataset's images with these labels, and without those that are left out.

        An image to leave out may be gone already.

        Raises:
            Refused: a label or most of the paths are not the dataset's.
        """
        there = {image.path: image for image in layout.images}
        gone = [entry for entry in self.entries if entry.path not in there]
        self._check_paths(gone)
        known = Counter(image.label for image in layout.images if image.label)
        label_of = {entry.path: entry.label for entry in self.entries if entry.path in there}
        new = sorted(set(label_of.values()) - set(known) - {LEFT_OUT})
        if new and not self.new_classes:
            near = nearest(new[0], list(known))
            way = "--new-classes lets corrections add classes"
            raise Refused(f"{self.file}: no image of the dataset has the label {listed(new)}.{near} {way}")
        kept = [
            image._replace(label=label_of.get(image.path, image.label))
            for image in layout.images
            if label_of.get(image.path) != LEFT_OUT
        ]
        return layout._replace(images=kept, notes=[*layout.notes, *self._notes(there, label_of, gone, new)])

    def _check_paths(self, gone: Sequence[Correction]) -> None:
        wrong = [entry.path for entry in gone if entry.label != LEFT_OUT]
        if len(gone) == len(self.entries):
            told = f"not one of its {len(gone)} paths is in the dataset ({listed([e.path for e in gone])})"
            raise Refused(f"{self.file} seems to belong to another dataset: {told}. Paths are those of the stack")
        if wrong:
            raise Refused(
                f"{self.file} corrects {len(wrong)} images that are not in the dataset: {listed(wrong)}. "
                "Remove these lines, or put the images back"
            )

    def _notes(
        self, there: dict[str, Image], label_of: dict[str, str], gone: Sequence[Correction], new: Sequence[str]
    ) -> list[str]:
        out = sum(label == LEFT_OUT for label in label_of.values())
        other = sum(label not in (LEFT_OUT, there[path].label) for path, label in label_of.items())
        notes = [f"{self.file.name}: {note}" for note in self.notes]
        notes.append(f"{self.file.name}: {other} labels corrected, {out} images left out")
        if new:
            notes.append(f"{self.file.name}: {len(new)} new classes: {listed(list(new))}")
        if gone:
            told = listed([entry.path for entry in gone])
            notes.append(f"{self.file.name}: {len(gone)} of the images to leave out are gone already: {told}")
        return notes
