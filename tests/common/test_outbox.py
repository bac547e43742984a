"""Messages: owed by a commit, published once it is there, bounded when the broker is not."""

import json
import uuid
from pathlib import Path

import kombu
import pytest
from pacifica_test_nodes import wait_until

from pacifica.common import broker as broker_room
from pacifica.common import events, orm, outbox, publisher, sent
from pacifica.common.config import Database

KINDS = "pacifica.ingest.archived"
REQUEST_SECONDS = outbox.REQUEST_SECONDS


def in_memory():
    publisher._publisher = None
    yield outbox.configure("memory://")
    publisher._publisher = None


@pytest.fixture
def memory(sqlite):
    yield from in_memory()


@pytest.fixture
def rabbit(sqlite, rabbitmq, calm):
    publisher._publisher = None
    yield outbox.configure(rabbitmq.url)
    publisher._publisher.close()
    publisher._publisher = None


@pytest.fixture
def calm(monkeypatch):
    """Give the broker as long as a busy machine may need, instead of half a second."""
    monkeypatch.setattr(outbox, "REQUEST_SECONDS", 30.0)


@pytest.fixture
def brief(monkeypatch, rabbit):
    """Have who waits for the broker in vain wait as briefly as a request does, once this is called."""
    return lambda: monkeypatch.setattr(outbox, "REQUEST_SECONDS", REQUEST_SECONDS)


def waiting():
    return orm.rows("SELECT count(*) FROM outbox")[0][0]


class Listener:
    """A consumer of one queue, as another program would be."""

    def __init__(self, url, queue):
        self.connection = kombu.Connection(url)
        self.channel = self.connection.channel()
        self.queue = queue(self.channel)
        self.queue.declare()

    def all(self, count, seconds=30.0):
        found = []

        def enough():
            while (message := self.queue.get(no_ack=True)) is not None:
                found.append(message)
            return len(found) >= count

        wait_until(enough, seconds, f"{count} messages")
        return found

    def empty(self):
        return self.queue.get(no_ack=True) is None


def tasks(url):
    return Listener(url, broker_room.task_queue(f"t.{uuid.uuid4().hex}"))


def subscription(url, pattern):
    return Listener(url, kombu.Queue(f"e.{uuid.uuid4().hex}", broker_room.EXCHANGE, routing_key=pattern, durable=False))


def urls(request, name):
    return "memory://" if name == "memory" else request.getfixturevalue("rabbitmq").url


@pytest.fixture(params=["memory", "rabbit"])
def broker(request):
    return request.getfixturevalue(request.param).broker_url


# ---- what arrives ------------------------------------------------------------------------------------------------


def test_a_ring_arrives_as_a_celery_task_after_the_commit(broker):
    listener = tasks(broker)
    with orm.transaction():
        outbox.ring(listener.queue.name, "pacifica.ingest.ingest", 7, 2)
        assert listener.empty()
        assert waiting() == 1
    (message,) = listener.all(1)
    assert message.headers["task"] == "pacifica.ingest.ingest"
    assert json.loads(message.body)[0] == [7, 2]
    assert message.content_type == "application/json"
    assert waiting() == 0


def test_an_event_arrives_as_a_cloud_event_by_its_type(broker):
    listener, other = subscription(broker, "pacifica.ingest.*"), subscription(broker, "pacifica.cart.#")
    id = outbox.announce(KINDS, "transactions/7", {"job": 7}, source="/ingest")
    (message,) = listener.all(1)
    envelope = json.loads(message.body)
    assert message.content_type == "application/cloudevents+json"
    assert message.properties["message_id"] == id == envelope["id"]
    assert envelope | {"time": "", "id": ""} == {
        "specversion": "1.0", "type": KINDS, "source": "/ingest", "subject": "transactions/7", "id": "", "time": "",
        "datacontenttype": "application/json", "data": {"job": 7},
    }  # fmt: skip
    assert envelope["time"].endswith("Z")
    assert other.empty()


def test_what_a_transaction_wrote_goes_out_in_order_and_together(broker):
    listener = tasks(broker)
    with orm.transaction():
        for id in range(5):
            outbox.ring(listener.queue.name, "t", id, 0)
    assert [json.loads(message.body)[0][0] for message in listener.all(5)] == [0, 1, 2, 3, 4]


def test_nothing_of_what_was_rolled_back_goes_out(memory):
    listener = tasks("memory://")
    with orm.transaction():
        outbox.ring(listener.queue.name, "t", 1, 0)
        with pytest.raises(ZeroDivisionError), orm.savepoint():
            outbox.ring(listener.queue.name, "t", 2, 0)
            raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), orm.transaction():
        outbox.ring(listener.queue.name, "t", 3, 0)
        raise ZeroDivisionError
    assert [json.loads(message.body)[0][0] for message in listener.all(1)] == [1]
    assert listener.empty()
    assert waiting() == 0


def test_an_event_of_another_name_is_refused(memory):
    with pytest.raises(ValueError, match="not an event"):
        outbox.announce("pacifica.ingest.exploded", "x", {}, source="/ingest")
    assert waiting() == 0


def test_every_event_is_documented():
    text = (Path(events.__file__).parents[1] / "docs" / "events.md").read_text()
    assert [type for type in events.TYPES if f"`{type}`" not in text] == []


# ---- what is out goes together ------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(postgresql):
    yield from in_memory()


@pytest.fixture
def patient(monkeypatch):
    """Deletes by number alone, in this test."""
    monkeypatch.setattr(sent, "TOGETHER_SECONDS", 3600)
    monkeypatch.setattr(sent, "_held", sent._Held())


def test_what_is_out_is_deleted_together_within_the_grace_that_the_sweeper_gives(elsewhere):
    listener = tasks("memory://")
    for id in range(3):
        outbox.ring(listener.queue.name, "t", id, 0)
    assert len(listener.all(3)) == 3
    assert sent.TOGETHER_SECONDS < outbox.GRACE_SECONDS / 2
    wait_until(lambda: waiting() == 0, 30, "the deletion of what is out")


def test_many_are_deleted_without_a_wait(elsewhere, patient):
    for id in range(sent.TOGETHER + 1):
        outbox.ring("t.many", "t", id, 0)
    assert waiting() == 1


def test_rows_of_one_database_are_not_looked_for_in_the_next(elsewhere, postgres, patient):
    outbox.ring("t.first", "t", 1, 0)
    orm.disconnect()
    url = postgres.create_database()
    orm.connect(Database(peewee_url=url))
    outbox.Outbox.create_table()
    kept = outbox.Outbox.create(  # which has the same number
        channel="task", routing_key="k", body="", created=0.0, ready_at=orm.clock() + 60
    )
    for id in range(sent.TOGETHER):
        outbox.ring("t.second", "t", id, 0)
    assert outbox.Outbox.get_or_none(id=kept.id) is not None
    orm.disconnect()
    postgres.drop_database(url)


def test_a_sweeper_deletes_at_once_what_it_would_find_again(elsewhere):
    outbox.Outbox.insert(
        channel="task", routing_key="t.swept", body=broker_room.call("t", 1, 0), created=0.0, ready_at=0.0
    ).execute()
    assert (outbox.publish_pending(), waiting()) == (1, 0)


# ---- the sweeper's part ------------------------------------------------------------------------------------------


def test_what_was_left_is_published_oldest_first_and_deleted(broker):
    listener = tasks(broker)
    url = publisher._publisher.broker_url
    publisher._publisher = None  # a process that knows no broker leaves it to the sweeper
    for id in range(3):
        outbox.ring(listener.queue.name, "t", id, 0)
    orm.insert_rows(
        outbox.Outbox,
        ["channel", "routing_key", "body", "created", "ready_at"],
        [("task", listener.queue.name, broker_room.call("t", id, 0), 0.0, 0.0) for id in range(3, 1200)],
    )
    assert outbox.publish_pending() == 0
    outbox.configure(url)
    assert [outbox.publish_pending() for _ in range(4)] == [500, 500, 200, 0]
    assert [json.loads(message.body)[0][0] for message in listener.all(1200, 20)] == list(range(1200))
    assert waiting() == 0


def test_a_young_row_belongs_to_its_writer(memory):
    listener = tasks("memory://")
    with orm.transaction():
        outbox.ring(listener.queue.name, "t", 1, 0)
        assert outbox.publish_pending() == 0
    assert len(listener.all(1)) == 1


def test_a_message_that_the_broker_refuses_keeps_no_other_from_going(rabbit):
    bad, good = f"t.{uuid.uuid4().hex}", tasks(rabbit.broker_url)
    with kombu.Connection(rabbit.broker_url) as connection:  # somebody made the queue in another way
        kombu.Queue(bad, durable=False, auto_delete=True)(connection.channel()).declare()
        with orm.transaction():
            outbox.ring(bad, "t", 1, 0)
            outbox.ring(good.queue.name, "t", 2, 0)
            outbox.ring(bad, "t", 3, 0)
        assert [json.loads(message.body)[0][0] for message in good.all(1)] == [2]
    assert waiting() == 2
    assert outbox.publish_pending() == 0  # put off
    assert not rabbit.away


# ---- a broker in trouble -----------------------------------------------------------------------------------------


def ring(queue):
    """Ring as a request does: a broker that is away costs the first one half a second and the next ones no attempt."""
    link = publisher.current()
    away, since = link.away, link._away_until
    outbox.ring(queue, "t", 1, 0)
    assert not away or link._away_until == since


def is_swept(link):
    """Sweep, however the broker was a moment ago, and tell whether nothing is left."""
    link._away_until = 0.0
    outbox.publish_pending()
    return waiting() == 0


def test_a_frozen_broker_holds_one_request_for_a_moment_and_the_next_ones_not_at_all(rabbit, rabbitmq, brief):
    listener = tasks(rabbit.broker_url)
    ring(listener.queue.name)  # connected
    brief()
    rabbitmq.freeze()
    try:
        ring(listener.queue.name)
        assert rabbit.away
        ring(listener.queue.name)
        rabbit._away_until = 0.0
        ring(listener.queue.name)  # not connected any more: the handshake is bounded too
        assert rabbit.away
    finally:
        rabbitmq.thaw()
    assert waiting() == 3
    rabbit._away_until = 0.0
    orm.execute("UPDATE outbox SET ready_at = 0")
    wait_until(lambda: is_swept(rabbit))
    assert len(listener.all(4)) >= 4


def test_a_frozen_broker_is_not_waited_for_when_a_queue_must_be_declared(rabbit, rabbitmq, brief):
    ring(tasks(rabbit.broker_url).queue.name)
    brief()
    rabbitmq.freeze()
    try:
        ring(f"t.{uuid.uuid4().hex}")
        assert rabbit.away
    finally:
        rabbitmq.thaw()
    assert waiting() == 1


def test_a_broker_that_is_down_costs_nothing_and_loses_nothing(rabbit, rabbitmq):
    listener = tasks(rabbit.broker_url)
    name = listener.queue.name
    ring(name)
    rabbitmq.kill()
    try:
        ring(name)
        assert rabbit.away
        ring(name)
        assert waiting() == 2
    finally:
        rabbitmq.start()
    rabbit._away_until = 0.0
    orm.execute("UPDATE outbox SET ready_at = 0")
    wait_until(lambda: is_swept(rabbit))


def test_a_connection_that_the_broker_closed_while_idle_is_replaced_without_a_pause(rabbit, rabbitmq):
    listener = tasks(rabbit.broker_url)
    ring(listener.queue.name)
    rabbitmq.stop()
    rabbitmq.start()
    ring(listener.queue.name)
    assert not rabbit.away
    assert waiting() == 0
