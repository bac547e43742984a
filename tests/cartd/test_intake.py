"""What all posted selections together may take of the memory."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from pacifica.cartd import intake
from pacifica.common.errors import Overloaded

MEBI = 1 << 20


def test_large_selections_beyond_the_room_are_refused_and_small_ones_pass(monkeypatch):
    monkeypatch.setattr(intake, "WAIT_SECONDS", 0.05)
    made = intake.Intake(10 * MEBI)
    with made.room(6 * MEBI), made.room(4 * MEBI):
        with made.room(intake.SMALL):
            pass
        with pytest.raises(Overloaded), made.room(intake.SMALL + 1):
            pass
    with pytest.raises(KeyError), made.room(10 * MEBI):
        raise KeyError
    with made.room(10 * MEBI):
        pass


def test_a_large_selection_waits_for_its_turn():
    made, order = intake.Intake(10 * MEBI), []

    def take() -> None:
        with made.room(10 * MEBI):
            order.append("second")

    with ThreadPoolExecutor(1) as pool:
        with made.room(10 * MEBI):
            waiting = pool.submit(take)
            order.append("first")
        waiting.result(10)
    assert order == ["first", "second"]
