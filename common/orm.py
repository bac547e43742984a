"""The one database of the suite: connecting, sessions, transactions, raw rows.

SQL is the truth (``docs/architecture.md``), so this room decides what a commit means: hooks that tell the world about
a change run after the outermost commit and never before, and a change of an object in memory is taken back when the
database takes it back.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import peewee
from playhouse import db_url
from playhouse.pool import PooledSqliteDatabase

from . import fork
from .engine import Engine
from .errors import BadConfiguration, DatabaseAway, SchemaMismatch
from .hooks import Hook, Pending
from .sqlite import SqliteEngine

try:
    from .postgres import PostgresEngine
except ImportError:  # psycopg is an extra
    PostgresEngine = None  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    from .config import Database as Settings

logger = logging.getLogger(__name__)

database = peewee.DatabaseProxy()
"""The database that every model is bound to; ``connect`` fills it."""

# peewee 4 dropped the names that Pacifica's default configuration uses
db_url.register_database(peewee.SqliteDatabase, "sqliteext")
db_url.register_database(PooledSqliteDatabase, "sqliteext+pool")

_POSTGRES = {f"{name}{pool}" for name in ("postgres", "postgresql", "postgresext", "postgresqlext", "psycopg3")
             for pool in ("", "+pool")}  # fmt: skip
_SQLITE = {f"{name}{pool}" for name in ("sqlite", "sqliteext") for pool in ("", "+pool")}
_POOL_WORDS = ("max_connections", "stale_timeout", "timeout")  # what a pooled URL may say and SQLite has no use for

_connecting = threading.Lock()
_pending = Pending()
_settings: "Settings | None" = None
_owner = os.getpid()
_inherited: list[Any] = []  # databases of the parent process: never closed here, since closing would end its sessions


class SerialField(peewee.BigAutoField):
    """A 64-bit primary key that counts up and never gives a number twice, also after the newest row was deleted."""

    def ddl(self, ctx: Any) -> Any:
        """Say AUTOINCREMENT where a plain key would reuse numbers: on SQLite."""
        nodes = super().ddl(ctx)
        return nodes if is_postgres() else peewee.NodeList((nodes, peewee.SQL("AUTOINCREMENT")))


class Model(peewee.Model):
    """The base of every table; its name is the lower-case class name, its key a SerialField unless it declares one."""

    id = SerialField()

    class Meta:
        database = database
        legacy_table_names = False
        table_function = staticmethod(lambda model: model.__name__.lower())


# ---- connecting --------------------------------------------------------------------------------------------------


def connect(settings: "Settings", *, create: bool = True) -> peewee.Database:
    """Connect this process to ``settings.peewee_url`` and return the database; the same URL again changes nothing.

    Unless told to ``create`` it, SchemaMismatch names a SQLite file that is not there.

    Tries ``connect_attempts`` times, ``connect_wait`` seconds apart, then raises DatabaseAway.  BadConfiguration for
    an URL that the suite cannot use, or another one than this process already uses.
    """
    global _settings, _owner
    with _connecting:
        if _settings is not None and database.obj is not None:
            if _settings.peewee_url != settings.peewee_url:
                raise BadConfiguration("This process already uses another database.", section="database")
            return database.obj
        engine = _engine(settings)
        if not create and isinstance(engine, SqliteEngine) and not Path(engine.database).exists():
            raise SchemaMismatch(f"There is no database {Path(engine.database).absolute()}.")
        _wait_for(engine, settings)
        database.initialize(engine)
        _settings, _owner = settings, os.getpid()
        return engine


def disconnect() -> None:
    """Close every connection of this process, whichever thread opened it; ``connect`` may follow."""
    global _settings
    with _connecting:
        engine = database.obj
        database.initialize(None)
        _settings = None
    _pending.reset()
    if engine is not None:
        engine.close_all()  # peewee's pool has it, and SqliteEngine


@fork.in_child
def forked() -> None:
    """Give a forked child its own connections; called by itself after a fork, harmless to call again.

    What the parent opened is kept and not closed: closing it here would end the parent's sessions, or drop its locks.
    """
    global _owner, _connecting
    if _owner == os.getpid():
        return
    _owner = os.getpid()
    _connecting = threading.Lock()  # the parent may have held it
    _pending.reset()
    if database.obj is not None and _settings is not None:
        _inherited.append(database.obj)
        database.initialize(_engine(_settings))


def is_postgres() -> bool:
    """Tell whether the database in use is PostgreSQL (else it is SQLite)."""
    return not isinstance(database.obj, SqliteEngine)


# ---- time --------------------------------------------------------------------------------------------------------


def now() -> Any:
    """Return the SQL expression of the database's clock: seconds since 1970 UTC, a double, to the millisecond."""
    if is_postgres():
        return peewee.SQL("extract(epoch FROM clock_timestamp())::double precision")
    return peewee.SQL("((julianday('now') - 2440587.5) * 86400.0)")


def clock() -> float:
    """Read the database's clock."""
    return float(rows(f"SELECT {now().sql}")[0][0])


# ---- sessions and transactions -----------------------------------------------------------------------------------


def session() -> AbstractContextManager[None]:
    """Hold one connection for a block of work; a context manager, usable nested.

    On PostgreSQL the outermost block gives the connection back to the pool, so keep no session open while a body is
    read or another service is asked.  A connection that broke is replaced on entry, and discarded at the end.
    Statements outside a session work too: each borrows a connection for itself.
    """
    return database.session()


@contextmanager
def transaction() -> Iterator[None]:
    """Make a block atomic (on SQLite by BEGIN IMMEDIATE); a block inside another one is part of that.

    After the commit, with its connection given back, the hooks of ``after_commit`` run; where there is none, those of
    ``on_rollback``.  A block that failed takes the whole transaction with it: who means to go on after a failure opens
    a ``savepoint``, which costs two statements more; who does not, and goes on, gets a RuntimeError in the end.
    """
    if not _pending.open:
        with _atomic():
            yield
        return
    try:
        yield
    except BaseException:
        _pending.failed = True
        raise


@contextmanager
def savepoint() -> Iterator[None]:
    """Make a part of a transaction atomic by itself, so that its failure may be caught; alone it is a transaction."""
    failed, _pending.failed = _pending.failed, False
    try:
        with _atomic():
            yield
    finally:
        _pending.failed = failed


def after_commit(hook: Callable[[], None], key: Hashable = None) -> Callable[[], None]:
    """Run ``hook`` after the outermost commit, or at once when no transaction is open.

    Of hooks with one ``key`` (not None) the first stands for all; it is returned, so that a caller may add to it.
    A hook's exception is logged and goes no further.
    """
    if key is not None:
        for known in _pending.committed:
            if known.key == key:
                return known.function
    registered = Hook(hook, key)
    if _pending.open:
        _pending.committed.append(registered)
    elif database.in_transaction():
        database.after_commit(registered)
    else:
        registered()
    return hook


def on_rollback(hook: Callable[[], None]) -> None:
    """Run ``hook`` when the innermost open ``savepoint``, or the transaction around it, does not commit."""
    if _pending.open:
        _pending.undone.append(hook)


# ---- raw SQL -----------------------------------------------------------------------------------------------------


def rows(sql: str, *params: Any) -> list[tuple[Any, ...]]:
    """Return all rows of a query with ``?`` placeholders; the fast way to read, a tenth of the ORM's cost."""
    return database.rows(sql, params)


def execute(sql: str, *params: Any) -> int:
    """Execute a statement with ``?`` placeholders; return how many rows it touched."""
    return database.change(sql, params)


def forgettable() -> str:
    """Return a condition, always true, for an UPDATE or DELETE of one row whose loss only costs that it is done again.

    PostgreSQL commits such a statement without waiting for the disk: a crash of its server may undo it, in order with
    what came before and after it.  Within a transaction the condition does nothing, and on SQLite neither.
    """
    if not is_postgres() or database.in_transaction():
        return "TRUE"
    return "set_config('synchronous_commit', 'off', true) = 'off'"


def insert_rows(model: type[peewee.Model], columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Insert ``rows`` into ``model`` by the driver's bulk path and return their number; 1-3 us a row.

    ``columns`` are field names; values go to the driver as they are, and have the types that the fields declare.  Runs
    in the caller's transaction, or in one of its own, so that all rows are there or none.
    """
    fields = [model._meta.combined[name] for name in columns]
    with transaction():
        return database.insert_rows(model._meta.table_name, fields, rows)


# ---- private -----------------------------------------------------------------------------------------------------


@contextmanager
def _atomic() -> Iterator[None]:
    """Open a transaction, or a savepoint within one; hooks registered in it live and die with it."""
    outermost = not _pending.open
    _pending.open = True
    committed, undone = len(_pending.committed), len(_pending.undone)
    try:
        with database.atomic():
            yield
            if _pending.failed:
                raise RuntimeError("a block of this transaction failed, and somebody went on")
    except BaseException:
        undoing, _pending.undone[undone:] = _pending.undone[undone:], []
        del _pending.committed[committed:]
        if outermost:
            _pending.reset()
        for undo in reversed(undoing):
            undo()
        raise
    if outermost:
        hooks = _pending.committed
        _pending.reset()
        for hook in hooks:
            if database.in_transaction():  # within somebody's bare database.atomic()
                database.after_commit(hook)
            else:
                hook()


def _engine(settings: "Settings") -> Engine:
    scheme = urlparse(settings.peewee_url).scheme
    try:
        params = db_url.parse(settings.peewee_url, unquote_password=True, unquote_user=True)
    except ValueError as error:
        raise BadConfiguration("peewee_url is not an URL.", section="database", key="peewee_url") from error
    name = params.pop("database", "")
    if scheme in _SQLITE:
        for word in _POOL_WORDS:
            params.pop(word, None)
        if ":memory:" in name or not Path(name).absolute().parent.is_dir():
            raise BadConfiguration("The folder of the SQLite file must exist.", section="database", key="peewee_url")
        return SqliteEngine(name, **params)
    if scheme not in _POSTGRES or not name:
        raise BadConfiguration("peewee_url must name a SQLite file or a PostgreSQL database.", section="database",
                               key="peewee_url", scheme=scheme)  # fmt: skip
    if PostgresEngine is None:
        raise BadConfiguration("PostgreSQL needs psycopg: install the extra 'postgresql'.", section="database")
    return PostgresEngine(name, settings.pool_size, **params)


def _wait_for(engine: Engine, settings: "Settings") -> None:
    for left in reversed(range(max(1, settings.connect_attempts))):
        try:
            with engine.session():
                if isinstance(engine, SqliteEngine):
                    engine.ensure_wal()
                engine.rows("SELECT 1", ())
            return
        except DatabaseAway as error:
            if not left:
                raise
            logger.warning("the database does not answer (%s); %d more attempts", error.__cause__, left)
            time.sleep(settings.connect_wait)
