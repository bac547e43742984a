"""SQLite as the suite uses it: write-ahead log, full synchronisation, a connection per thread, one writer at a time."""

import logging
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import peewee

from .engine import Engine
from .errors import DatabaseAway, NoSpace, ServiceError
from .letters import small

BUSY_SECONDS = 30.0
PRAGMAS = (
    ("synchronous", "full"),  # with normal, a power cut loses commits that were answered
    ("foreign_keys", 1),
    ("journal_size_limit", 64 << 20),
    ("temp_store", "memory"),
)

_AWAY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_BREAKING = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

logger = logging.getLogger(__name__)


class Cursor(sqlite3.Cursor):
    """A cursor whose rows fail by the suite's names: a statement that returns rows commits with the last of them."""

    connection: "Connection"

    def fetchone(self) -> Any:
        """Return the next row; this is how peewee reads."""
        try:
            return super().fetchone()
        except sqlite3.Error as error:
            self.connection.failed(error)


class Connection(sqlite3.Connection):
    """A connection that can be weakly referenced, and that knows when it should be given up."""

    broken = False
    failed: Callable[[Exception], NoReturn]

    def cursor(self, factory: Any = Cursor) -> Any:
        """Return a cursor of ours."""
        return super().cursor(factory)


class SqliteEngine(Engine, peewee.SqliteDatabase):
    """A SQLite file; each transaction is ``BEGIN IMMEDIATE``: a snapshot that turns writer ignores the busy timeout.

    For the same reason nobody writes while he still takes rows from a query: these are taken first, as a list.
    """

    keeps_connections = True

    def __init__(self, path: str, **params: Any) -> None:
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._writer = threading.Lock()
        super().__init__(
            path,
            pragmas=PRAGMAS,
            timeout=BUSY_SECONDS,
            lock_type="IMMEDIATE",
            check_same_thread=False,  # only so that close_all may close what other threads opened
            factory=Connection,
            **params,
        )
        self.register_function(small, "small", 1, deterministic=True)  # queries alone use it, never triggers or indexes

    def ensure_wal(self) -> None:
        """Switch the file to the write-ahead log unless it is in it.

        The mode is a property of the file, and the switch ignores the busy timeout: set by each connection, it made
        two processes that started together fail with "database is locked".
        """
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                if self.rows("PRAGMA journal_mode", ())[0][0] == "wal":
                    return
                mode = self.rows("PRAGMA journal_mode = wal", ())[0][0]
            except DatabaseAway:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
                continue
            if mode != "wal":
                logger.warning("the file system of the database has no write-ahead log; journal mode is %s", mode)
            return

    def close_all(self) -> None:
        """Close the connections of every thread, also of those that are at work."""
        self.dispose()
        for connection in list(self._connections):
            connection.close()

    def is_broken(self) -> bool:
        """Tell whether this thread's connection met a failure of the file below it."""
        return bool(self._state.conn.broken)

    def before_begin(self) -> None:
        """Queue for the write lock within this process: SQLite itself only polls, up to 100 ms late."""
        if not self._writer.acquire(timeout=BUSY_SECONDS):
            raise DatabaseAway("The database is busy.")

    def after_end(self) -> None:
        """Let the next writer of this process in."""
        self._writer.release()

    def has_transaction(self) -> bool:
        """Tell whether the transaction survived: a full disk or an I/O error makes SQLite roll back by itself."""
        return not self._state.closed and bool(self._state.conn.in_transaction)

    def rows(self, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        state = self._state
        if state.closed:
            self.connect()
        try:
            return state.conn.execute(sql, params).fetchall()
        except sqlite3.Error as error:
            self.raise_named(error)

    def change(self, sql: str, params: Sequence[Any]) -> int:
        """Execute a statement; return how many rows it touched."""
        state = self._state
        if state.closed:
            self.connect()
        try:
            return int(state.conn.execute(sql, params).rowcount)
        except sqlite3.Error as error:
            self.raise_named(error)

    def insert_rows(self, table: str, fields: Sequence[peewee.Field], rows: Iterable[Sequence[Any]]) -> int:
        """Insert by ``executemany``; return the number of rows."""
        names = ", ".join(f'"{field.column_name}"' for field in fields)
        marks = ", ".join("?" * len(fields))
        try:
            cursor = self._state.conn.executemany(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', rows)
        except sqlite3.Error as error:
            self.raise_named(error)
        return max(0, int(cursor.rowcount))

    def failure(self, error: BaseException) -> ServiceError | None:
        """Name a failure by SQLite's result code; SQLITE_ERROR, a mistake in a statement, has no name of ours."""
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return None
        primary = code & 0xFF  # the rest is detail
        if primary in _BREAKING and not self._state.closed:
            if self.in_transaction():
                self._state.conn.broken = True
            else:
                self.close()
        if primary == sqlite3.SQLITE_FULL:
            return NoSpace("The database has no room to grow.")
        return DatabaseAway() if primary in _AWAY else None

    def _connect(self) -> Connection:
        connection: Connection = super()._connect()
        connection.failed = self.raise_named
        self._connections.add(connection)
        return connection
