"""The tables of Pacifica's cartd 0.7.0 (schemas 0.1, 1.0 and 2.0) turned into ours, in place, in one transaction.

A cart that lives there is staged anew: its files are looked up in the archive and held against their digests, so that
it can be downloaded again, or says why not.  What its old folder held is not read: nothing vouches for those bytes.
"""

import datetime
from collections.abc import Iterator
from typing import Any

import peewee

from ..common import orm
from ..common.state import StateChange
from .selection import REPEATED, Checker, Wanted

CARTS, FILES = "cart_0_7", "file_0_7"  # the old tables, until they are read
PAGE = 1000
EXPIRED = "This cart was made by an earlier version and cannot be served any more"
_CART_COLUMNS = (
    "id", "cart_uid", "bundle", "state", "exception", "code", "created", "updated", "files_total", "cleared",
    "attempt", "tries", "not_before", "ring_at", "owner", "bytes_total", "staged", "read_until", "pending_bytes",
)  # fmt: skip
_FILE_COLUMNS = ("cart", "file_name", "bundle_path", "hash_type", "hash_value", "status", "error")
_LOG_COLUMNS = ("kind", "row", "at", "who", "target", "attempt", "reason")


def take_over(cart: type[peewee.Model], file: type[peewee.Model]) -> None:
    """Replace cartd 0.7.0's tables by those of the models, with what they hold; call it in a transaction."""
    columns = {column.name for column in orm.database.get_columns("cart")}
    orm.execute("DROP TABLE IF EXISTS carttasks")  # Celery's ids: nobody waits for those tasks
    for table, old in (("cart", CARTS), ("file", FILES)):
        orm.execute(f"ALTER TABLE {table} RENAME TO {old}")
    orm.execute("DROP INDEX IF EXISTS file_cart_id")  # our table has one of that name
    cart.create_table()
    file.create_table()
    for id, uid, created, updated, deleted, status, error, bundle in _carts("bundle" in columns):
        files = [] if deleted is not None or status in ("deleted", "error") else list(_files(id))
        state, reason = _state(deleted, status, error, files)
        moments = _epoch(created), _epoch(updated)
        row = (id, str(uid)[:255], bool(bundle), state, reason, None, *moments, len(files), state == "DELETED")
        orm.insert_rows(cart, _CART_COLUMNS, [(*row, 0, 0, 0.0, 0.0, "", 0, False, 0.0, 0)])
        if state == "STAGING":
            orm.insert_rows(file, _FILE_COLUMNS, [_file_row(id, wanted) for wanted in files])
        entry = ("cart", str(id), orm.clock(), "dbsync", state, 0, "taken over from an earlier version")
        orm.insert_rows(StateChange, _LOG_COLUMNS, [entry])
    for table in (FILES, CARTS):
        orm.execute(f"DROP TABLE {table}")
    if orm.is_postgres():
        orm.rows("SELECT setval(pg_get_serial_sequence('cart', 'id'), (SELECT coalesce(max(id), 0) + 1 FROM cart))")


def _carts(has_bundle: bool) -> Iterator[tuple[Any, ...]]:
    bundle = "bundle" if has_bundle else "0"
    after = 0
    while page := orm.rows(
        f"SELECT id, cart_uid, creation_date, updated_date, deleted_date, status, error, {bundle} FROM {CARTS}"
        " WHERE id > ? ORDER BY id LIMIT ?",
        after, PAGE,
    ):  # fmt: skip
        yield from page
        after = page[-1][0]


def _files(cart_id: int) -> Iterator[Wanted]:
    sql = f"SELECT file_name, bundle_path, hash_type, hash_value FROM {FILES} WHERE cart_id = ? ORDER BY id"
    for id, path, hashtype, hashsum in orm.rows(sql, cart_id):
        yield Wanted(id=str(id), path=str(path), hashtype=str(hashtype), hashsum=str(hashsum))


def _state(deleted: object, status: str, error: str, files: list[Wanted]) -> tuple[str, str]:
    """Return the state that an old cart enters, and what its clients are told where that is ERROR."""
    if deleted is not None or status == "deleted":
        return "DELETED", ""
    if status == "error":
        return "ERROR", error or "The cart failed."
    if not files:
        return "ERROR", f"{EXPIRED}: it has no files."
    checker = Checker()
    try:
        for wanted in files:
            checker.check(wanted)
    except ValueError as fault:
        return "ERROR", f"{EXPIRED}: {fault}."
    if checker.repeated():
        return "ERROR", f"{EXPIRED}: {REPEATED}."
    if clashes := checker.clashes():
        return "ERROR", f"{EXPIRED}: {clashes[0]!r} is a file and a folder."
    return "STAGING", ""


def _file_row(cart_id: int, wanted: Wanted) -> tuple[Any, ...]:
    digest = wanted.hashtype.lower(), wanted.digest()
    return cart_id, wanted.file_id(), wanted.member(), *digest, "waiting", ""


def _epoch(moment: datetime.datetime | str | None) -> float:
    """Return a time that cartd 0.7.0 wrote, local and without a zone, as seconds since 1970."""
    if moment is None:
        return orm.clock()
    known = datetime.datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return known.timestamp()  # naive means local, to Python too
