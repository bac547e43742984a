"""Killed before any single thing that a job does to disk or database, it ends exactly once in effect."""

import itertools
from collections.abc import Iterator

import pytest

from pacifica.tests.system.crash import Mortal
from pacifica.tests.system.suite import until


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    suite = Mortal(tmp_path_factory.mktemp("mortal") / "data", [])
    try:
        yield suite.start()
    finally:
        suite.kill()


def test_a_job_that_was_killed_before_any_of_its_effects_ends_once(mortal: Mortal) -> None:
    for number in itertools.count(1):
        before = mortal.newest_job()
        mortal.start() if mortal.is_dead else None
        answered = mortal.dies(f"event {number}", patient=False)
        survived = not mortal.is_dead
        if survived:
            mortal.kill()
        mortal.start()
        mortal.settled(before)
        if answered is not None:
            assert mortal.state(answered)["state"] == "OK", number
        if survived:  # a job has no more effects than this
            assert number > 40
            break
    until(lambda: not mortal.spooled(), 30, "an empty spool")
