"""The in-memory broker: who waits is woken by what comes, without looking for it."""

import os
import threading
import uuid
from queue import SimpleQueue

import kombu
import pytest

from pacifica.common import broker, inprocess

assert broker.EXCHANGE  # which puts ours in the place of kombu's


@pytest.fixture
def queue(monkeypatch):
    monkeypatch.setattr(inprocess, "LOOK_SECONDS", 3600.0)  # nothing here is found by looking again
    return kombu.Queue(uuid.uuid4().hex, durable=True)


@pytest.fixture
def publish(queue):
    with kombu.Connection("memory://") as connection:
        assert isinstance(connection.transport, inprocess.Transport)
        producer = connection.Producer()
        yield lambda *bodies: [producer.publish(body, routing_key=queue.name, declare=[queue]) for body in bodies]


class Listener(threading.Thread):
    """Takes ``count`` messages of a queue, as many at once as ``prefetch`` allows."""

    def __init__(self, queue, count, prefetch=0, deal=lambda message: message.ack()):
        super().__init__(daemon=True)
        self.heard, self.began = [], threading.Event()
        self._given = queue, count, prefetch, deal
        self.start()
        assert self.began.wait(60)

    def run(self):
        queue, count, prefetch, deal = self._given

        def hear(body, message):
            self.heard.append(body)
            deal(message)

        with kombu.Connection("memory://") as connection:
            consumer = connection.Consumer([queue], callbacks=[hear], prefetch_count=prefetch or None)
            with consumer:
                self.began.set()
                while len(self.heard) < count:
                    connection.drain_events()

    def all(self):
        self.join(60)
        assert not self.is_alive(), self.heard
        return self.heard


def test_a_message_wakes_who_waits_for_it(queue, publish):
    listener = Listener(queue, 3)
    for body in ("a", "b", "c"):
        publish(body)
    assert listener.all() == ["a", "b", "c"]


def test_no_message_is_lost_between_looking_and_waiting(queue, publish):
    listener = Listener(queue, 2000)
    threads = [threading.Thread(target=publish, args=range(start, start + 500)) for start in range(0, 2000, 500)]
    for thread in threads:
        thread.start()
    assert sorted(listener.all()) == list(range(2000))


def test_what_is_acknowledged_makes_room_for_the_next(queue, publish):
    held = SimpleQueue()
    listener = Listener(queue, 2, prefetch=1, deal=held.put)
    publish("a", "b")
    first = held.get(timeout=60)
    assert listener.heard == ["a"]
    first.ack()
    held.get(timeout=60).ack()
    assert listener.all() == ["a", "b"]


def test_what_is_given_back_comes_again(queue, publish):
    seen = []

    def deal(message):
        seen.append(message)
        message.requeue() if len(seen) == 1 else message.ack()

    listener = Listener(queue, 2, deal=deal)
    publish("a")
    assert listener.all() == ["a", "a"]


def test_a_wait_ends_in_time(queue):
    with (
        kombu.Connection("memory://") as connection,
        connection.Consumer([queue], callbacks=[print]),
        pytest.raises(TimeoutError),
    ):
        connection.drain_events(timeout=0.01)


def test_a_forked_child_rings_though_the_bell_was_held(queue):
    with inprocess._bell._changed:
        child = os.fork()
        if not child:
            inprocess._bell.ring()
            os._exit(inprocess._bell.count)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
