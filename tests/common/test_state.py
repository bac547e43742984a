"""Moves, claims, leases: of workers that race one wins, and a stale one changes nothing."""

import threading
from contextlib import ExitStack, suppress

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from pacifica_test_nodes import wait_until

from pacifica.common import lease, orm, state
from pacifica.common.errors import Cancelled, ChecksumMismatch, IllegalMove, NotClaimed


class Errand(state.Work):
    """Something to work on."""

    KIND = "errand"
    MOVES = {"NEW": {"HALF", "FAILED", "CANCELLED"}, "HALF": {"DONE", "FAILED"}, "FAILED": {"NEW"}}
    FINAL = frozenset({"DONE", "FAILED", "CANCELLED"})


@pytest.fixture
def errand(database):
    Errand.create_table()
    return Errand.start(state="NEW", owner="ann")


def log(row):
    found = state.StateChange.select().where(state.StateChange.row == str(row.id)).order_by(state.StateChange.id)
    return [(entry.source, entry.target, entry.attempt) for entry in found]


def fresh(row):
    return Errand.get_by_id(row.id)


def expire(row):
    orm.execute("UPDATE errand SET lease_until = 1 WHERE id = ?", row.id)


def taken(row, attempt, seconds=60.0):
    return state.claim(Errand, row.id, attempt, seconds=seconds)


# ---- moves -------------------------------------------------------------------------------------------------------


def test_a_move_is_logged_with_who_and_why(errand):
    errand.move("HALF", reason="because", who="bob", deadline=5.0)
    assert (fresh(errand).state, fresh(errand).deadline, errand.deadline) == ("HALF", 5.0, 5.0)
    assert log(errand) == [(None, "NEW", 0), ("NEW", "HALF", 0)]
    entry = state.StateChange.select().order_by(state.StateChange.id.desc()).get()
    assert (entry.kind, entry.who, entry.reason) == ("errand", "bob", "because")


def test_a_move_that_the_table_does_not_have_is_refused(errand):
    with pytest.raises(IllegalMove):
        errand.move("DONE")
    assert fresh(errand).state == "NEW"


def test_of_two_objects_that_move_one_row_the_second_loses(errand):
    other = fresh(errand)
    errand.move("HALF")
    with pytest.raises(IllegalMove):
        other.move("FAILED")
    assert log(errand)[1:] == [("NEW", "HALF", 0)]


def test_of_threads_that_move_one_row_one_wins(errand):
    wins, gate = [], threading.Barrier(4)

    def move():
        row = fresh(errand)
        gate.wait(10)
        with suppress(IllegalMove):
            row.move("HALF")
            wins.append(row)

    threads = [threading.Thread(target=move) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(wins) == 1
    assert log(errand)[1:] == [("NEW", "HALF", 0)]


def test_a_move_that_was_rolled_back_is_undone_in_the_object_too(errand):
    with pytest.raises(ZeroDivisionError), orm.transaction():
        errand.move("HALF", code="x")
        raise ZeroDivisionError
    assert (errand.state, errand.code) == ("NEW", None)
    assert log(errand)[1:] == []
    errand.move("HALF")


def test_progress_sets_columns_without_a_log_entry_and_refuses_a_stale_object(errand):
    stale = fresh(errand)
    errand.progress(deadline=7.0, ring_at=orm.now() + 5)
    assert fresh(errand).deadline == 7.0
    assert errand.ring_at > 1e9  # an expression came back as its value
    errand.move("HALF")
    with pytest.raises(IllegalMove):
        stale.progress(deadline=8.0)
    with pytest.raises(TypeError):
        errand.progress(state="DONE")


def test_fail_tells_a_client_nothing_about_our_own_faults(errand):
    errand.fail(OSError("/secret/path"))
    row = fresh(errand)
    assert (row.state, row.code) == ("FAILED", "internal_error")
    assert "secret" not in row.exception
    row.move("NEW")
    row.fail(ChecksumMismatch("Not the same."))
    assert (fresh(errand).exception, fresh(errand).code) == ("Not the same.", "checksum_mismatch")


# ---- the first move, with the claim -----------------------------------------------------------------------------


OPENING = state.Opening("NEW", "HALF", "deadline", "owner = 'ann'")


def test_a_claim_makes_the_first_move_and_logs_it(errand):
    with state.claim(Errand, errand.id, 0, seconds=60, opening=OPENING) as row:
        assert (row.state, row.attempt, row.tries, row.holder) == ("HALF", 1, 1, row.leased_by)
        assert row.updated == fresh(errand).updated and abs(row.deadline - row.updated) < 1.0
        row.move("DONE")
    assert log(errand) == [(None, "NEW", 0), ("NEW", "HALF", 1), ("HALF", "DONE", 1)]
    entry = state.StateChange.get(state.StateChange.target == "HALF")
    assert (entry.kind, entry.who, entry.trace) == ("errand", row.holder, None)


def test_the_first_move_is_made_once_and_tries_count_from_it(errand):
    for attempt in range(3):
        with state.claim(Errand, errand.id, attempt, seconds=60, opening=OPENING) as row:
            assert (row.state, row.attempt, row.tries) == ("HALF", attempt + 1, attempt + 1)
    assert log(errand) == [(None, "NEW", 0), ("NEW", "HALF", 1)]


def test_a_claim_moves_only_what_its_opening_is_about(errand):
    other = Errand.start(state="NEW", owner="bob")
    with state.claim(Errand, other.id, 0, seconds=60, opening=OPENING) as row:
        assert (row.state, row.tries, row.deadline) == ("NEW", 1, None)
    assert log(other) == [(None, "NEW", 0)]


def test_who_comes_too_late_moves_nothing(errand):
    late = state.claim(Errand, errand.id, 1, seconds=60, opening=OPENING)
    with taken(errand, 0), pytest.raises(NotClaimed), late:
        raise AssertionError("it was another's")
    errand.refresh().ask_cancel("bob")
    with pytest.raises(NotClaimed), state.claim(Errand, errand.id, 1, seconds=60, opening=OPENING):
        raise AssertionError("it was cancelled")
    assert log(errand) == [(None, "NEW", 0), ("NEW", "CANCELLED", 1)]


# ---- claims ------------------------------------------------------------------------------------------------------


def test_a_claim_counts_the_attempt_before_the_work_and_gives_the_lease_back(errand):
    with taken(errand, 0) as row:
        held = fresh(errand)
        assert (held.attempt, held.tries, held.leased_by) == (1, 1, row.holder)
        assert held.lease_until > orm.clock() + 50
    assert (fresh(errand).lease_until, fresh(errand).leased_by, fresh(errand).attempt) == (None, None, 1)


@pytest.mark.parametrize(
    "change",
    ["attempt = 1", "state = 'DONE'", "lease_until = 1e12, leased_by = 'x'", "not_before = 1e12"],
    ids=["stale message", "final", "leased", "not due"],
)
def test_what_is_not_to_be_had_is_not_claimed(errand, change):
    orm.execute(f"UPDATE errand SET {change}")
    with pytest.raises(NotClaimed), taken(errand, 0):
        pytest.fail("claimed")
    with pytest.raises(NotClaimed), state.claim(Errand, 4711, 0, seconds=60):
        pytest.fail("claimed")


def test_of_many_claims_at_once_one_wins(errand):
    wins, gate = [], threading.Barrier(6)

    def work():
        gate.wait(10)
        with suppress(NotClaimed), taken(errand, 0) as row:
            wins.append(row)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(wins) == 1
    assert fresh(errand).attempt == 1


def test_a_worker_whose_lease_was_taken_over_changes_nothing_any_more(errand):
    with taken(errand, 0) as slow:
        expire(errand)
        with taken(errand, 1) as quick:
            for change in (
                lambda: slow.move("HALF"),
                lambda: slow.progress(deadline=1.0),
                lambda: slow.fail(ZeroDivisionError()),
                slow.refresh,
                slow.heed,
            ):
                with pytest.raises(IllegalMove):
                    change()
            with pytest.raises(IllegalMove), orm.transaction():
                slow.fence()
            quick.move("HALF")
            quick.move("DONE")
    assert (fresh(errand).state, fresh(errand).attempt) == ("DONE", 2)


def test_who_read_a_row_before_it_was_claimed_cannot_move_it_any_more(errand):
    early = fresh(errand)
    with taken(errand, 0), pytest.raises(IllegalMove):
        early.move("HALF")
    with pytest.raises(IllegalMove):
        early.progress(deadline=1.0)


def test_a_worker_whose_row_was_ended_and_begun_again_changes_nothing(errand):
    with taken(errand, 0) as slow:
        other = fresh(errand)
        other.fail(ZeroDivisionError())
        other.move("NEW")  # same state, same attempt, but no longer this worker's
        with pytest.raises(IllegalMove):
            slow.move("HALF")


def test_the_end_of_a_stale_claim_leaves_the_new_lease_alone(errand):
    with ExitStack() as slow:
        slow.enter_context(taken(errand, 0))
        expire(errand)
        with taken(errand, 1) as quick:
            slow.close()
            assert fresh(errand).leased_by == quick.holder


def test_a_lease_that_ran_out_but_was_not_taken_is_still_ours(errand):
    with taken(errand, 0) as row:
        expire(errand)
        row.move("HALF")
        row.move("DONE")
    assert fresh(errand).state == "DONE"


def test_a_final_move_ends_the_lease(errand):
    with taken(errand, 0) as row:
        row.move("FAILED")
        assert (fresh(errand).lease_until, fresh(errand).leased_by) == (None, None)


def test_tries_count_within_one_state(errand):
    with taken(errand, 0):
        pass
    with taken(errand, 1) as row:
        assert row.tries == 2
        row.move("HALF")
        assert row.tries == 1
    with taken(errand, 2) as row:
        assert (row.tries, row.attempt) == (2, 3)
        row.fail(ZeroDivisionError())
    row.move("NEW")
    assert (fresh(errand).tries, fresh(errand).attempt) == (0, 3)


def test_a_lease_is_renewed_while_work_goes_on(errand):
    with taken(errand, 0, seconds=6.0) as row:
        first = fresh(errand).lease_until
        wait_until(lambda: fresh(errand).lease_until > first, 60, "the renewal")  # after two seconds
        with pytest.raises(NotClaimed), taken(errand, 1):
            pytest.fail("claimed")
        row.move("HALF")


def test_fence_needs_a_transaction_and_holds_the_row_in_it(errand):
    with pytest.raises(RuntimeError):
        errand.fence()
    with orm.transaction():
        errand.fence()
        errand.move("HALF")


# ---- cancelling --------------------------------------------------------------------------------------------------


def test_a_row_that_nobody_works_on_is_cancelled_at_once(errand):
    errand.ask_cancel("bob")
    assert (errand.state, fresh(errand).state) == ("CANCELLED", "CANCELLED")
    with pytest.raises(IllegalMove, match="ended: CANCELLED"):
        errand.ask_cancel("bob")


def test_a_row_whose_worker_died_is_cancelled_at_once_and_the_dead_one_changes_nothing(errand):
    with taken(errand, 0) as row:
        expire(errand)
        fresh(errand).ask_cancel("bob")
        assert fresh(errand).state == "CANCELLED"
        with pytest.raises(IllegalMove):
            row.move("HALF")


def test_a_worker_heeds_a_cancellation_where_the_state_allows_it(errand):
    with taken(errand, 0) as row:
        row.heed()
        errand.ask_cancel("bob")
        assert fresh(errand).state == "NEW"
        with pytest.raises(Cancelled):
            row.heed()
        row.move("HALF")
        row.heed()  # too late to cancel


def test_a_cancellation_is_done_at_pickup_and_a_state_that_has_none_goes_on(errand):
    orm.execute("UPDATE errand SET cancel = 'bob'")
    with pytest.raises(NotClaimed), taken(errand, 0):
        pytest.fail("claimed")
    assert fresh(errand).state == "CANCELLED"
    other = Errand.start(state="HALF", cancel="bob")
    with taken(other, 0) as row:
        row.move("DONE")


# ---- all together ------------------------------------------------------------------------------------------------


class Messages(RuleBasedStateMachine):
    """Messages come never, late, twice and in any order; workers stall, die and wake up: one run has an effect."""

    messages = Bundle("messages")
    workers = Bundle("workers")

    def __init__(self):
        super().__init__()
        self.effects = []
        self.open = ExitStack()

    @initialize(target=messages)
    def begin(self):
        self.row = Errand.start(state="NEW")
        return 0

    @rule(target=messages)
    def sweep(self):
        """The sweeper rings for what is free, with the attempt that it reads."""
        return orm.rows("SELECT attempt FROM errand WHERE id = ?", self.row.id)[0][0]

    @rule(target=workers, attempt=messages)
    def deliver(self, attempt):
        """A worker gets a message (which may come again) and tries to claim."""
        try:
            return self.open.enter_context(taken(self.row, attempt, seconds=3600))
        except NotClaimed:
            return None

    @rule(worker=workers)
    def go_half(self, worker):
        if worker is not None:
            with suppress(IllegalMove):
                worker.move("HALF")

    @rule(worker=workers, rolls_back=st.booleans())
    def finish(self, worker, rolls_back):
        """The effect is a log entry of its own, in one transaction with the move."""
        if worker is None:
            return
        with suppress(IllegalMove, ZeroDivisionError), orm.transaction():
            worker.fence()
            orm.after_commit(lambda: self.effects.append(worker.attempt))
            worker.move("DONE")
            if rolls_back:
                raise ZeroDivisionError

    @rule(worker=consumes(workers))
    def die(self, worker):
        """Never heard of again; its lease stays until it runs out."""
        if worker is not None:
            lease._keeper._leases.clear()

    @rule()
    def run_out(self):
        expire(self.row)

    @invariant()
    def at_most_one_effect_and_a_true_log(self):
        if not hasattr(self, "row"):
            return
        assert len(self.effects) <= 1
        entries = log(self.row)
        assert [target for _, target, _ in entries].count("DONE") == len(self.effects)
        assert [after[0] for after in entries[1:]] == [before[1] for before in entries[:-1]]
        attempts = [attempt for _, _, attempt in entries]
        assert attempts == sorted(attempts)

    def teardown(self):
        """In the end the sweeper wins: once the leases are over, one more message brings the row to its end."""
        if hasattr(self, "row"):
            if not self.effects:
                expire(self.row)
                with taken(self.row, fresh(self.row).attempt) as worker:
                    if worker.state == "NEW":
                        worker.move("HALF")
                    self.finish(worker, False)
            assert len(self.effects) == 1
            assert fresh(self.row).state == "DONE"
        self.open.close()


def test_whatever_happens_to_messages_and_workers_one_run_has_an_effect(sqlite):
    Errand.create_table()
    run_state_machine_as_test(
        Messages,
        settings=settings(
            max_examples=50,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
