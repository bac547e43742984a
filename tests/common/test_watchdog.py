"""The watchdog: who hears nothing ends; who hears, has no room, is stopping or listens elsewhere does not."""

import socket
from dataclasses import dataclass

import pytest
from celery.worker import state

from pacifica.common import watchdog as room
from pacifica.common.watchdog import HANGING_SECONDS, MOST_ROWS, UNHEARD_SECONDS, Lost, Watchdog

LEASE = 20.0


@dataclass(eq=False)
class Request:
    """A task at work."""

    id: str = "1"
    worker_pid: int = 99
    time_start: float = 1000.0


class Clock:
    """The time, as the watchdog sees it."""

    now = 0.0

    def monotonic(self):
        return self.now

    def time(self):
        return 1000.0 + self.now


@pytest.fixture
def ended():
    return []


@pytest.fixture
def killed():
    return []


@pytest.fixture
def watchdog(ended, killed, monkeypatch):
    monkeypatch.setattr(state, "all_total_count", [7])
    monkeypatch.setattr(state, "active_requests", set())
    monkeypatch.setattr(room, "time", Clock())
    return Watchdog({"mine"}, slots=2, seconds=LEASE, end=lambda: ended.append(True), kill=killed.append)


def rings(watchdog, seconds=UNHEARD_SECONDS, queue="mine", row=(1, 0)):
    watchdog.rung(queue, [row])
    room.time.now += seconds
    watchdog.rung(queue, [row])


def test_a_worker_that_hears_none_of_its_rings_ends(watchdog, ended):
    rings(watchdog, UNHEARD_SECONDS - 1)
    assert ended == []
    rings(watchdog, 1)
    assert ended


def test_a_task_that_was_begun_meanwhile_proves_that_it_hears(watchdog, ended):
    for _ in range(10):
        rings(watchdog, UNHEARD_SECONDS - 1)
        state.all_total_count[0] += 1
    assert ended == []


def test_a_worker_without_room_is_only_busy(watchdog, ended):
    busy = [Request(), Request()]
    state.active_requests.update(busy)
    rings(watchdog, 10 * UNHEARD_SECONDS)
    assert ended == []
    state.active_requests.discard(busy[0])
    rings(watchdog)
    assert ended


def test_rings_for_others_or_for_ever_new_rows_prove_nothing(watchdog, ended):
    rings(watchdog, 10 * UNHEARD_SECONDS, queue="another")
    for attempt in range(50):  # each was claimed, by whomever
        rings(watchdog, 10, row=(1, attempt))
    assert ended == []


@pytest.mark.parametrize(("word", "value"), [("should_stop", 0), ("should_terminate", True)])
def test_a_worker_that_was_told_to_end_is_left_alone(watchdog, ended, monkeypatch, word, value):
    monkeypatch.setattr(state, word, value)
    rings(watchdog, 10 * UNHEARD_SECONDS)
    assert ended == []


def test_a_backlog_of_any_length_proves_what_one_row_proves(watchdog, ended):
    rows = [(id, 0) for id in range(3 * MOST_ROWS)]
    for _ in range(2):
        for at in range(0, len(rows), 500):
            watchdog.rung("mine", rows[at : at + 500])
            room.time.now += 1.0
    assert ended


def lost(pid=99, host=None, overdue=0.0):
    return Lost(f"{host or socket.gethostname()}:{pid}:0123456789ab", overdue)


def test_a_child_that_goes_on_with_a_row_that_it_has_lost_is_killed_and_counts_as_room(watchdog, ended, killed):
    state.active_requests.update([Request("1"), Request("2", worker_pid=98)])
    room.time.now += LEASE + 1.0  # it had claimed its row a second after it began, or its last one by then
    watchdog.rung("mine", [(1, 1)], [lost()])
    room.time.now += HANGING_SECONDS - 1
    watchdog.rung("mine", [])
    assert killed == []
    room.time.now += 1
    watchdog.rung("mine", [])
    assert killed == [99]
    rings(watchdog, row=(5, 0))
    assert ended


@pytest.mark.parametrize(
    "one", [lost(pid=98), lost(host="another"), lost(overdue=2.0)],
    ids=["another child's", "another host's", "given back in vain by the task before"],
)  # fmt: skip
def test_a_child_that_has_lost_nothing_is_left_alone(watchdog, killed, one):
    state.active_requests.add(Request())
    room.time.now += LEASE + 1.0
    for _ in range(3):
        watchdog.rung("mine", [(1, 1)], [one])
        one = one._replace(overdue=one.overdue + HANGING_SECONDS)
        room.time.now += HANGING_SECONDS
    assert killed == []
