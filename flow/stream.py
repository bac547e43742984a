"""State changes as server-sent events (docs/flow.md#events): short streams, few at once, resumed where they ended.

A stream reads the log of state changes again and again; the place that it has come to is the id of its events.  It
lives in the request's own thread, so their number is bounded, and it ends by itself: whoever listens asks again.
"""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

from ..common import orm
from ..common.errors import Overloaded, ServiceError
from ..common.moment import zulu
from .orm import Data, State

STREAM_SECONDS = 60.0  # then it ends, and the client goes on with another
POLL_SECONDS = 0.2
PAGE = 1000  # entries of the log that are read at once
_COLUMNS = 'c.id, c."row", c.at, c.source, c.target, c.attempt, c.reason'


@dataclass(frozen=True)
class Change:
    """One change of state; ``id`` is its number in the log, which orders the changes of one object."""

    id: int
    row: str
    at: float
    source: str | None
    target: str
    attempt: int
    reason: str

    def told(self) -> dict[str, Any] | None:
        """Return what a client is told of it; None for what shows the same state."""
        source, target = _shown(self.source), _shown(self.target)
        if source == target:
            return None
        facts = {"change": self.id, "data": int(self.row), "was": source, "status": target, "time": zulu(self.at)}
        return facts | {"attempt": self.attempt, "reason": self.reason}


class Log(Protocol):
    """A part of the log, read on and on."""

    @property
    def place(self) -> int:
        """Return the number up to which all has been read; a stream that is resumed begins after it."""

    def read(self) -> list[Change]:
        """Return what is new."""

    def is_over(self) -> bool:
        """Tell whether nothing more will come."""


class OfOne:
    """The changes of one object, the earlier ones first; they are written one after the other, under its lock."""

    def __init__(self, data_id: int, after: int | None) -> None:
        """Begin behind the change ``after``, else with the creation."""
        self.data_id, self._place = data_id, after or 0

    @property
    def place(self) -> int:
        """The number of the last change that was read."""
        return self._place

    def read(self) -> list[Change]:
        """Return what is new."""
        sql = (
            f'SELECT {_COLUMNS} FROM statechange c WHERE c.kind = ? AND c."row" = ? AND c.id > ? ORDER BY c.id LIMIT ?'
        )
        found = [Change(*row) for row in orm.rows(sql, Data.KIND, str(self.data_id), self._place, PAGE)]
        self._place = found[-1].id if found else self._place
        return found

    def is_over(self) -> bool:
        """Tell whether the object has ended, or is gone, and all of it was read."""
        last = orm.rows(
            "SELECT d.state, (SELECT max(c.id) FROM statechange c WHERE c.kind = ? AND c.\"row\" = ?) FROM data d"
            " WHERE d.id = ?",
            Data.KIND, str(self.data_id), self.data_id,
        )  # fmt: skip
        return not last or (last[0][0] in Data.FINAL and (last[0][1] or 0) <= self.place)


@dataclass
class _Gap:
    """Numbers that were given and not seen: rolled back, or not committed yet by a transaction before ``mark``."""

    first: int
    last: int
    mark: int | None = None
    seen: set[int] = field(default_factory=set)


def _gaps(before: int, rows: list[tuple[Any, ...]]) -> list[_Gap]:
    """Return what is left out of ``rows``, which begin after the number ``before``."""
    numbers = [before, *(row[0] for row in rows)]
    return [_Gap(low + 1, high - 1) for low, high in pairwise(numbers) if high > low + 1]


class OfOwner:
    """The changes of all objects of one owner (None: of everybody).

    PostgreSQL gives numbers before commits: what was left out is looked for until no transaction of then is left.
    """

    def __init__(self, owner: str | None, after: int | None) -> None:
        """Begin behind the change ``after``, else now."""
        self.owner, self._gaps, self._position = owner, list[_Gap](), after or 0
        if after is None:
            self._position = last = int(orm.rows("SELECT coalesce(max(id), 0) FROM statechange")[0][0])
            if orm.is_postgres() and last:
                first = max(0, last - PAGE)
                self._gaps = _gaps(first, self._rows(first, last))

    @property
    def place(self) -> int:
        """The number up to which nothing can be missing any more."""
        return min([gap.first - 1 for gap in self._gaps] or [self._position])

    def is_over(self) -> bool:
        """There is always more to come."""
        return False

    def read(self) -> list[Change]:
        """Return what is new, oldest first."""
        oldest, following = self._snapshot()
        found: list[Change] = []
        for gap in self._gaps:
            rows = [row for row in self._rows(gap.first - 1, gap.last) if row[0] not in gap.seen]
            gap.seen.update(row[0] for row in rows)
            found += [Change(*row[:-1]) for row in rows if row[-1]]
        self._gaps = [gap for gap in self._gaps if gap.mark is None or gap.mark > oldest]
        for gap in self._gaps:
            gap.mark = following if gap.mark is None else gap.mark
        rows = self._rows(self._position, None)
        if orm.is_postgres():  # SQLite has one writer, so that numbers are given in the order of commits
            self._gaps += _gaps(self._position, rows)
        self._position = rows[-1][0] if rows else self._position
        return found + [Change(*row[:-1]) for row in rows if row[-1]]

    def _rows(self, after: int, until: int | None) -> list[tuple[Any, ...]]:
        """Return entries of the log, whosever; the last column tells whether it is one of ours."""
        mine, owner = ("TRUE", []) if self.owner is None else ("d.owner = ?", [self.owner])
        bound, limit = ("", []) if until is None else (" AND c.id <= ?", [until])
        return orm.rows(
            f"SELECT {_COLUMNS}, d.id IS NOT NULL FROM statechange c LEFT JOIN data d ON {mine}"
            " AND d.id = CAST(CASE WHEN c.kind = 'data' THEN c.\"row\" END AS BIGINT)"
            f" WHERE c.id > ?{bound} ORDER BY c.id LIMIT ?",
            *owner, after, *limit, PAGE if until is None else until - after,
        )  # fmt: skip

    def _snapshot(self) -> tuple[int, int]:
        """Return the oldest transaction that has not ended, and the next one that will begin."""
        if not orm.is_postgres():
            return 0, 0
        sql = "SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text FROM pg_current_snapshot() s"
        oldest, following = orm.rows(sql)[0]
        return int(oldest), int(following)


class Places:
    """How many streams this process carries at once: each holds a thread that others may need."""

    def __init__(self, most: int) -> None:
        """Carry ``most``."""
        self._most, self._taken, self._lock = most, dict[object, float](), threading.Lock()

    def take(self, who: object, until: float) -> None:
        """Take a place; Overloaded when there is none."""
        with self._lock:
            now = time.monotonic()
            self._taken = {other: end for other, end in self._taken.items() if end > now}
            if len(self._taken) >= self._most:
                raise Overloaded("Too many event streams are open: ask for the state instead, or come back later.")
            self._taken[who] = until

    def give_back(self, who: object) -> None:
        """Let another have it."""
        with self._lock:
            self._taken.pop(who, None)


class Stream:
    """The body of one answer; ``close`` gives its place back."""

    def __init__(self, log: Log, places: Places, heartbeat_seconds: float) -> None:
        """Take a place and read ``log``; after ``heartbeat_seconds`` of silence see whether the client is there."""
        self._log, self._places, self._heartbeat = log, places, heartbeat_seconds
        self._until = time.monotonic() + STREAM_SECONDS
        self._pieces = self._run()
        places.take(self, self._until + 2 * heartbeat_seconds)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        """End it."""
        self._places.give_back(self)

    def _run(self) -> Iterator[bytes]:
        yield f"retry: 1000\nid: {self._log.place}\n\n".encode()
        heard = time.monotonic()
        while time.monotonic() < self._until:
            try:
                over = self._log.is_over()
                found = self._log.read()
            except ServiceError as error:  # the database is away: the client comes again, with its place
                yield f": {error.code}\n\n".encode()
                return
            told = [event for change in found if (event := change.told()) is not None]
            if told or time.monotonic() - heard > self._heartbeat:
                heard = time.monotonic()
                yield b"".join(_event(event) for event in told) + f": still here\nid: {self._log.place}\n\n".encode()
            if over:
                return
            time.sleep(POLL_SECONDS)


def _event(facts: dict[str, Any]) -> bytes:
    return f"event: state\ndata: {json.dumps(facts)}\n\n".encode()


def _shown(state: str | None) -> str | None:
    return "PR" if state == State.FO else state
