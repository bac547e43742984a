"""Messages that are out: their rows are deleted together, every half second, where PostgreSQL holds them.

One by one that took a statement and a commit of each change that tells the world something.  Who dies in between leaves
rows that the sweeper publishes a second time, as it does with those of who dies between publishing and deleting.
"""

import logging
import threading
import time
from collections.abc import Collection
from typing import Any

from . import fork, orm

TOGETHER_SECONDS = 0.5  # well below the grace that the sweeper gives a row
TOGETHER = 100  # rows, then they go at once

logger = logging.getLogger(__name__)


def delete(ids: Collection[Any]) -> None:
    """Delete the rows ``ids`` of the outbox."""
    # by their ids, which are never given again, so that no other row can be meant
    orm.execute(f"DELETE FROM outbox WHERE id IN ({', '.join('?' * len(ids))}) AND {orm.forgettable()}", *ids)


def delete_soon(ids: Collection[Any]) -> None:
    """Delete the rows ``ids`` of the outbox within half a second; on SQLite, where a statement is cheap, at once."""
    if orm.is_postgres():
        _held.add(ids)
    else:
        delete(ids)


class _Held:
    """The rows of this process that are to go, and the thread that deletes them while there are any."""

    def __init__(self) -> None:
        self._ids: list[Any] = []
        self._database: Any = None  # whose ids they are
        self._changed = threading.Lock()
        self._gate = fork.Gate()
        self._thread: threading.Thread | None = None

    def add(self, ids: Collection[Any]) -> None:
        """Delete ``ids`` with what else comes within half a second."""
        with self._changed:
            if self._database is not orm.database.obj:
                self._ids, self._database = [], orm.database.obj
            self._ids += ids
            full = self._taken() if len(self._ids) >= TOGETHER else []
            if not full and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name="pacifica-sent", daemon=True)
                self._thread.start()
        if full:
            delete(full)

    def _run(self) -> None:
        while True:
            time.sleep(TOGETHER_SECONDS)
            with self._gate:
                with self._changed:
                    ids = self._taken() if self._database is orm.database.obj else []
                    if not ids:
                        self._thread = None
                        return
                try:
                    delete(ids)
                except Exception as error:  # whatever it is, what comes later must go; these are published again
                    logger.warning("%d rows of the outbox were not deleted: %r", len(ids), error, exc_info=True)

    def _taken(self) -> list[Any]:
        ids, self._ids = self._ids, []
        return ids


@fork.in_child
def _forked() -> None:
    global _held
    _held = _Held()  # the thread stayed in the parent, and with it maybe the held lock


_held = _Held()
