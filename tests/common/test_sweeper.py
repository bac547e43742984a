"""The sweeper: one leader, every duty its turn, whatever happens to the others."""

import threading

import pytest
from pacifica_test_nodes import wait_until

from pacifica.common import config, orm, outbox, publisher
from pacifica.common.sweeper import Leadership, Sweeper, SweeperLease


@pytest.fixture
def settings():
    return config.Shared(worker=config.Worker(sweep_seconds=0.02))


def test_of_two_one_leads_until_it_resigns_or_dies(database):
    first, second = Leadership("a", "first"), Leadership("a", "second")
    assert (first.leads(), second.leads(), Leadership("b", "second").leads()) == (True, False, True)
    first.resign()
    assert second.leads()
    assert not first.leads()
    SweeperLease.update(until=1.0).execute()  # the second died
    assert first.leads()


def test_a_leader_renews_and_does_not_write_each_time(database):
    leader = Leadership("a", "first", seconds=60.0)
    assert leader.leads()
    SweeperLease.update(until=SweeperLease.until - 1).execute()
    before = SweeperLease.get().until
    assert leader.leads()
    assert SweeperLease.get().until == before
    leader._sure_until = 0.0
    assert leader.leads()
    assert SweeperLease.get().until > before


def test_of_many_candidates_at_once_one_leads(database):
    gate, leaders = threading.Barrier(4), []

    def run(name):
        gate.wait(10)
        if Leadership("a", name).leads():
            leaders.append(name)

    threads = [threading.Thread(target=run, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(leaders) == 1


def test_a_duty_that_fails_keeps_no_other_from_its_turn(sqlite, settings, caplog):
    done = []

    def broken():
        raise ZeroDivisionError

    sweeper = Sweeper("a", [broken, lambda: done.append(1) or 1], settings)
    sweeper.start()
    wait_until(lambda: len(done) > 2)
    sweeper.stop()
    assert "ZeroDivisionError" in caplog.text
    assert not sweeper.is_alive()
    assert SweeperLease.select().count() == 0


def test_of_two_sweepers_one_works_and_the_other_takes_over(sqlite, settings):
    done = []
    sweepers = [Sweeper("a", [lambda number=number: done.append(number) or 1], settings) for number in range(2)]
    sweepers[0].start()
    wait_until(lambda: len(done) > 2)
    sweepers[1].start()
    sweepers[0].stop()
    wait_until(lambda: 1 in done)
    sweepers[1].stop()
    assert done == sorted(done)


def test_a_database_that_is_away_is_waited_for(postgres, settings, caplog):
    url = postgres.create_database()
    orm.disconnect()
    orm.connect(config.Database(peewee_url=url, connect_attempts=1))
    done = []
    try:
        orm.database.create_tables([SweeperLease, outbox.Outbox])
        sweeper = Sweeper("a", [lambda: done.append(orm.clock()) or 1], settings)
        sweeper.start()
        wait_until(lambda: done)
        postgres.stop("immediate")
        wait_until(lambda: "The database does not answer" in caplog.text)
        postgres.start()
        count = len(done)
        wait_until(lambda: len(done) > count)
        sweeper.stop()
    finally:
        orm.disconnect()
        postgres.drop_database(url)


def test_it_publishes_what_the_outbox_holds(sqlite, settings):
    publisher._publisher = None
    outbox.announce("pacifica.cart.ready", "carts/1", {}, source="/cartd")
    outbox.configure("memory://")
    sweeper = Sweeper("a", [], settings)
    sweeper.start()
    wait_until(lambda: outbox.Outbox.select().count() == 0)
    sweeper.stop()
    publisher._publisher = None
