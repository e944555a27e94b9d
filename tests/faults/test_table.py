"""`docs/reliability.md` against the tests: every fault has its row, and every test that it names is there."""

import ast
import re
from pathlib import Path

from mutants import MUTANTS

TESTS = Path(__file__).resolve().parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (TESTS.parent / "docs" / "reliability.md").read_text("utf-8").splitlines()
    if re.match(r"\| \d", line)
]


def test_every_fault_has_a_row() -> None:
    assert [int(row[0]) for row in ROWS] == list(range(1, len(ROWS) + 1))
    assert all(len(row) == 4 and all(row) for row in ROWS)


def test_every_test_that_is_named_exists() -> None:
    for number, *_, tests in ROWS:
        named = re.findall(r"`([^`]+)::([^`]+)`", tests)
        assert named, number
        for file, name in named:
            parsed = ast.parse((TESTS / file).read_text("utf-8"))
            functions = {node.name for node in parsed.body if isinstance(node, ast.FunctionDef)}
            assert name in functions, f"{number}: {file}::{name}"


def test_every_fault_has_a_guard_that_can_be_taken_out() -> None:
    """`make mutants` takes long; that its table still fits the code is asked each time."""
    assert {mutant.fault for mutant in MUTANTS} == {int(row[0]) for row in ROWS}
    for mutant in MUTANTS:
        assert (TESTS.parent / mutant.file).read_text("utf-8").count(mutant.guard) == 1, mutant.guard
