"""The catalogue: what a transaction was about, what is said of its files, and who is related to what.

A finished job leaves one ``Transaction`` with its key-values.  People, projects and instruments are Pacifica's: ids
are text, because sites use numbers for some and names for others.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Protocol

from peewee import SQL, BigIntegerField, BooleanField, CompositeKey, DoubleField, TextField

from . import moment, orm, statement
from .batch import BATCH, batches, windows
from .entry import KEY_VALUE_INDEX, TRANSACTION, queue
from .errors import BadRequest
from .ledger import owners


class Reader(Protocol):
    """Whoever asks (``auth.Principal`` is one)."""

    @property
    def name(self) -> str:
        """The network name that the way in established."""

    @property
    def administrator(self) -> bool:
        """May do everything."""

    @property
    def service(self) -> bool:
        """A neighbour service, which checks its own users."""


class Transaction(orm.Model):
    """One finished job; ``owner`` posted it, ``submitter`` is whom its metadata names."""

    id = BigIntegerField(primary_key=True)
    owner = TextField(index=True)
    submitter = TextField(index=True)
    project = TextField(index=True)
    instrument = TextField(index=True)
    created = DoubleField(index=True)
    extra = TextField(default="{}")  # the other Transactions.* values, a JSON object


class TransactionKeyValue(orm.Model):
    """One thing said of a transaction.  Indexed by beginnings: PostgreSQL refuses an index entry past 2,700 bytes."""

    transaction = BigIntegerField(index=True)
    key = TextField()
    value = TextField()


TransactionKeyValue.add_index(SQL(KEY_VALUE_INDEX))


class FileKeyValue(orm.Model):
    """One thing said of a file."""

    file = BigIntegerField(index=True)
    key = TextField()
    value = TextField()


class Project(orm.Model):
    """Pacifica's project (once: proposal)."""

    id = TextField(primary_key=True)
    title = TextField(default="")
    short_name = TextField(default="")
    abstract = TextField(default="")
    updated = DoubleField()


class Instrument(orm.Model):
    """Where data come from."""

    id = TextField(primary_key=True)
    name = TextField(default="")
    display_name = TextField(default="")
    name_short = TextField(default="")
    active = BooleanField(default=True)
    updated = DoubleField()


class User(orm.Model):
    """A person; ``network_id`` is the name by which requests arrive (``Principal.name``)."""

    id = TextField(primary_key=True)
    network_id = TextField(null=True, unique=True)
    first_name = TextField(default="")
    middle_initial = TextField(default="")
    last_name = TextField(default="")
    email_address = TextField(default="")
    updated = DoubleField()


class ProjectUser(orm.Model):
    """A person works on a project, as ``relationship`` says."""

    project = TextField(index=True)
    user = TextField(index=True)
    relationship = TextField(default="member_of")

    class Meta:
        """Each relation once."""

        indexes = ((("project", "user", "relationship"), True),)


class InstrumentUser(orm.Model):
    """A person runs an instrument."""

    instrument = TextField(index=True)
    user = TextField(index=True)
    relationship = TextField(default="custodian")

    class Meta:
        """Each relation once."""

        indexes = ((("instrument", "user", "relationship"), True),)


class ProjectInstrument(orm.Model):
    """An instrument serves a project."""

    project = TextField()
    instrument = TextField(index=True)

    class Meta:
        """Each relation once."""

        primary_key = CompositeKey("project", "instrument")


def record(
    id: int,
    *,
    owner: str,
    submitter: object,
    project: object,
    instrument: object,
    extra: Mapping[str, Any] | None = None,
    key_values: Iterable[tuple[str, object]] = (),
    file_key_values: Iterable[tuple[int, str, object]] = (),
) -> None:
    """Enter transaction ``id`` with its key-values, inside the caller's transaction.

    ``key_values`` are (key, value), ``file_key_values`` (file id, key, value).  Every value is kept as text, a string
    as it is and anything else as JSON; BadRequest for text that PostgreSQL cannot hold (NUL, lone surrogates).
    """
    about = {"submitter": as_text(submitter), "project": as_text(project), "instrument": as_text(instrument)}
    more = json.dumps(dict(extra or {}), sort_keys=True)
    statement.insert(Transaction, {"id": id, "owner": owner, **about, "extra": more, "created": orm.now()})
    if said := [(id, as_text(key), as_text(value)) for key, value in key_values]:
        orm.insert_rows(TransactionKeyValue, ("transaction", "key", "value"), said)
    for batch in batches(((file, as_text(key), as_text(value)) for file, key, value in file_key_values), BATCH):
        orm.insert_rows(FileKeyValue, ("file", "key", "value"), batch)
    queue(TRANSACTION, id)


def files_of(transaction: int) -> Iterator[dict[str, Any]]:
    """Yield the published files of ``transaction`` in the order of their ids, each as Pacifica's ``GET /files`` has it.

    Times are ISO 8601, UTC, whole seconds, without a zone, as the original writes them.
    """
    for page in windows(_FIRST_FILE, _FILES, transaction):
        for id, name, subdir, mimetype, size, hashsum, hashtype, ctime, mtime, created in page:
            yield {
                "_id": id,
                "name": name,
                "subdir": subdir,
                "mimetype": mimetype,
                "size": size,
                "hashsum": hashsum,
                "hashtype": hashtype,
                "transaction": transaction,
                "transaction_id": transaction,
                "encoding": "UTF8",
                "suspense_date": None,
                "ctime": iso(ctime),
                "mtime": iso(mtime),
                "created": iso(created),
                "updated": iso(created),
                "deleted": None,
            }


def may_read(principal: Reader, files: Iterable[int]) -> set[int]:
    """Return those of the published ``files`` (ids) that ``principal`` may read (design §10).

    Administrators and services read all; others what they posted, what names them as submitter, and what belongs to
    a project that they are related to.
    """
    return readable_files(principal, owners(files))


def readable_files(principal: Reader, files: Iterable[tuple[int, str, int | None]]) -> set[int]:
    """Return the ids of those ``files`` that ``principal`` may read; each is id, owner of its pack, transaction."""
    rows = list(files)
    if principal.administrator or principal.service:
        return {id for id, _, _ in rows}
    readable = readable_transactions(principal, {transaction for _, _, transaction in rows if transaction is not None})
    return {id for id, owner, transaction in rows if transaction in readable or (owner and owner == principal.name)}


def readable_transactions(principal: Reader, transactions: Iterable[int]) -> set[int]:
    """Return those of ``transactions`` whose files ``principal`` may read."""
    wanted = set(transactions)
    if principal.administrator or principal.service:
        return wanted
    names = _names(principal.name)
    projects = {row.project for row in ProjectUser.select(ProjectUser.project).where(ProjectUser.user.in_(names))}
    readable = set()
    for batch in batches(sorted(wanted), 500):
        columns = (Transaction.id, Transaction.owner, Transaction.submitter, Transaction.project)
        for id, owner, submitter, project in Transaction.select(*columns).where(Transaction.id.in_(batch)).tuples():
            if owner == principal.name or submitter in names or project in projects:
                readable.add(id)
    return readable


def readable(principal: Reader) -> tuple[str, list[str]]:
    """Return the SQL condition under which ``principal`` may read the files of transaction ``t``, and its parameters.

    The same rule as ``readable_transactions``, for queries that search.
    """
    if principal.administrator or principal.service:
        return "1 = 1", []
    names = sorted(_names(principal.name))
    marks = ", ".join("?" * len(names))
    mine = f't.owner = ? OR t.submitter IN ({marks}) OR t.project IN (SELECT project FROM projectuser WHERE "user" IN'
    return f"({mine} ({marks})))", [principal.name, *names, *names]


def as_id(value: object) -> str:
    """Return an id of a person, project or instrument as the catalogue keeps it; empty for what cannot be one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value)


def as_text(value: object) -> str:
    """Return a value as the catalogue keeps it: text as it is, else JSON.  BadRequest for what no text column holds."""
    text = value if isinstance(value, str) else json.dumps(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadRequest("A value in the metadata is no valid Unicode text.") from error
    if "\0" in text:
        raise BadRequest("A value in the metadata holds a NUL character.")
    return text


@lru_cache(maxsize=4096)  # the files of a transaction mostly share their times
def iso(seconds: float) -> str:
    """Write a time as Pacifica's metadata does: ``2026-11-21T07:37:08``, UTC."""
    known = min(max(seconds, _FIRST), _LAST)  # a tar header can claim years that a date cannot hold
    return moment.iso(known)


def _names(principal: str) -> set[str]:
    """Return the ids under which submitters and relations may name ``principal``: the person's, and the name itself
    unless another person has it as an id.
    """
    known = list(User.select(User.id, User.network_id).where((User.network_id == principal) | (User.id == principal)))
    names = {user.id for user in known if user.network_id in (principal, None)}
    return names if any(user.id == principal for user in known) else names | {principal}


_FIRST, _LAST = -62135596800, 253402300799  # years 1 and 9999


_FILES = (
    'SELECT f.id, f.name, f.subdir, f.mimetype, f."size", f.hashsum, f.hashtype, f.ctime, f.mtime, p.created'
    ' FROM archivedfile f JOIN pack p ON p.id = f.pack WHERE f."transaction" + 0 = ? AND p.published AND f.id >= ?'
    " AND f.id < ? ORDER BY f.id"
)
_FIRST_FILE = 'SELECT min(id + 0) FROM archivedfile WHERE "transaction" = ? AND id >= ?'

MODELS = (
    Transaction,
    TransactionKeyValue,
    FileKeyValue,
    Project,
    Instrument,
    User,
    ProjectUser,
    InstrumentUser,
    ProjectInstrument,
)
