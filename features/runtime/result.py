"""What the public functions return: a path that also shows what lies there, in a notebook for example."""

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SHOWN = 20  # rows in a notebook


class Result(type(Path())):  # type: ignore[misc]  # the system's own kind of path: Path itself takes none before 3.12
    """A path to what was made. `table()` gives its figures, a notebook shows them."""

    def table(self) -> list[dict[str, Any]]:
        """Rows of plain values, as `pandas.DataFrame` takes them; empty where the path has none."""
        return []

    def _repr_html_(self) -> str:
        rows, place = self.table(), html.escape(str(self))
        more = f"<p>… and {len(rows) - SHOWN} rows more</p>" if len(rows) > SHOWN else ""
        return f"{_html(rows[:SHOWN])}{more}<p><code>{place}</code></p>"

    def _json(self, name: str) -> Any:
        """A JSON file at the path or in its folder; None where it is not."""
        file = (self if self.is_dir() else self.parent) / name
        return json.loads(Path(file).read_text("utf-8")) if self.exists() and file.is_file() else None


def _html(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    lines = ["".join(f"<td>{html.escape(_shown(value))}</td>" for value in row.values()) for row in rows]
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _shown(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
