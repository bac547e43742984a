"""The webhook: Pacifica's event, delivered until it is taken, and nobody is asked but whom the administrator named."""

import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pacifica.common import draft, orm
from pacifica.common.catalog import record
from pacifica.common.state import StateChange
from pacifica.ingest import courier, notice
from pacifica.ingest.config import Metadata, Notifications, Settings
from pacifica.ingest.orm import SCHEMA, Job, State
from pacifica.tests.system.suite import until

DIGEST = "f1d2d2f924e986ac86fdf7b36c94bcdf32beec15"


class Receiver(ThreadingHTTPServer):
    """A webhook that answers what it is told to, and remembers what it was sent."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses, self.seen = [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/receive"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, self.headers["Content-Type"], json.loads(body)))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def receiver():
    server = Receiver()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def tables(database):
    SCHEMA.sync()


def archived(number):
    """Enter job ``number`` as archived with two files, and owe its event."""
    first = number * 10
    with orm.transaction():
        Job.start(id=number, state=State.ARCHIVED, owner="ann")
        pack = draft.begin_pack(f"{number:032x}", "bundle", number, 1, first, 2, 10, "ann")
        rows = [(first + n, n, 4, 0, "sha1", DIGEST, "run", f"f{n}", "text/plain", 1.0, 2.0) for n in range(2)]
        draft.add_files(pack, rows, lambda: None)
        draft.publish(pack)
        record(
            number, owner="ann", submitter=10, project="1234", instrument=54, extra={"operator": "Ada"},
            key_values=[("Temp C", "27")], file_key_values=[(first + 1, "unit", "K")],
        )  # fmt: skip
        notice.owe(number)


def settings(url, **more):
    return Notifications(url=url, **{"retry_seconds": 0.01, **more})


def waiting():
    return [(row.job, row.tries) for row in notice.Notice.select().order_by(notice.Notice.job)]


def test_the_event_is_the_one_that_pacificas_metadata_sends(tables, receiver):
    archived(7)
    assert courier.deliver(7, settings(receiver.url))
    ((path, kind, event),) = receiver.seen
    assert (path, kind) == ("/receive", "application/json")
    data, when = event.pop("data"), event.pop("eventTime")
    assert time.strptime(when, "%Y-%m-%dT%H:%M:%S")
    assert list(event.items()) == [
        ("cloudEventsVersion", "0.1"), ("eventType", "org.pacifica.metadata.ingest"),
        ("source", "http://metadata.pacifica.org/transactions?_id=7"), ("eventID", "metadata.ingest.7"),
        ("extensions", {}), ("contentType", "application/json"),
    ]  # fmt: skip
    file = {
        "destinationTable": "Files", "subdir": "run", "size": 4, "mimetype": "text/plain", "hashtype": "sha1",
        "hashsum": DIGEST, "ctime": "1970-01-01T00:00:01", "mtime": "1970-01-01T00:00:02",
    }  # fmt: skip
    assert data == [
        {"destinationTable": "Transactions.submitter", "value": 10},
        {"destinationTable": "Transactions.project", "value": "1234"},
        {"destinationTable": "Transactions.instrument", "value": 54},
        {"destinationTable": "Transactions.operator", "value": "Ada"},
        {"destinationTable": "TransactionKeyValue", "key": "Temp C", "value": "27"},
        file | {"_id": 70, "name": "f0"},
        file | {"_id": 71, "name": "f1"},
        {"destinationTable": "FileKeyValue", "file_id": 71, "key": "unit", "value": "K"},
        {"destinationTable": "Transactions._id", "value": 7},
    ]
    assert waiting() == []
    assert [entry.reason for entry in StateChange.select()][-1] == "The webhook took the event."


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 500, 503])
def test_whatever_is_no_success_is_tried_again_and_no_redirection_is_followed(tables, receiver, status):
    archived(7)
    receiver.statuses = [status]
    assert not courier.deliver(7, settings(receiver.url))
    assert [path for path, *_ in receiver.seen] == ["/receive"]
    assert waiting() == [(7, 1)]
    assert notice.Notice.get().trouble == f"HTTP {status}"
    assert courier.deliver(7, settings(receiver.url))
    assert waiting() == []


def test_a_receiver_that_is_away_makes_every_event_wait_and_loses_none(tables, receiver):
    for number in (7, 8):
        archived(number)
    url = receiver.url
    receiver.shutdown()
    receiver.server_close()
    assert not courier.deliver(7, settings(url, retry_seconds=60.0))
    assert waiting() == [(7, 1), (8, 0)]
    assert notice.due() is None


def test_a_receiver_that_drips_holds_nobody(tables):
    listener = socket.create_server(("127.0.0.1", 0))
    archived(7)

    def drip():
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            for byte in b"HTTP/1.1 200 OK\r\nX-Drip: " + b"x" * 1000:
                time.sleep(0.2)
                connection.sendall(bytes([byte]))

    threading.Thread(target=drip, daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    assert not courier.deliver(7, settings(url, timeout_seconds=0.5))
    listener.close()
    assert waiting() == [(7, 1)]


def test_waits_double_and_end_at_five_minutes(tables, receiver):
    archived(7)
    for number in range(12):
        receiver.statuses = [500]
        orm.execute("UPDATE notice SET not_before = 0")
        begun, most = orm.clock(), min(2.0**number, 300.0)
        courier.deliver(7, settings(receiver.url, retry_seconds=1.0))
        assert begun + 0.75 * most <= notice.Notice.get().not_before <= orm.clock() + most


def test_the_duty_delivers_everything_that_is_due_from_a_thread_of_its_own(tables, receiver):
    for number in (7, 8, 9):
        archived(number)
    receiver.statuses = [503]
    duty = courier.Courier(lambda: Settings(notifications=settings(receiver.url)))

    def delivered():
        duty()
        return not waiting()

    until(delivered, 60, "the delivery of all")
    taken = [event["eventID"] for *_, event in receiver.seen]
    assert sorted(set(taken)) == ["metadata.ingest.7", "metadata.ingest.8", "metadata.ingest.9"]
    assert len(taken) == 4


def test_nobody_is_told_unless_it_is_wanted_here():
    assert not Settings().notifies
    assert Settings(notifications=Notifications(url="http://x/")).notifies
    assert not Settings(notifications=Notifications(url="http://x/", disabled=True)).notifies
    told_by_metadata = Metadata(ingest_url="http://y/")
    assert not Settings(notifications=Notifications(url="http://x/"), metadata=told_by_metadata).notifies
