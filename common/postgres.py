"""PostgreSQL as the suite uses it: psycopg 3 on peewee's pool, checked without a round trip."""

import re
import select
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import peewee
import psycopg
from playhouse.postgres_ext import PooledPsycopg3Database, Psycopg3ExtAdapter
from psycopg.pq import TransactionStatus

from . import pulse
from .engine import Engine
from .errors import DatabaseAway, NoSpace, ServiceError

WAIT_SECONDS = 10  # for a pooled connection, before the caller is told that we are overloaded
STALE_SECONDS = 900  # a connection's life: proxies and firewalls forget older ones

_PARAMETERS = {
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds; a server that vanished without a word
    "application_name": "pacifica",
}
_TYPES = {  # PostgreSQL's, by peewee's name
    "BIGAUTO": "int8",
    "BIGINT": "int8",
    "INT": "int4",
    "SMALLINT": "int2",
    "BOOL": "bool",
    "DOUBLE": "float8",
    "TEXT": "text",
    "VARCHAR": "varchar",
}
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\?|%""")


class _Adapter(Psycopg3ExtAdapter):
    """peewee's way to the driver, with connections that are looked after."""

    def connect(self, db: Any, **params: Any) -> pulse.Connection:
        return pulse.connect(dbname=db.database, **params)


class PostgresEngine(Engine, PooledPsycopg3Database):
    """A PostgreSQL database; a session borrows a connection from a pool and gives it back."""

    psycopg3_adapter = _Adapter

    def __init__(self, name: str, pool_size: int, **params: Any) -> None:
        params.setdefault("max_connections", pool_size)
        params.setdefault("stale_timeout", STALE_SECONDS)
        params.setdefault("timeout", WAIT_SECONDS)
        super().__init__(name, autoconnect=False, **(_PARAMETERS | params))

    def is_broken(self) -> bool:
        """Tell whether the driver knows that this thread's connection is dead."""
        return bool(self._state.conn.closed)

    def before_commit(self) -> None:
        """Refuse to commit a failed transaction: PostgreSQL would answer ROLLBACK and psycopg would call it success."""
        if self._state.conn.pgconn.transaction_status == TransactionStatus.INERROR:
            raise peewee.InternalError("a statement of this transaction failed; it can only be rolled back")

    def has_transaction(self) -> bool:
        """Tell whether the connection lives and a transaction is open on it."""
        if self._state.closed or self._state.conn.closed:
            return False
        return bool(self._state.conn.pgconn.transaction_status != TransactionStatus.IDLE)

    def rows(self, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return all rows of a query written with ``?`` placeholders."""
        return self._run(sql, params).fetchall()

    def change(self, sql: str, params: Sequence[Any]) -> int:
        """Execute a statement written with ``?`` placeholders; return how many rows it touched."""
        return int(self._run(sql, params).rowcount)

    def insert_rows(self, table: str, fields: Sequence[peewee.Field], rows: Iterable[Sequence[Any]]) -> int:
        """Insert by COPY; return the number of rows.

        In PostgreSQL's binary form, which costs us less than half of what its text does; the server takes no value of
        another type than the column's then.
        """
        names = ", ".join(f'"{field.column_name}"' for field in fields)
        try:
            with self._state.conn.cursor() as cursor:
                with cursor.copy(f'COPY "{table}" ({names}) FROM STDIN (FORMAT BINARY)') as copy:
                    copy.set_types([_TYPES[field.field_type] for field in fields])
                    for row in rows:
                        copy.write_row(row)
                return int(cursor.rowcount)
        except psycopg.Error as error:
            self.raise_named(error)

    def failure(self, error: BaseException) -> ServiceError | None:
        """Name a failure: everything operational is the server's trouble, and worth another try."""
        if isinstance(error, psycopg.errors.DiskFull):
            return NoSpace("The database has no room to grow.")
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | peewee.InterfaceError):
            return DatabaseAway()
        return None

    def _run(self, sql: str, params: Sequence[Any]) -> Any:
        try:
            if self._state.closed:
                with self.session():  # the whole result is with the client before the connection goes back
                    return self._state.conn.execute(translated(sql), params)
            return self._state.conn.execute(translated(sql), params)
        except psycopg.Error as error:
            self.raise_named(error)

    # What the pool asks.  peewee's own answers cost a round trip at every check-out.

    def _is_closed(self, conn: Any) -> bool:
        if conn.closed:
            return True
        poll = select.poll()
        poll.register(conn.fileno(), select.POLLIN)
        return bool(poll.poll(0))  # an idle connection has nothing to say, except that the server is going

    def _can_reuse(self, conn: Any) -> bool:
        if conn.closed:
            return False
        status = conn.pgconn.transaction_status
        if status == TransactionStatus.IDLE:
            return True
        if status == TransactionStatus.UNKNOWN:
            return False
        try:
            conn.rollback()
        except psycopg.Error:
            return False
        return True


@lru_cache(maxsize=1024)
def translated(sql: str) -> str:
    """Return ``sql`` with ``?`` placeholders in psycopg's spelling; quoted text keeps its question marks."""

    def spell(match: re.Match[str]) -> str:
        token = match[0]
        return "%s" if token == "?" else token.replace("%", "%%")

    return _TOKEN.sub(spell, sql)
