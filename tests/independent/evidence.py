"""The table of `docs/evidence.md`: what the long tests of this folder compared with what, and what came out."""

from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "evidence.md"


def record(claim: str, reference: str, found: str) -> None:
    """Put a line into the table, in the place of the one that made the same claim before; `make soak` calls this."""
    line = f"| {claim} | {reference} | {found} |"
    print(line)
    lines = PAGE.read_text("utf-8").splitlines()
    same = [i for i, each in enumerate(lines) if each.startswith(f"| {claim} |")]
    if same:
        lines[same[0]] = line
    else:
        lines.insert(max(i for i, each in enumerate(lines) if each.startswith("|")) + 1, line)
    PAGE.write_text("\n".join(lines) + "\n", "utf-8")
