"""Who runs which tests, and when: tests of a file that share a suite stay together, and what takes longest begins.

A suite of a module is so started once in a run and not once in each process, and a deployment that is shared by all
tests is changed once in each process.  ``pytest -n 3 --dist loadscope``; pytest-xdist's groups by mark are without
effect since pytest 9.2 (pytest-dev/pytest-xdist#1386).
"""

import re
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# a minute and more, down to some 15 s: what begins late is what the other processes wait for in the end
LONGEST = (
    "tests/test_kill.py",
    "tests/test_external_neighbours.py",
    "tests/test_openapi.py",
    "tests/test_kill_cart.py",
    "tests/test_documentation.py",
    "tests/flow/test_flow_command.py",
    "tests/test_stop.py",
    "tests/datasafe/test_memory.py",
    "tests/test_access_matrix.py",
    "tests/datasafe/test_rebuilding.py",
    "tests/test_nginx.py",
    "tests/datasafe/test_settle.py",
    "tests/flow/test_crate.py",
    "tests/test_jobs.py",
    "tests/flow/test_executor.py",
    "tests/cartd/test_rest.py",
    "tests/datasafe/test_dataset_command.py",
    "tests/test_packaging.py",
    "tests/common/test_pulse.py",
    "tests/flow/test_triggering.py",
    "tests/test_commands.py",
    "tests/test_hostile.py",
    "tests/ingest/test_tus.py",
    "tests/ingest/test_idempotency.py",
    "tests/datasafe/test_audit.py",
)
_DEPLOYMENT = re.compile(r"\[(?:.*-)?(embedded|scaled)(?:-.*)?\]$")
_ORDER = ("", "embedded", "scaled")  # the last is what costs most to keep alive


def scope_of(nodeid: str) -> tuple[str, str]:
    """Return what is run in one process, one test after the other: file and deployment (``_ORDER``) of a test."""
    found = _DEPLOYMENT.search(nodeid)
    return nodeid.partition("::")[0], found[1] if found else ""


def turn_of(nodeid: str) -> tuple[int, int]:
    """Return the place of a test's scope in a run, to sort by."""
    file, deployment = scope_of(nodeid)
    return _ORDER.index(deployment), LONGEST.index(file) if file in LONGEST else len(LONGEST)


class Turns(LoadScopeScheduling):
    """Gives each process that has nothing more to do the next scope, in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return " ".join(scope_of(nodeid))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests in order."""
    items.sort(key=lambda item: turn_of(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Turns | None:
    """Deal out the tests of a run of several processes by scope."""
    return Turns(config, log) if config.getoption("dist") == "loadscope" else None
