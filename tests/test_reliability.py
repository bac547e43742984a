"""What docs/reliability.md says of tests is true: they are there, and every fault test stands for a promise."""

import ast
from pathlib import Path

from pacifica.tests.system.results import names_in, written

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "reliability.md"


def rows(document: str) -> list[list[str]]:
    """Return the cells of every row of the tables, without their heads."""
    lines = [line for line in document.splitlines() if line.startswith("|")]
    return [line.strip("| ").split(" | ") for line in lines if not line.startswith(("| fault", "|---"))]


def defined(path: Path) -> set[str]:
    """Return the names of the tests in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_row_has_a_promise_and_names_tests_or_says_that_nothing_proves_it() -> None:
    found = rows(DOCUMENT.read_text(encoding="utf-8"))
    assert len(found) >= 40
    for cells in found:
        assert len(cells) == 4, cells
        assert all(cells), cells
        assert cells[2] in ("every run", "faults", "-"), cells
        assert names_in(cells[3]) or cells[3].startswith("not proven: "), cells


def test_every_test_that_is_named_exists() -> None:
    names = names_in(DOCUMENT.read_text(encoding="utf-8"))
    for file, name in (name.split("::") for name in names):
        assert name in defined(ROOT / file), f"{file}::{name}"


def test_every_fault_test_stands_for_a_promise() -> None:
    named = set(names_in(DOCUMENT.read_text(encoding="utf-8")))
    for path in sorted((ROOT / "tests" / "faults").glob("test_*.py")):
        assert {f"tests/faults/{path.name}::{name}" for name in defined(path)} <= named


def test_results_are_written_behind_the_names_of_the_tests_that_ran() -> None:
    before = "| `tests/a.py::test_x` (passed 2020-01-01)<br>`tests/a.py::test_y` | `tests/b.py::test_z` (failed 1) |"
    after = written(before, {"tests/a.py::test_x": "failed", "tests/a.py::test_y": "passed"}, "2026-01-02")
    assert after == (
        "| `tests/a.py::test_x` (failed 2026-01-02)<br>`tests/a.py::test_y` (passed 2026-01-02) "
        "| `tests/b.py::test_z` (failed 1) |"
    )
