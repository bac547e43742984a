"""Workers: several apps in one process, what a failure means, and a real Celery worker on a real broker."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import peewee
import pytest
from pacifica_test_nodes import wait_until

from pacifica.common import config, orm, outbox, publisher, state, worker
from pacifica.common.errors import BadRequest, Cancelled, NotClaimed, Overloaded
from pacifica.common.sweeper import Sweeper
from pacifica.common.tables import COMMON


class Parcel(state.Work):
    """Something to carry."""

    KIND = "parcel"
    MOVES = {"NEW": {"HALF", "DONE", "FAILED", "CANCELLED"}, "HALF": {"DONE", "FAILED"}}
    FINAL = frozenset({"DONE", "FAILED", "CANCELLED"})

    told = peewee.TextField(default="")


SETTINGS = config.Shared(
    celery=config.Celery(broker_url="memory://"),
    worker=config.Worker(sweep_seconds=0.02, retry_seconds=0.05, max_attempts=3, lease_seconds=5.0),
)


@pytest.fixture
def parcels(database):
    Parcel.create_table()
    publisher._publisher = None
    outbox.configure("memory://")
    yield Parcel
    publisher._publisher = None


def fresh(row):
    return Parcel.get_by_id(row.id)


def reasons(row):
    found = state.StateChange.select().where(state.StateChange.row == str(row.id)).order_by(state.StateChange.id)
    return [entry.reason for entry in found]


def work(row, error=None, attempt=None, settings=SETTINGS.worker):
    with worker.working(Parcel, row.id, fresh(row).attempt if attempt is None else attempt, settings) as held:
        if error is not None:
            raise error
        held.move("DONE")


# ---- what a failure means ----------------------------------------------------------------------------------------


def test_work_that_ends_well_is_done(parcels):
    row = Parcel.start(state="NEW")
    work(row)
    assert fresh(row).state == "DONE"


def test_a_fault_of_the_client_ends_it_at_once(parcels):
    row = Parcel.start(state="NEW")
    work(row, BadRequest("No."))
    assert (fresh(row).state, fresh(row).exception, fresh(row).code) == ("FAILED", "No.", "bad_request")


def test_a_fault_of_ours_is_tried_again_after_a_while_and_then_ends_it(parcels):
    row = Parcel.start(state="NEW")
    for attempt in range(3):
        assert fresh(row).state == "NEW"
        work(row, Overloaded() if attempt else OSError("/secret"))
        orm.execute("UPDATE parcel SET not_before = 0 WHERE not_before > 0")
    assert (fresh(row).state, fresh(row).attempt, fresh(row).code) == ("FAILED", 3, "overloaded")
    assert [reason.partition(" ")[0] for reason in reasons(row)] == ["", "Retry", "Retry", "Too"]
    assert "secret" not in "".join(reasons(row))


def test_a_retry_waits_longer_each_time(parcels):
    row = Parcel.start(state="NEW")
    settings = config.Worker(retry_seconds=10.0, max_attempts=9)
    waits = []
    for _ in range(3):
        work(row, Overloaded(), settings=settings)
        waits.append(fresh(row).not_before - fresh(row).updated)  # by one reading of the clock
        with pytest.raises(NotClaimed):
            work(row, settings=settings)
        orm.execute("UPDATE parcel SET not_before = 0")
    assert 7 < waits[0] < 13 < waits[1] < 26 < waits[2] < 51


def test_what_kills_its_worker_each_time_ends_after_max_attempts(parcels):
    row = Parcel.start(state="NEW")
    runs, killed = 0, []
    for attempt in range(5):
        if fresh(row).state == "FAILED":
            break
        try:
            held = worker.working(Parcel, row.id, attempt, SETTINGS.worker)
            held.__enter__()
            runs += 1
            killed.append(held)  # nothing of it runs any more
            orm.execute("UPDATE parcel SET lease_until = 1")
        except NotClaimed:
            pass
    for held in killed:
        held.__exit__(None, None, None)
    assert runs == 3
    assert (fresh(row).state, fresh(row).code) == ("FAILED", "attempts_exhausted")


def test_cancelling_while_it_runs_ends_it_at_the_next_step(parcels):
    row = Parcel.start(state="NEW")
    with worker.working(Parcel, row.id, 0, SETTINGS.worker) as held:
        fresh(row).ask_cancel("bob")
        held.heed()
        pytest.fail("went on")
    assert fresh(row).state == "CANCELLED"


def test_a_move_within_a_transaction_that_failed_does_not_hide_the_failure(parcels):
    row = Parcel.start(state="NEW")
    with worker.working(Parcel, row.id, 0, SETTINGS.worker) as held, orm.transaction():
        held.move("HALF")
        raise BadRequest("No.")
    assert (fresh(row).state, fresh(row).exception) == ("FAILED", "No.")


def test_a_worker_that_lost_its_lease_fails_quietly(parcels):
    row = Parcel.start(state="NEW")
    with worker.working(Parcel, row.id, 0, SETTINGS.worker):
        orm.execute("UPDATE parcel SET lease_until = 1")
        work(row)
        raise BadRequest("No.")
    assert fresh(row).state == "DONE"


def test_a_model_may_clean_up_when_it_fails(parcels, monkeypatch):
    def failed(self, error):
        self.fail(error, told="cleaned")

    monkeypatch.setattr(Parcel, "failed", failed)
    row = Parcel.start(state="NEW")
    work(row, BadRequest("No."))
    assert (fresh(row).state, fresh(row).told) == ("FAILED", "cleaned")


def test_an_error_named_cancelled_needs_somebody_who_asked(parcels):
    row = Parcel.start(state="NEW")
    work(row, Cancelled("stop"))
    assert fresh(row).state == "CANCELLED"


# ---- ringing again -----------------------------------------------------------------------------------------------


def test_a_ringer_rings_for_what_is_due_once_and_writes_nothing_when_idle(parcels):
    ring = worker.ringer(Parcel, "q", "t", ["NEW"])
    assert ring() == 0
    due = Parcel.start(state="NEW")
    Parcel.start(state="HALF")
    for column in ("lease_until", "not_before", "ring_at"):
        Parcel.start(state="NEW", **{column: orm.now() + 60})
    assert ring() == 1
    assert fresh(due).ring_at > orm.clock() + 5
    assert ring() == 0
    orm.execute("UPDATE parcel SET ring_at = 0, cancel = 'bob' WHERE not_before > 0")
    assert ring() == 1  # a cancellation is not put off


def test_a_ringer_rings_for_so_many_in_a_pass_as_it_was_told(parcels):
    ring = worker.ringer(Parcel, "q", "t", ["NEW"], most=3)
    for _ in range(7):
        Parcel.start(state="NEW")
    assert [ring() for _ in range(4)] == [3, 3, 1, 0]


def test_a_ringer_without_a_broker_leaves_the_rows_due(parcels):
    ring = worker.ringer(Parcel, "q", "t", ["NEW"])
    row = Parcel.start(state="NEW")
    publisher._publisher = None
    outbox.configure("pyamqp://guest:guest@127.0.0.1:1//")
    assert ring() == 0
    assert fresh(row).ring_at <= orm.clock()
    assert publisher.current().away


# ---- workers in this process -------------------------------------------------------------------------------------


@pytest.fixture
def two_apps(parcels):
    """Two services with a task of the same name, each with a worker of its own in this process."""
    apps, seen = [], []
    for name in ("one", "two"):
        app = worker.make_app(name, lambda: SETTINGS)

        def carry(id, attempt, name=name):
            with worker.working(Parcel, id, attempt, SETTINGS.worker) as row:
                seen.append((name, id, threading.current_thread() is threading.main_thread()))
                row.move("DONE", told=name)

        app.task(name="carry")(carry)
        apps.append(app)
    workers = [worker.embedded_worker(app, 2, app.queues[0]) for app in apps]
    for one in workers:
        one.start()
    yield apps, seen
    for one in workers:
        assert one.stop()


def test_each_app_consumes_its_own_queue_off_the_main_thread(two_apps):
    rows = [Parcel.start(state="NEW", ring_at=1e12) for _ in range(20)]
    for number, row in enumerate(rows):
        outbox.ring(worker.queue_of(("one", "two")[number % 2]), "carry", row.id, 0)
    wait_until(lambda: Parcel.select().where(Parcel.state == "DONE").count() == 20)
    assert [fresh(row).told for row in rows] == ["one", "two"] * 10
    assert not any(main for _, _, main in two_apps[1])


def test_duplicates_and_late_messages_are_dropped_quietly(two_apps, caplog):
    row = Parcel.start(state="NEW", ring_at=1e12)
    for _ in range(3):
        outbox.ring("pacifica.one", "carry", row.id, 0)
    outbox.ring("pacifica.two", "carry", row.id, 7)
    last = Parcel.start(state="NEW", ring_at=1e12)
    outbox.ring("pacifica.one", "carry", last.id, 0)
    wait_until(lambda: fresh(last).state == "DONE")
    assert len(two_apps[1]) == 2
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def test_a_lost_message_is_rung_for_by_the_sweeper(two_apps):
    apps, _ = two_apps
    rows = [Parcel.start(state="NEW") for _ in range(10)]
    apps[0].duties.append(worker.ringer(Parcel, "pacifica.one", "carry", ["NEW"]))
    sweeper = Sweeper("all", [duty for app in apps for duty in app.duties], SETTINGS)
    sweeper.start()
    wait_until(lambda: Parcel.select().where(Parcel.state == "DONE").count() == len(rows))
    sweeper.stop()


def test_a_ring_is_answered_without_the_sweeper(two_apps):
    row = Parcel.start(state="NEW", ring_at=1e12)
    outbox.ring("pacifica.one", "carry", row.id, 0)
    wait_until(lambda: fresh(row).state == "DONE")


# ---- a worker of its own -----------------------------------------------------------------------------------------

TASKS = """
    import os, signal
    import peewee
    from pacifica.common import config, orm, state, worker

    class Parcel(state.Work):
        KIND = "parcel"
        MOVES = {"NEW": {"HALF", "DONE", "FAILED", "CANCELLED"}, "HALF": {"DONE", "FAILED"}}
        FINAL = frozenset({"DONE", "FAILED", "CANCELLED"})
        told = peewee.TextField(default="")

    def settings():
        return config.Shared(
            database=config.Database(peewee_url=os.environ["TEST_DATABASE"]),
            celery=config.Celery(broker_url=os.environ["TEST_BROKER"], concurrency=2),
            worker=config.Worker(sweep_seconds=0.05, lease_seconds=0.6, retry_seconds=0.1, max_attempts=3),
        )

    app = worker.make_app("carrier", settings)

    @app.task(name="carry")
    def carry(id, attempt):
        with worker.working(Parcel, id, attempt, settings().worker) as row:
            if row.told == "poison":
                os.kill(os.getpid(), signal.SIGKILL)
            row.move("DONE", told=str(os.getpid()))

    app.duties.append(worker.ringer(Parcel, "pacifica.carrier", "carry", ["NEW"]))
"""


def test_a_celery_worker_works_ends_poison_and_survives_it(postgres, rabbitmq, tmp_path):
    """The main process sweeps, forked children work, a child that is killed is replaced, its job ends in FAILED."""
    (tmp_path / "carrier_tasks.py").write_text(textwrap.dedent(TASKS))
    url = postgres.create_database()
    orm.disconnect()
    orm.connect(config.Database(peewee_url=url, connect_attempts=1))
    COMMON.sync()
    Parcel.create_table()
    publisher._publisher = None
    outbox.configure(rabbitmq.url)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "TEST_DATABASE": url, "TEST_BROKER": rabbitmq.url,
    }  # fmt: skip
    command = [sys.executable, "-m", "celery", "-A", "carrier_tasks", "worker", "-P", "prefork", "-c", "2"]
    poison = Parcel.start(state="NEW", told="poison")
    rows = [Parcel.start(state="NEW", ring_at=orm.now() + 60) for _ in range(20)]
    lost = Parcel.start(state="NEW")  # nobody rings for it but the sweeper
    with (tmp_path / "worker.log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True
        )
    try:
        for row in rows:
            outbox.ring("pacifica.carrier", "carry", row.id, 0)
        wait_until(lambda: Parcel.select().where(Parcel.state == "DONE").count() == 21, 40, "the good ones")
        wait_until(lambda: fresh(poison).state == "FAILED", 40, "the end of the poison")
        assert (fresh(poison).attempt, fresh(poison).code) == (4, "attempts_exhausted")
        assert fresh(lost).state == "DONE"
        assert process.pid not in {int(fresh(row).told) for row in rows}
        process.terminate()
        process.wait(30)
    except BaseException:
        sys.stderr.write((tmp_path / "worker.log").read_text())
        raise
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        publisher._publisher.close()
        publisher._publisher = None
        orm.disconnect()
        postgres.drop_database(url)
