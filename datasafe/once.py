"""Idempotency-Key: a request that is sent again under its key does once what it says (docs/datasafe.md#again).

No lease and no second commit: what an earlier upload made is told by the versions themselves, so it is found also where
the server died between the version and its rows, or is still at work on the first request.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha512

from ..common import orm
from ..common.idempotency import KeyReused
from .orm import RequestKey
from .taken import TakenFiles

DAYS = 7.0  # how long a key is remembered
BATCH = 1000


@dataclass(frozen=True)
class Attempt:
    """An upload under a key, which came for the first time when version ``since`` was the newest (0: none)."""

    id: int
    since: int

    def mark(self, files: TakenFiles, message: str) -> None:
        """Note what is about to be stored; KeyReused where it was something else before."""
        told = sha512(message.encode())
        for row in files.in_order():
            told.update(f"\0{files.sha512(row).hex()} {files.name(row)}".encode())
        content = told.hexdigest()
        marked = "UPDATE requestkey SET content = ? WHERE id = ? AND (content IS NULL OR content = ?)"
        if not orm.execute(marked, content, self.id, content):
            raise KeyReused()


def earlier(owner: str, key: str | None, request: str) -> Attempt | None:
    """Return the upload that ``owner`` sent under ``key`` before, if any; KeyReused where it was another request."""
    held = RequestKey.get_or_none((RequestKey.owner == owner) & (RequestKey.key == key)) if key else None
    if held is None:
        return None
    if held.request != request:
        raise KeyReused()
    return Attempt(held.id, held.since)


def begin(owner: str, key: str | None, request: str, since: int) -> Attempt | None:
    """Remember an upload under ``key``, if there is one; of two at once both are the same upload."""
    if key is None:
        return None
    orm.execute(f"{_INSERT} VALUES (?, ?, ?, ?, {orm.now().sql}) {_UNLESS}", owner, key, request, since)
    return earlier(owner, key, request)


def given(owner: str, key: str | None, request: str, give: Callable[[], str]) -> str:
    """Return the LOI that ``give`` gives, or that it gave the first time under ``key``, in one commit with the key."""
    if key is None:
        return give()
    with orm.transaction():
        sql = f"{_INSERT} VALUES (?, ?, ?, 0, {orm.now().sql}) {_UNLESS} RETURNING id"
        claimed = orm.rows(sql, owner, key, request)
        if claimed:
            made = give()
            orm.execute("UPDATE requestkey SET content = ? WHERE id = ?", made, claimed[0][0])
            return made
    held = RequestKey.get((RequestKey.owner == owner) & (RequestKey.key == key))
    if held.request != request:
        raise KeyReused()
    return str(held.content)


def forget() -> int:
    """Remove the keys that are older than DAYS."""
    old = RequestKey.select(RequestKey.id).where(RequestKey.created < orm.clock() - DAYS * 86400).limit(BATCH)
    found = [row.id for row in old]
    return int(RequestKey.delete().where(RequestKey.id.in_(found)).execute()) if found else 0


_INSERT = "INSERT INTO requestkey (owner, key, request, since, created)"
_UNLESS = "ON CONFLICT (owner, key) DO NOTHING"
