"""Tests that share a suite run in one process, and what takes longest begins."""

import os
import subprocess
import sys
from pathlib import Path

from pacifica.tests.system.turns import LONGEST, scope_of, turn_of

ROOT = Path(__file__).parents[1]
_NOTING = """
import os
from pathlib import Path

import pytest

@pytest.mark.parametrize("kind", ["embedded", "scaled"])
@pytest.mark.parametrize("number", range(3))
def test_it(kind, number):
    with Path("ran").open("a") as file:
        file.write(f"{Path(__file__).name} {kind} {os.environ['PYTEST_XDIST_WORKER']}\\n")
"""


def test_a_scope_is_a_file_and_a_deployment() -> None:
    assert scope_of("tests/a.py::test_x") == ("tests/a.py", "")
    assert scope_of("tests/a.py::test_x[one]") == ("tests/a.py", "")
    assert scope_of("tests/a.py::test_x[embedded]") == ("tests/a.py", "embedded")
    assert scope_of("tests/a.py::test_x[scaled-a-b[0]]") == ("tests/a.py", "scaled")
    assert scope_of("tests/a.py::test_x[unscaled-embeddedly]") == ("tests/a.py", "")


def test_the_longest_begin_and_each_deployment_has_its_time() -> None:
    first, short = f"{LONGEST[0]}::test_x", "tests/a.py::test_x"
    asked = [f"{first}[scaled]", short, f"{short}[scaled]", f"{short}[embedded]", first, f"{LONGEST[1]}::test_x"]
    assert sorted(asked, key=turn_of) == [
        first, f"{LONGEST[1]}::test_x", short, f"{short}[embedded]", f"{first}[scaled]", f"{short}[scaled]",
    ]  # fmt: skip
    assert len(set(LONGEST)) == len(LONGEST)
    assert [file for file in LONGEST if not (ROOT / file).is_file()] == []


def test_what_shares_a_suite_runs_in_one_process(tmp_path: Path) -> None:
    for name in ("test_one.py", "test_two.py"):
        (tmp_path / name).write_text(_NOTING)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "xdist.plugin", "-p", "pacifica.tests.system.turns"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT / ".namespace")}
    done = subprocess.run(
        [*command, "-n", "2", "--dist", "loadscope", "."],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    ran = [line.split() for line in (tmp_path / "ran").read_text().splitlines()]
    assert len(ran) == 12
    assert len({tuple(line) for line in ran}) == 4  # each file and deployment in one process
    by_worker = {worker: [kind for _, kind, at in ran if at == worker] for worker in {at for _, _, at in ran}}
    assert all(kinds == sorted(kinds) for kinds in by_worker.values())
