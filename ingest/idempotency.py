"""Idempotency-Key: a POST that is sent again under its key does once what it says (docs/ingest.md#idempotency).

A key belongs to its principal.  The first request under it holds a lease while it works, so that the death of the
server frees the key; what the request made is written in the commit that makes it, so that an answer that was lost
changes nothing.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..common import orm
from ..common.errors import Conflict, IllegalMove
from ..common.idempotency import KeyReused
from ..common.lease import new_holder, release, renewed
from .orm import IdempotencyKey

BATCH = 1000  # rows of one pass


class KeyInUse(Conflict):
    """A request with this Idempotency-Key is still under way."""

    code = "key_in_use"
    retryable = True
    retry_after = 1


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is known of a request before its body: the route's ``kind``, the body's length, its declared digests."""

    kind: str
    length: int | None = None
    digests: dict[str, str] = field(default_factory=dict)  # hex by algorithm


@dataclass(kw_only=True)
class Claim:
    """A request's claim to its key.

    ``same`` is the id of what an earlier request of the same kind, length and digest made: answer that.  Where
    ``unsure``, an earlier one was as long but nobody declared a digest: read the body, and ask ``compare``.
    Else the work is ours: write ``keep`` into the commit that does it.
    """

    same: str | None = None
    unsure: bool = False
    _row: IdempotencyKey | None = None
    _holder: str = ""

    def begin(self, subject: object) -> None:
        """Name what is being made, in the caller's transaction, so that whoever comes after our death finds it."""
        self._write(subject=str(subject))

    def keep(self, subject: object, content: str | None = None) -> None:
        """Name what was made and what the body was, in the commit that makes it; IllegalMove when it is too late."""
        self._write(subject=str(subject), content=content, done=True)

    def compare(self, content: str) -> str:
        """Return the id of what the earlier request made; KeyReused when its body was not ``content``."""
        assert self._row is not None
        if self._row.content != content:
            raise KeyReused()
        return str(self._row.subject)

    @property
    def given(self) -> bool:
        """Whether there is a key at all."""
        return self._row is not None

    def _write(self, **columns: object) -> None:
        if self._row is None:
            return
        model = IdempotencyKey
        ours = (model.id == self._row.id) & (model.leased_by == self._holder)
        if not model.update(columns).where(ours).execute():
            raise IllegalMove("Another request with this Idempotency-Key took over.")


@contextmanager
def once(owner: str, key: str | None, request: Request, seconds: float) -> Iterator[tuple[Claim, str | None]]:
    """Yield the claim of ``owner``'s ``request`` to ``key``, and the id of what a dead request before it had begun.

    Raises KeyReused for another request than the key stands for, KeyInUse while the first is under way, which is held
    to be dead ``seconds`` after its server was last heard of.
    """
    if key is None:
        yield Claim(), None
        return
    holder = new_holder()
    row = _take(owner, key, request, holder, seconds)
    if row is None:
        yield _earlier(owner, key, request), None
        return
    try:
        with renewed(IdempotencyKey, row.id, holder, seconds):
            yield Claim(_row=row, _holder=holder), row.subject
    finally:
        release(IdempotencyKey, row.id, holder)


def forget(days: float) -> int:
    """Remove the keys that are older than ``days``."""
    model = IdempotencyKey
    free = model.lease_until.is_null() | (model.lease_until < orm.now())
    old = model.select(model.id).where((model.created < orm.now() - days * 86400) & free).limit(BATCH)
    found = [id for (id,) in old.tuples()]
    return int(model.delete().where(model.id.in_(found)).execute()) if found else 0


def _take(owner: str, key: str, request: Request, holder: str, seconds: float) -> IdempotencyKey | None:
    """Lease the key unless what it stands for is done or under way; one statement, so that of two requests one wins."""
    now = orm.now().sql
    taken = orm.rows(
        "INSERT INTO idempotencykey (owner, key, kind, length, digests, done, created, lease_until, leased_by) "
        f"VALUES (?, ?, ?, ?, ?, ?, {now}, {now} + ?, ?) "
        "ON CONFLICT (owner, key) DO UPDATE SET "
        "subject = CASE WHEN idempotencykey.kind = excluded.kind THEN idempotencykey.subject END, "
        "kind = excluded.kind, length = excluded.length, content = NULL, "
        "digests = excluded.digests, lease_until = excluded.lease_until, leased_by = excluded.leased_by "
        "WHERE NOT idempotencykey.done "
        f"AND (idempotencykey.lease_until IS NULL OR idempotencykey.lease_until < {now}) RETURNING id",
        owner, key, request.kind, request.length, json.dumps(request.digests), False, seconds, holder,
    )  # fmt: skip
    return IdempotencyKey.get_by_id(taken[0][0]) if taken else None


def _earlier(owner: str, key: str, request: Request) -> Claim:
    model = IdempotencyKey
    row = model.get_or_none((model.owner == owner) & (model.key == key))
    if row is None or not row.done:
        error = KeyInUse()
        if row is not None and row.lease_until is not None:
            error.retry_after = max(1, math.ceil(row.lease_until - orm.clock()))
        raise error
    if row.kind != request.kind or (None not in (row.length, request.length) and row.length != request.length):
        raise KeyReused()
    declared = json.loads(row.digests)
    both = declared.keys() & request.digests.keys()
    if any(declared[algorithm] != request.digests[algorithm] for algorithm in both):
        raise KeyReused()
    if both:
        return Claim(same=str(row.subject), _row=row)
    return Claim(unsure=True, _row=row)
