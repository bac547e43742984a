"""A server that works long on a statement is waited for, one that stands still is not."""

import threading
from typing import Any

import pytest

from pacifica.common import orm, pulse
from pacifica.common.errors import DatabaseAway
from pacifica.tests.system.suite import until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the server after a second of waiting."""
    monkeypatch.setattr(pulse, "PATIENCE_SECONDS", 1.0)


def test_a_statement_that_takes_long_is_waited_for(postgresql: Any) -> None:
    assert orm.rows("SELECT 1 FROM pg_sleep(4)") == [(1,)]


def test_whoever_waits_for_anothers_lock_goes_on_waiting(postgresql: Any) -> None:
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with orm.transaction():
            orm.rows("SELECT pg_advisory_xact_lock(7)")
            locked.set()
            orm.rows("SELECT 1 FROM pg_sleep(4)")
            done.set()

    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(30)
    with orm.transaction():
        orm.rows("SELECT pg_advisory_xact_lock(7)")
        assert done.is_set()
    holder.join(30)


def test_a_statement_and_a_commit_at_a_server_that_stands_still_fail_and_the_next_succeed(
    postgresql: Any, postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "GREETING_SECONDS", 2)
    orm.execute("CREATE TABLE held (id BIGINT)")
    postgres.freeze()
    try:
        for _ in range(2):
            with pytest.raises(DatabaseAway):
                orm.rows("SELECT 1")
    finally:
        postgres.thaw()
    until(_answers, 30, "the database's answer")
    late = threading.Timer(60, postgres.thaw)  # so that a wait without end fails
    late.start()
    try:
        with pytest.raises(DatabaseAway), orm.transaction():
            orm.execute("INSERT INTO held VALUES (1)")
            postgres.freeze()
    finally:
        late.cancel()
        postgres.thaw()
    until(_answers, 30, "the database's answer")
    assert orm.rows("SELECT count(*) FROM held")[0][0] in (0, 1)  # the answer to a COMMIT was lost: either, never half
    orm.execute("INSERT INTO held VALUES (2)")


def _answers() -> bool:
    try:
        return orm.rows("SELECT 1") == [(1,)]
    except DatabaseAway:  # who connects in the first second after a greeting in vain is refused at once
        return False
