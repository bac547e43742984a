"""What the suite adds to a peewee database, whichever it is: sessions, named failures, raw rows.

peewee raises ``OperationalError`` for a server that is gone and for a misspelt table alike; here the first becomes
DatabaseAway (or NoSpace), the second stays what it is.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import peewee
from playhouse.pool import MaxConnectionsExceeded

from .errors import Overloaded, ServiceError


class _Held(threading.local):
    """What this thread holds of one database."""

    def __init__(self) -> None:
        self.depth = 0  # sessions entered
        self.begun = False  # a transaction that we began is open


class Engine:
    """Mixed in before a peewee database class; the subclass says which failures mean that the database is away."""

    keeps_connections = False  # True: a thread keeps its connection for life

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._held = _Held()
        super().__init__(*args, **kwargs)

    # ---- connections ---------------------------------------------------------------------------------------------

    @contextmanager
    def session(self) -> Iterator[None]:
        """Hold a working connection for a block; the outermost block gives it back."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Open this thread's connection; DatabaseAway, or Overloaded when the pool stays empty."""
        try:
            return bool(super().connect(reuse_if_open))  # type: ignore[misc]
        except MaxConnectionsExceeded as error:
            raise Overloaded("All database connections are in use.") from error
        except (peewee.DatabaseError, peewee.InterfaceError) as error:
            self.raise_named(error)

    def is_broken(self) -> bool:
        """Tell whether this thread's open connection can no longer be used."""
        raise NotImplementedError

    # ---- transactions --------------------------------------------------------------------------------------------

    def begin(self, *args: Any, **kwargs: Any) -> None:
        """Start a transaction; it holds a connection until it ends, with or without a session around it."""
        self._enter()
        try:
            self.before_begin()
            try:
                super().begin(*args, **kwargs)  # type: ignore[misc]
            except BaseException:
                self.after_end()
                raise
        except (peewee.DatabaseError, peewee.InterfaceError) as error:
            self._leave()
            self.raise_named(error)
        except BaseException:
            self._leave()
            raise
        self._held.begun = True

    def commit(self) -> None:
        """Commit; a transaction that cannot be committed any more raises, it does not end quietly."""
        try:
            self.before_commit()
            super().commit()  # type: ignore[misc]
        except (peewee.DatabaseError, peewee.InterfaceError) as error:
            self.raise_named(error)  # peewee rolls back
        except BaseException:  # an interrupt, after which peewee would not
            self.rollback()
            raise
        callbacks = self._state.commit_callbacks[:]  # type: ignore[attr-defined]
        self._end()
        if self.is_closed():  # type: ignore[attr-defined]
            self._state.commit_callbacks += callbacks  # type: ignore[attr-defined]  # peewee forgot them with the connection

    def rollback(self) -> None:
        """Undo the transaction; nothing is left to undo where the database already did, or the connection is gone."""
        try:
            if self.has_transaction():
                super().rollback()  # type: ignore[misc]
        except (peewee.DatabaseError, peewee.InterfaceError) as error:
            self.raise_named(error)
        finally:
            self._end()

    def before_begin(self) -> None:
        """Wait for what a transaction needs besides a connection."""

    def after_end(self) -> None:
        """Give back what ``before_begin`` took."""

    def before_commit(self) -> None:
        """Raise when the open transaction can only be rolled back."""

    def has_transaction(self) -> bool:
        """Tell whether the database still knows of a transaction on this thread's connection."""
        raise NotImplementedError

    # ---- statements ----------------------------------------------------------------------------------------------

    def rows(self, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return all rows of a query written with ``?`` placeholders."""
        raise NotImplementedError

    def change(self, sql: str, params: Sequence[Any]) -> int:
        """Execute a statement written with ``?`` placeholders; return how many rows it touched."""
        raise NotImplementedError

    def insert_rows(self, table: str, fields: Sequence[peewee.Field], rows: Iterable[Sequence[Any]]) -> int:
        """Insert by the driver's bulk path; return the number of rows."""
        raise NotImplementedError

    def _execute_cursor(self, sql: str, params: Any, **options: Any) -> Any:
        # peewee's one road to the driver.  Outside a session the statement borrows a connection for itself.
        try:
            if self.is_closed():  # type: ignore[attr-defined]
                with self.session():
                    return super()._execute_cursor(sql, params, **options)  # type: ignore[misc]
            return super()._execute_cursor(sql, params, **options)  # type: ignore[misc]
        except (peewee.DatabaseError, peewee.InterfaceError) as error:
            self.raise_named(error)

    # ---- failures ------------------------------------------------------------------------------------------------

    def failure(self, error: BaseException) -> ServiceError | None:
        """Name what a driver's exception means for the suite; None for a mistake in a statement or its data."""
        raise NotImplementedError

    def raise_named(self, error: Exception) -> NoReturn:
        """Raise ``error`` (peewee's or the driver's) under the suite's name for it, else under peewee's."""
        if not isinstance(error, peewee.PeeweeException):
            try:
                with peewee.__exception_wrapper__:
                    raise error
            except peewee.PeeweeException as wrapped:
                error = wrapped
        named = self.failure(getattr(error, "orig", error))
        if named is None:
            raise error
        raise named from error

    # ---- private -------------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        if self.is_closed():  # type: ignore[attr-defined]
            self.connect()
        elif not self.in_transaction() and self.is_broken():  # type: ignore[attr-defined]
            self.close()  # type: ignore[attr-defined]
            self.connect()
        self._held.depth += 1

    def _leave(self) -> None:
        self._held.depth -= 1
        if self._held.depth or self.in_transaction() or self.is_closed():  # type: ignore[attr-defined]
            return
        if not self.keeps_connections or self.is_broken():
            self.close()  # type: ignore[attr-defined]

    def _end(self) -> None:
        if self._held.begun:
            self._held.begun = False
            self.after_end()
            self._leave()
