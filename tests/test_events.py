"""What ingest announces, heard by a real consumer on a real broker: each event once by its id, and none lost."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.nodes import RabbitNode
from pacifica.tests.system.suite import Suite, until

DOCUMENT = (Path(__file__).parents[1] / "docs" / "events.md").read_text(encoding="utf-8")


class Consumer:
    """Another program's durable queue on the exchange ``pacifica``."""

    def __init__(self, url: str) -> None:
        self.url = url
        exchange = kombu.Exchange("pacifica", type="topic", durable=True)
        self.queue = kombu.Queue("another-program", exchange, routing_key="pacifica.ingest.*", durable=True)
        self.events: list[dict[str, Any]] = []
        with kombu.Connection(url) as connection:
            self.queue(connection.channel()).declare()

    def hear(self) -> list[dict[str, Any]]:
        """Take what has come and return everything heard so far, each id once."""
        with kombu.Connection(self.url) as connection:
            queue = self.queue(connection.channel())
            while (message := queue.get(no_ack=True)) is not None:
                assert message.content_type == "application/cloudevents+json"
                event = json.loads(message.body)
                assert event["type"] == message.delivery_info["routing_key"]
                self.events.append(event)
        return list({event["id"]: event for event in self.events}.values())

    def jobs(self, type: str) -> list[int]:
        """Return the jobs of the events of ``type``."""
        return sorted(event["data"]["job"] for event in self.hear() if event["type"] == type)


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitNode]:
    """A broker that may be stopped."""
    node = RabbitNode()
    try:
        yield node.start()
    finally:
        node.remove()


@pytest.fixture(scope="module")
def suite(broker: RabbitNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    found = Suite(tmp_path_factory.mktemp("events") / "data", {"PACIFICA_CELERY_BROKER_URL": broker.url})
    try:
        yield found.start()
    finally:
        found.kill()


@pytest.fixture(scope="module")
def consumer(broker: RabbitNode, suite: Suite) -> Consumer:
    return Consumer(broker.url)


def shape(value: Any) -> Any:
    """Return the keys and types of a JSON value."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return type(value).__name__


def documented() -> list[Any]:
    """Return the examples of docs/events.md."""
    return [json.loads(text) for text in re.findall(r"^```json\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)]


def test_the_events_of_a_job_are_as_documented(suite: Suite, consumer: Consumer) -> None:
    envelope, archived, failed, _ = documented()
    good = suite.finished(suite.upload(bundle({"a": b"alpha", "b": b"beta"}))["job_id"], 60)["job_id"]
    bad = suite.finished(suite.upload(b"no tar")["job_id"], 60)["job_id"]
    events = until(lambda: len(found := consumer.hear()) >= 2 and found, 60, "two events")
    told = {event["data"]["job"]: event for event in events}
    for event in told.values():
        assert shape(event) | {"data": 0} == shape(envelope) | {"data": 0}
    assert shape(told[good]["data"]) == shape(archived)
    assert shape(told[bad]["data"]) == shape(failed)
    assert (told[good]["type"], told[good]["subject"]) == ("pacifica.ingest.archived", f"transactions/{good}")
    assert (told[bad]["type"], told[bad]["subject"]) == ("pacifica.ingest.failed", f"jobs/{bad}")
    files = suite.files(good)
    assert told[good]["data"]["files"] == {"first_id": files[0]["_id"], "count": 2, "bytes": 9}
    assert (told[bad]["data"]["code"], told[bad]["data"]["message"]) == ("not_a_tar", suite.state(bad)["exception"])


def test_what_happened_while_the_broker_was_away_is_told_once_it_is_back(
    suite: Suite, consumer: Consumer, broker: RabbitNode
) -> None:
    broker.stop()
    accepted = [suite.upload(bundle({"a": b"%d" % number}))["job_id"] for number in range(5)]
    cancelled = suite.upload(bundle({"a": b"unwanted"}))["job_id"]
    assert requests.delete(f"{suite.urls['ingest']}/jobs/{cancelled}", timeout=30).status_code == 200
    broken = [suite.upload(b"no tar %d" % number)["job_id"] for number in range(3)]
    assert suite.query("SELECT count(*) FROM outbox WHERE channel = 'event'")[0][0] >= 4
    broker.start()
    until(
        lambda: set(accepted) <= set(consumer.jobs("pacifica.ingest.archived")), 90, "the events of what was archived"
    )
    until(
        lambda: {*broken, cancelled} <= set(consumer.jobs("pacifica.ingest.failed")), 60, "the events of what was not"
    )
    for type in ("pacifica.ingest.archived", "pacifica.ingest.failed"):
        jobs = consumer.jobs(type)
        assert len(set(jobs)) == len(jobs)
    code = {event["data"]["job"]: event["data"].get("code") for event in consumer.hear()}
    assert code[cancelled] == "cancelled"
    until(lambda: suite.query("SELECT count(*) FROM outbox") == [(0,)], 30, "an empty outbox")


def test_every_event_of_the_suite_is_documented() -> None:
    from_code = set(
        re.findall(r'"(pacifica\.[a-z]+\.[a-z]+)"', (Path(__file__).parents[1] / "common" / "events.py").read_text())
    )
    assert from_code == set(re.findall(r"^\| `(pacifica\.[a-z.]+)` \|", DOCUMENT, re.MULTILINE))
