"""Delivers the events of archived jobs to the webhook of [notifications], in the shape that Pacifica's metadata sends.

Pacifica's notifications service, or whatever takes its place, is the receiver (docs/events.md#webhook).  One event at a
time, until it is taken: a receiver that is away or says no makes all events wait, twice as long each time.
"""

import json
import logging
import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any
from urllib.parse import unquote

import urllib3
from urllib3.exceptions import HTTPError

from ..common import deadline, orm
from ..common.catalog import FileKeyValue, Transaction, TransactionKeyValue, files_of
from ..common.errors import ServiceError
from ..common.moment import iso
from .config import Notifications, Settings
from .notice import due, failed, taken, tries_of
from .orm import Job

log = logging.getLogger(__name__)

BACKOFF_MAX_SECONDS = 300.0
MIN_RATE = 16 << 10  # bytes a second at which an event is taken at least
KEPT = ("name", "subdir", "size", "mimetype", "hashtype", "hashsum", "ctime", "mtime")


class Courier:
    """The duty that has due events delivered, by a thread of its own: no receiver ever holds the sweeper."""

    name = "courier"

    def __init__(self, settings: Callable[[], Settings]) -> None:
        """Deliver as ``settings()`` say; the thread starts with the first event."""
        self.settings = settings
        self._called = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self) -> int:
        """Wake the thread when an event is due."""
        if not self.settings().notifies or due() is None:
            return 0
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="pacifica-courier", daemon=True)
            self._thread.start()
        self._called.set()
        return 1

    def _run(self) -> None:
        while self._called.wait():
            self._called.clear()
            try:
                while (job_id := due()) is not None:
                    deliver(job_id, self.settings().notifications)
            except ServiceError as error:  # the database is away; the sweeper calls again
                log.warning("courier: %s", error)
            except Exception:
                log.exception("courier: an event was not delivered")


def deliver(job_id: int, settings: Notifications) -> bool:
    """Try once to deliver the event of job ``job_id``, and note how that went; return whether it was taken."""
    trouble = _post(job_id, settings)
    if trouble is None:
        with orm.transaction():
            taken(job_id)
            _note(job_id, "The webhook took the event.")
        return True
    delay = min(BACKOFF_MAX_SECONDS, settings.retry_seconds * 2 ** min(tries_of(job_id), 20)) * random.uniform(0.75, 1)
    log.warning("the event of job %s was not taken (%s); trying again in %.1f s", job_id, trouble, delay)
    failed(job_id, trouble, delay)
    return False


def envelope(job_id: int) -> dict[str, Any]:
    """Return the event of a job without its ``data``, in the members' order of Pacifica's metadata."""
    transaction = Transaction.get_by_id(job_id)
    return {
        "cloudEventsVersion": "0.1",
        "eventType": "org.pacifica.metadata.ingest",
        "source": f"http://metadata.pacifica.org/transactions?_id={job_id}",
        "eventID": f"metadata.ingest.{job_id}",
        "eventTime": iso(transaction.created),
        "extensions": {},
        "contentType": "application/json",
    }


def metadata(job_id: int) -> Iterator[dict[str, Any]]:
    """Yield the metadata list of an archived job as the catalogue has it, with the ids that it gave."""
    transaction = Transaction.get_by_id(job_id)
    for name in ("submitter", "project", "instrument"):
        value = getattr(transaction, name)
        number = name != "project" and value.isascii() and value.isdecimal()  # ids of people and instruments
        yield {"destinationTable": f"Transactions.{name}", "value": int(value) if number else value}
    for name, value in json.loads(transaction.extra).items():
        yield {"destinationTable": f"Transactions.{name}", "value": value}
    said = TransactionKeyValue.select().where(TransactionKeyValue.transaction == job_id)
    for each in said.order_by(TransactionKeyValue.id):
        yield {"destinationTable": "TransactionKeyValue", "key": each.key, "value": each.value}
    first = last = 0
    for file in files_of(job_id):
        first, last = first or file["_id"], file["_id"]
        yield {"destinationTable": "Files", "_id": file["_id"]} | {key: file[key] for key in KEPT}
    if first:
        for each in FileKeyValue.select().where(FileKeyValue.file.between(first, last)).order_by(FileKeyValue.id):
            yield {"destinationTable": "FileKeyValue", "file_id": each.file, "key": each.key, "value": each.value}
    yield {"destinationTable": "Transactions._id", "value": job_id}


def _post(job_id: int, settings: Notifications) -> str | None:
    """Send the event; return None when it was taken, else why not.

    Only the configured URL is ever asked: a redirection is not followed, no proxy or password of the environment used.
    """
    with tempfile.TemporaryFile() as file, deadline.pool(1, retries=False) as pool:
        _write(job_id, file)  # on disk: of 100,000 files it has some 30 MB
        size = file.tell()
        file.seek(0)
        known = urllib3.util.parse_url(settings.url).auth
        headers = {
            **urllib3.make_headers(user_agent="pacifica-ingest", basic_auth=unquote(known) if known else None),
            "Content-Type": "application/json",
            "Content-Length": str(size),
        }
        with deadline.within(settings.timeout_seconds + size / MIN_RATE) as exchange:
            try:
                answer = pool.request(
                    "POST",
                    settings.url,
                    body=file,
                    headers=headers,
                    timeout=settings.timeout_seconds,
                    redirect=False,
                    preload_content=False,
                )
            except (HTTPError, OSError) as error:
                return "TooSlow" if exchange.expired else type(error).__name__
        answer.close()
        return None if 200 <= answer.status < 300 else f"HTTP {answer.status}"


def _write(job_id: int, file: IO[bytes]) -> None:
    file.write(json.dumps(envelope(job_id)).encode()[:-1] + b', "data": [')
    for number, entry in enumerate(metadata(job_id)):
        file.write((b", " if number else b"") + json.dumps(entry).encode())
    file.write(b"]}")


def _note(job_id: int, reason: str) -> None:
    job = Job.get_or_none(Job.id == job_id)
    if job is not None:
        job.note(reason, who="courier")
