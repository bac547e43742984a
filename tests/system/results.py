"""Writes what became of the tests that docs/reliability.md names: ``pytest --results docs/reliability.md``.

The document is the list: a row of its tables names the tests that prove it, each as `` `tests/<file>.py::<name>` ``.
Behind each stands, in parentheses, how its last run ended.  A run changes what it has run and nothing else.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

NAMED = re.compile(r"`(tests/[\w/]+\.py::\w+)`(?: \([^()]*\))?")
WORST = ("passed", "skipped", "failed")  # of a test that is run with several parameters the worst counts


def names_in(document: str) -> list[str]:
    """Return the tests that a document names, in its order."""
    return [found[1] for found in NAMED.finditer(document)]


def written(document: str, outcomes: Mapping[str, str], day: str) -> str:
    """Return the document with the ``outcomes`` (passed, skipped, failed) of the tests that were run on ``day``."""

    def told(found: re.Match[str]) -> str:
        return f"`{found[1]}` ({outcomes[found[1]]} {day})" if found[1] in outcomes else found[0]

    return NAMED.sub(told, document)


class Results:
    """What became of each test of this run, whatever its parameters."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the outcome of a test, or of what was done for it."""
        name = report.nodeid.partition("[")[0].partition("@")[0]  # xdist appends its group behind an @
        self.outcomes[name] = max(self.outcomes.get(name, "passed"), report.outcome, key=WORST.index)

    def pytest_sessionfinish(self) -> None:
        """Write them down."""
        document = self.path.read_text(encoding="utf-8")
        now = written(document, self.outcomes, datetime.now(UTC).strftime("%Y-%m-%d"))
        if now != document:
            self.path.write_text(now, encoding="utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--results``."""
    parser.addoption("--results", type=Path, metavar="FILE", help="write the outcome of each test that FILE names")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to note outcomes, where they are wanted; of processes that share the work only the first does."""
    path = config.getoption("--results")
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Results(path.absolute()))
