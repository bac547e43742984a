"""The watchdog: who hears nothing ends; who hears, has no room, is stopping or listens elsewhere does not."""

import pytest
from celery.worker import state

from pacifica.common.watchdog import UNHEARD_RINGS, Watchdog


class Request:
    """A task at work."""


@pytest.fixture
def ended():
    return []


@pytest.fixture
def watchdog(ended, monkeypatch):
    monkeypatch.setattr(state, "all_total_count", [7])
    monkeypatch.setattr(state, "active_requests", set())
    return Watchdog({"mine"}, slots=2, end=lambda: ended.append(True))


def rings(watchdog, count=UNHEARD_RINGS, queue="mine", row=(1, 0)):
    for _ in range(count):
        watchdog.rung(queue, [row])


def test_a_worker_that_hears_none_of_its_rings_ends(watchdog, ended):
    rings(watchdog, UNHEARD_RINGS - 1)
    assert ended == []
    rings(watchdog, 1)
    assert ended == [True]


def test_a_task_that_was_begun_meanwhile_proves_that_it_hears(watchdog, ended):
    for _ in range(10):
        rings(watchdog, UNHEARD_RINGS - 1)
        state.all_total_count[0] += 1
    assert ended == []


def test_a_worker_without_room_is_only_busy(watchdog, ended):
    busy = [Request(), Request()]
    state.active_requests.update(busy)
    rings(watchdog, 10 * UNHEARD_RINGS)
    assert ended == []
    state.active_requests.discard(busy[0])
    rings(watchdog)
    assert ended


def test_rings_for_others_or_for_ever_new_rows_prove_nothing(watchdog, ended):
    rings(watchdog, 10 * UNHEARD_RINGS, queue="another")
    for attempt in range(10 * UNHEARD_RINGS):  # each was claimed, by whomever
        rings(watchdog, 1, row=(1, attempt))
    assert ended == []


@pytest.mark.parametrize(("word", "value"), [("should_stop", 0), ("should_terminate", True)])
def test_a_worker_that_was_told_to_end_is_left_alone(watchdog, ended, monkeypatch, word, value):
    monkeypatch.setattr(state, word, value)
    rings(watchdog, 10 * UNHEARD_RINGS)
    assert ended == []
