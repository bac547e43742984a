"""Web process, worker child and worker main process killed with -9 at each step of a job: it ends once in effect.

With the embedded neighbours, and with external ones: another suite's datasafe.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pacifica.tests.system.crash import MortalExternal, MortalScaled
from pacifica.tests.system.steps import EMBEDDED, EXTERNAL, WEB, WORKER, calls, matrix
from pacifica.tests.system.suite import Suite

KINDS = [EMBEDDED, EXTERNAL]


def each(*who: str) -> list[Any]:
    """Return (neighbours, step) for every step of ``who``."""
    return [pytest.param(kind, step, id=f"{kind}-{step}") for kind in KINDS for step in matrix(kind, *who)]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    suite = Suite(tmp_path_factory.mktemp("other") / "data")
    try:
        yield suite.start()
    finally:
        suite.kill()


class Deployments:
    """The deployment of each kind, made when first asked for: its processes die in each test, what it has lives on."""

    def __init__(self, make: Callable[[str], MortalScaled]) -> None:
        self.make = make
        self.suites: dict[str, MortalScaled] = {}

    def of(self, kind: str) -> MortalScaled:
        if kind not in self.suites:
            self.suites[kind] = self.make(kind)
            self.suites[kind].start()
        return self.suites[kind]

    def end(self) -> None:
        for suite in self.suites.values():
            suite.kill()


@pytest.fixture(scope="module")
def deployments(
    postgres: Any, rabbitmq: Any, other: Suite, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployments]:
    def make(kind: str) -> MortalScaled:
        data: Path = tmp_path_factory.mktemp("mortal") / "data"
        there = data, postgres.create_database(), rabbitmq.create_vhost(), calls(matrix(kind))
        return MortalExternal(*there, other) if kind == EXTERNAL else MortalScaled(*there)

    made = Deployments(make)
    try:
        yield made
    finally:
        made.end()


def ends_once(mortal: MortalScaled, step: str, main: bool = False) -> None:
    before = mortal.newest_job()
    answered = mortal.dies(f"call {step}", main)
    mortal.settled(before)
    if answered is not None:
        assert mortal.state(answered)["state"] == "OK"


@pytest.mark.parametrize(("kind", "step"), each(WEB))
def test_a_job_whose_web_process_was_killed_ends_once(deployments: Deployments, kind: str, step: str) -> None:
    ends_once(deployments.of(kind), step)


@pytest.mark.parametrize("main", [False, True], ids=["child", "main"])
@pytest.mark.parametrize(("kind", "step"), each(WORKER))
def test_a_job_whose_worker_was_killed_ends_once(deployments: Deployments, kind: str, step: str, main: bool) -> None:
    ends_once(deployments.of(kind), step, main)
