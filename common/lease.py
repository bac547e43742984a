"""Leases on rows: taken with a claim, renewed by one thread of the process, ended with the work.

The lease's time is the database's clock; the thread's own pace is monotonic.  A lease that could not be renewed in
time may go to another worker: the attempt number, not the lease, decides whose changes count.
"""

import logging
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import peewee

from . import fork, orm
from .errors import ServiceError

RETRY_SECONDS = 0.5  # after a renewal that the database did not answer

logger = logging.getLogger(__name__)


def new_holder() -> str:
    """Return a name for one holder of one lease: host, process, and something unique."""
    return f"{_process(os.getpid())}{uuid.uuid4().hex[:12]}"


def is_of(holder: str, pid: int) -> bool:
    """Tell whether ``holder`` was named by process ``pid`` of this host."""
    return holder.startswith(_process(pid))


def _process(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}:"


@contextmanager
def renewed(model: type[peewee.Model], key: Any, holder: str, seconds: float) -> Iterator[None]:
    """Renew the lease of ``holder`` on row ``key`` every third of ``seconds`` until the block ends."""
    lease = _Lease(model, key, holder, seconds, time.monotonic() + seconds / 3)
    _keeper.add(lease)
    try:
        yield
    finally:
        _keeper.remove(lease)


def release(model: type[peewee.Model], key: Any, holder: str) -> None:
    """End the lease of ``holder`` if it still has it; a database that is away lets it run out instead."""
    try:
        orm.execute(_sql(model, "NULL, leased_by = NULL"), key, holder)
    except ServiceError as error:
        logger.warning("%s %s: the lease was not given back (%s); it runs out", model.__name__, key, error)


@dataclass(eq=False)
class _Lease:
    model: type[peewee.Model]
    key: Any
    holder: str
    seconds: float
    due: float


class _Keeper:
    """The leases of this process and the thread that renews them."""

    def __init__(self) -> None:
        self._leases: set[_Lease] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._wakes = 0.0  # when the thread looks next; it is not woken for a lease that is due later

    def add(self, lease: _Lease) -> None:
        """Start to renew; the thread starts with the first lease."""
        with self._changed:
            self._leases.add(lease)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="pacifica-leases", daemon=True)
                self._thread.start()
            if lease.due < self._wakes:
                self._changed.notify()

    def remove(self, lease: _Lease) -> None:
        """Stop renewing; a renewal under way may still happen, which the release after it undoes."""
        with self._changed:
            self._leases.discard(lease)

    def _run(self) -> None:
        while True:
            for lease in self._wait():
                lease.due = time.monotonic() + self._renew(lease)

    def _wait(self) -> list[_Lease]:
        with self._changed:
            while True:
                moment = time.monotonic()
                due = [lease for lease in self._leases if lease.due <= moment]
                if due:
                    return due
                self._wakes = min((lease.due for lease in self._leases), default=math.inf)
                self._changed.wait(None if self._wakes == math.inf else self._wakes - moment)

    def _renew(self, lease: _Lease) -> float:
        # Returns the seconds until the next renewal.
        try:
            if not orm.execute(_sql(lease.model, f"{orm.now().sql} + ?"), lease.seconds, lease.key, lease.holder):
                self.remove(lease)  # ended by a move to a final state, or another worker's by now
            return lease.seconds / 3
        except Exception as error:  # whatever it is, the other leases must be renewed
            what = f"{lease.model.__name__} {lease.key}"
            logger.warning("%s: the lease was not renewed: %r", what, error, exc_info=True)
            return min(RETRY_SECONDS, lease.seconds / 3)


def _sql(model: type[peewee.Model], value: str) -> str:
    meta = model._meta
    return (
        f'UPDATE "{meta.table_name}" SET lease_until = {value} '
        f'WHERE "{meta.primary_key.column_name}" = ? AND leased_by = ?'
    )


@fork.in_child
def _forked() -> None:
    global _keeper
    _keeper = _Keeper()  # the thread stayed in the parent, and with it maybe a held lock


_keeper = _Keeper()
