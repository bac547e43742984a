"""Rows that are worked on: their states, the moves between them, and the claim of a worker on one of them.

The database decides every race.  ``attempt`` is a fencing number: a claim raises it before any work is done, and
every later change names it, so that a worker which was given up for dead changes nothing when it wakes.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import peewee

from . import lease, orm, statement
from .errors import Cancelled, IllegalMove, NotClaimed, ServiceError

RING_SECONDS = 10.0  # a row that was rung for is not rung for again within this time

W = TypeVar("W", bound="Work")


class StateChange(orm.Model):
    """The append-only log: who moved which row from where to where, when and why."""

    kind = peewee.CharField(max_length=20)  # the model's KIND: job, cart, ...
    row = peewee.TextField()  # its key, as text
    at = peewee.DoubleField(default=orm.clock)
    who = peewee.TextField(default="")
    source = peewee.CharField(max_length=20, null=True)  # null: the row was created
    target = peewee.CharField(max_length=20)
    attempt = peewee.IntegerField(default=0)
    trace = peewee.TextField(null=True)
    reason = peewee.TextField(default="")

    class Meta:
        indexes = ((("kind", "row"), False),)


class Work(orm.Model):
    """Base of the tables whose rows are worked on.  Change ``state`` by ``move`` and nothing else.

    Create and move a row that a worker shall take with ``ring_at=orm.clock() + RING_SECONDS`` beside the first
    ``outbox.ring``, so that the sweeper does not ring a second time at once.
    """

    state = peewee.CharField(max_length=20, index=True)
    attempt = peewee.IntegerField(default=0)  # claims so far; never goes down
    tries = peewee.IntegerField(default=0)  # claims since the row entered its state
    lease_until = peewee.DoubleField(null=True)
    leased_by = peewee.TextField(null=True)
    not_before = peewee.DoubleField(default=0.0)
    ring_at = peewee.DoubleField(default=0.0)
    deadline = peewee.DoubleField(null=True)
    cancel = peewee.TextField(null=True)  # who asked for it
    owner = peewee.TextField(default="")
    trace = peewee.TextField(null=True)
    created = peewee.DoubleField(default=orm.clock)
    updated = peewee.DoubleField(default=orm.clock)
    exception = peewee.TextField(default="")
    code = peewee.TextField(null=True)

    KIND: ClassVar[str]
    MOVES: ClassVar[Mapping[str, frozenset[str] | set[str]]] = {}
    FINAL: ClassVar[frozenset[str]] = frozenset()
    FAILED: ClassVar[str] = "FAILED"
    CANCELLED: ClassVar[str] = "CANCELLED"
    CLAIMABLE: ClassVar[frozenset[str] | None] = None  # states in which a worker may claim; None: all but FINAL
    FORGETTABLE: ClassVar[bool] = False  # a claim may be undone by a crash of the database (``orm.forgettable``)
    ALSO: ClassVar[str] = "NULL"  # an expression in SQL on the row, which a claim reads with it

    holder: str | None = None  # the lease that this object holds, set by ``claim``
    also: Any = None  # what ALSO was then

    @classmethod
    def start(cls, *, who: str | None = None, reason: str = "", **columns: Any) -> Self:
        """Insert a row with its first log entry, in one transaction, and return it as the database holds it."""
        times = {"created": orm.now(), "updated": orm.now()}
        with orm.transaction():
            row = statement.insert(cls, {**times, **columns})
            row._log(None, str(row.state), reason, who or row.owner)
        return row

    def move(
        self, to: str, *, reason: str = "", who: str | None = None, forgettable: bool = False, **columns: Any
    ) -> None:
        """Enter ``to`` and set ``columns`` with it, or raise IllegalMove; of two workers that race, one wins.

        The log entry is in the same transaction.  A move to a final state ends the lease, unless ``columns`` keep it.
        ``forgettable``: a crash of the database may undo it.  When the transaction around it does not commit, this
        object too is as it was.
        """
        source, to = str(self.state), str(to)
        if to not in self.MOVES.get(source, ()):
            raise IllegalMove(f"{source} does not lead to {to}.", id=self._pk, state=source)
        held = self._holds()
        changes: dict[str, Any] = {"state": to, "tries": 1 if held else 0, **columns}
        if to in self.FINAL:
            changes = {"lease_until": None, "leased_by": None, **changes}
        entry = (source, to, reason, who or (self.holder if held else None) or self.owner)
        self._change(changes, entry, orm.forgettable() if forgettable else "TRUE")

    def progress(self, **columns: Any) -> None:
        """Set ``columns`` without a move; IllegalMove when the row is no longer as this object knows it."""
        if "state" in columns:
            raise TypeError("state changes by move only")
        self._change(columns)

    def note(self, reason: str, who: str | None = None) -> None:
        """Write an entry into the log without a move."""
        self._log(str(self.state), str(self.state), reason, who or self.holder or self.owner)

    def fence(self) -> None:
        """Lock the row for the rest of the transaction; IllegalMove when it is no longer ours.

        Call it first in a transaction that writes other tables on behalf of this row.
        """
        if not orm.database.in_transaction():
            raise RuntimeError("fence() only holds inside a transaction")
        where, params = self._mine()
        lock = " FOR UPDATE" if orm.is_postgres() else ""
        if not orm.rows(f'SELECT 1 FROM "{self._meta.table_name}" WHERE {where}{lock}', *params):
            raise self._moved()

    def heed(self) -> None:
        """Stop here if somebody wants it: Cancelled when asked for and legal, IllegalMove when another took over."""
        where, params = self._mine()
        found = orm.rows(f'SELECT cancel FROM "{self._meta.table_name}" WHERE {where}', *params)
        if not found:
            raise self._moved()
        if found[0][0] is not None and self.CANCELLED in self.MOVES.get(self.state, ()):
            raise Cancelled(f"Cancelled by {found[0][0]}.")

    def fail(self, error: Exception, *, who: str | None = None, **columns: Any) -> None:
        """Enter FAILED with the reason; of an error that is not ours, only the type is told."""
        text, code = describe(error)
        self.move(self.FAILED, reason=text, who=who, **{"exception": text, "code": code, **columns})

    def failed(self, error: Exception) -> None:
        """React to an error that ends this row's work; override it to clean up, and call ``fail``."""
        self.fail(error)

    def cancelled(self, who: str) -> None:
        """React to a cancellation that ``who`` asked for; override it to clean up, and move to CANCELLED."""
        self.move(self.CANCELLED, reason=f"Cancelled by {who}.", who=who)

    def ask_cancel(self, who: str) -> None:
        """Ask for the end of this work: at once where nobody works on it, else at the worker's next step.

        IllegalMove when the row is in a final state.
        """
        model = type(self)
        with orm.transaction():
            asked = model.update(cancel=who, updated=orm.now(), ring_at=0.0).where(
                self._pk_expr() & model.state.not_in(list(model.FINAL))
            )
            if not asked.execute():
                ended = model.get_or_none(self._pk_expr())
                raise IllegalMove(f"It has ended: {ended.state}.", id=self._pk) if ended else self._moved()
            free = model.lease_until.is_null() | (model.lease_until < orm.now())  # its worker may be dead
            for row in model.select().where(self._pk_expr() & free & model.state.in_(_cancellable(model))):
                row.cancelled(who)
            fresh = model.get_by_id(self._pk)
        self.__data__.update(fresh.__data__)

    def refresh(self) -> Self:
        """Read this row again; IllegalMove when this object held its lease and lost it, for it must stay stale."""
        fresh = type(self).get_by_id(self._pk)
        if self._holds() and (fresh.attempt, fresh.leased_by) != (self.attempt, self.holder):
            raise self._moved()
        self.__data__.update(fresh.__data__)
        return self

    # ---- private -------------------------------------------------------------------------------------------------

    def _holds(self) -> bool:
        return self.holder is not None and self.leased_by == self.holder

    def _mine(self) -> tuple[str, list[Any]]:
        key = self._meta.primary_key.column_name
        where, params = f'"{key}" = ? AND state = ? AND attempt = ?', [self._pk, str(self.state), self.attempt]
        return (f"{where} AND leased_by = ?", [*params, self.holder]) if self._holds() else (where, params)

    def _change(
        self, columns: dict[str, Any], entry: tuple[str | None, str, str, str] | None = None, condition: str = "TRUE"
    ) -> None:
        """Set ``columns``, and with them write ``entry`` into the log: PostgreSQL takes both as one statement."""
        mine, params = self._mine()
        where = f"{mine} AND {condition}"
        columns = {**columns, "updated": orm.now()}
        if entry is None:
            found = statement.update(type(self), columns, where, *params)
        elif orm.is_postgres():
            found = statement.update(type(self), columns, where, *params, beside=self._entry(*entry))
        else:
            with orm.transaction():
                found = statement.update(type(self), columns, where, *params)
                if found is not None:
                    self._log(*entry)
        if found is None:
            raise self._moved()
        before = {name: self.__data__.get(name) for name in found}
        orm.on_rollback(lambda: self.__data__.update(before))
        self.__data__.update(found)

    def _moved(self) -> IllegalMove:
        return IllegalMove("Another worker moved it first.", id=self._pk)

    def _log(self, source: str | None, target: str, reason: str, who: str) -> None:
        text, params = self._entry(source, target, reason, who)
        orm.execute(text, *params)

    def _entry(self, source: str | None, target: str, reason: str, who: str) -> tuple[str, tuple[Any, ...]]:
        params = (self.KIND, str(self._pk), who, source, target, self.attempt, self.trace, reason)
        return _LOG.format(orm.now().sql, "?"), params


_LOG = (
    'INSERT INTO statechange (kind, "row", "at", who, source, target, attempt, trace, reason)'
    " SELECT ?, ?, {}, ?, ?, ?, ?, {}, ?"
)


def describe(error: Exception) -> tuple[str, str]:
    """Return what a client may read of ``error``, and its code; the text of a foreign error may hold paths."""
    if isinstance(error, ServiceError):
        return error.message, error.code
    return f"Internal error ({type(error).__name__}).", ServiceError.code


@dataclass(frozen=True)
class Opening:
    """The first move of work, made by the claim itself: of rows in ``source`` for which ``where`` holds, text in SQL.

    ``moment`` is the column that takes the time.
    """

    source: str
    target: str
    moment: str
    where: str


@contextmanager
def claim(model: type[W], id: Any, attempt: int, *, seconds: float, opening: Opening | None = None) -> Iterator[W]:
    """Take the row ``id`` after ``attempt`` earlier claims and yield it under a lease, renewed until the block ends.

    Where ``opening`` is about it, it is moved in the same statement.

    NotClaimed when the message was stale, or the row is final, leased, or not due.  A row whose cancellation was
    asked for is moved to CANCELLED instead, where its state allows that.
    """
    row = _take(model, id, attempt, seconds, opening)
    holder = row.holder or ""
    try:
        with lease.renewed(model, id, holder, seconds):
            yield row
    finally:
        if row.leased_by == holder:  # a move to a final state has already ended it
            lease.release(model, id, holder)


def _take(model: type[W], id: Any, attempt: int, seconds: float, opening: Opening | None = None) -> W:
    holder, now, key = lease.new_holder(), orm.now(), model._meta.primary_key.column_name
    cancellable = _cancellable(model)
    if model.CLAIMABLE is None:
        claimable, states = f"NOT {_among(model.FINAL)}", model.FINAL
    else:
        claimable, states = _among(model.CLAIMABLE), model.CLAIMABLE
    where = (
        f'"{key}" = ? AND attempt = ? AND {free()} AND not_before <= {now.sql}'
        f" AND {claimable} AND (cancel IS NULL OR NOT {_among(cancellable)})"
        f" AND {orm.forgettable() if model.FORGETTABLE else 'TRUE'}"
    )
    changes = {
        "attempt": peewee.SQL("attempt + 1"),
        "tries": peewee.SQL("tries + 1"),
        "leased_by": holder,
        "lease_until": now + seconds,
        "ring_at": 0.0,  # after the lease, or a backoff within it, the sweeper rings without delay
        "updated": now,
    }
    params = (id, attempt, *map(str, states), *map(str, cancellable))
    found = _open(model, changes, where, params, opening) if opening is not None else None
    if found is None:
        found = statement.take(model, changes, where, *params, also=model.ALSO)
    if found is not None:
        row = found[0]
        row.holder, row.also = holder, found[1]
        return row
    _cancel_if_asked(model, id)
    raise NotClaimed(id=id, attempt=attempt)


def _open(
    model: type[W], changes: Mapping[str, Any], where: str, params: tuple[Any, ...], opening: Opening
) -> tuple[W, Any] | None:
    """Claim and move at once; None where ``opening`` is not about the row, or it is not to be had."""
    id, attempt = params[:2]
    moved = {**changes, "state": opening.target, "tries": 1, opening.moment: changes["updated"]}
    where, params = f"{where} AND state = ? AND {opening.where}", (*params, opening.source)
    said = (model.KIND, str(id), changes["leased_by"], opening.source, opening.target, attempt + 1)
    if orm.is_postgres():
        entry = _LOG.format(orm.now().sql, "trace"), (*said, "")
        return statement.take(model, moved, where, *params, also=model.ALSO, beside=entry)
    with orm.transaction():
        found = statement.take(model, moved, where, *params, also=model.ALSO)
        if found is not None:
            orm.execute(_LOG.format(orm.now().sql, "?"), *said, found[0].trace, "")
        return found


def free() -> str:
    """Return the condition in SQL that nobody holds a row: it has no lease, or one that ran out."""
    return f"(lease_until IS NULL OR lease_until < {orm.now().sql})"


def _among(states: Collection[str]) -> str:
    return f"(state IN ({', '.join('?' * len(states))}))" if states else "(0 = 1)"


def _cancel_if_asked(model: type[W], id: Any) -> None:
    free = model.lease_until.is_null() | (model.lease_until < orm.now())
    asked = (model._meta.primary_key == id) & model.cancel.is_null(False) & model.state.in_(_cancellable(model)) & free
    for row in model.select().where(asked):
        try:
            row.cancelled(row.cancel)
        except IllegalMove as error:  # somebody was faster
            raise NotClaimed(id=id) from error


def _cancellable(model: type[Work]) -> list[str]:
    return [state for state, targets in model.MOVES.items() if model.CANCELLED in targets]
