"""A transaction as Pacifica's ``PUT /metadata/ingest`` brings it: entered whole, for files that the archive holds.

The files were put at ``/archive/<id>`` before, by whoever registers them now; here they get their names and their
transaction, in the commit that enters it.  Registering the same once more changes nothing and succeeds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ..common import counter, ledger, orm
from ..common.catalog import Transaction, as_id, record
from ..common.errors import BadRequest, Conflict, PreconditionFailed
from ..common.metadata import FILE_KEY_VALUE, FILES, KEY_VALUE, MIMETYPES, REQUIRED, TRANSACTION, Entry
from ..common.moment import epoch
from ..common.pack import hasher
from ..common.state import StateChange
from .paths import NameLimits, judge

LIMITS = NameLimits(max_bytes=4096, max_depth=64)

Read = Callable[[int], Iterator[bytes]]


class BadRegistration(BadRequest):
    """The metadata cannot be entered."""

    code = "bad_metadata"


class _Entry(Entry, rename={"id": "_id"}):
    """Any entry of a document; its files were given ids before."""

    id: int | UnsetType = UNSET
    file_id: int | UnsetType = UNSET


@dataclass
class Registration:
    """What one document says."""

    about: dict[str, Any] = field(default_factory=dict)
    files: dict[int, Any] = field(default_factory=dict)
    key_values: list[tuple[str, Any]] = field(default_factory=list)
    file_key_values: list[tuple[int, str, Any]] = field(default_factory=list)

    @property
    def id(self) -> int:
        """The transaction's id."""
        return int(self.about["_id"])


_decoder = msgspec.json.Decoder(list[_Entry])


def about(document: bytes) -> dict[str, Any]:
    """Return what ``document``, a metadata list, says as Transactions.<name>; the first of a name counts."""
    said: dict[str, Any] = {}
    for entry in _decoded(document):
        if entry.destinationTable.startswith(TRANSACTION):
            said.setdefault(entry.destinationTable.partition(".")[2], entry.value)
    return said


def parse(document: bytes) -> Registration:
    """Return what ``document`` says, or raise BadRegistration with the entry that is wrong."""
    found = Registration()
    for number, entry in enumerate(_decoded(document)):
        table = entry.destinationTable
        if table.startswith(TRANSACTION):
            found.about.setdefault(table.partition(".")[2], entry.value)
        elif table == FILES:
            _checked(entry, number)
            if entry.id in found.files:
                raise BadRegistration(f"Invalid metadata for file {entry.id}: listed twice", entry=number)
            found.files[entry.id] = entry
        elif table == KEY_VALUE:
            found.key_values.append((_said(entry, "key", number), _said(entry, "value", number)))
        elif table == FILE_KEY_VALUE:
            said = _said(entry, "file_id", number), _said(entry, "key", number), _said(entry, "value", number)
            found.file_key_values.append(said)
    missing = [name for name in ("_id", *REQUIRED) if not as_id(found.about.get(name))]
    if missing:
        raise BadRegistration(f"Transactions.{missing[0]} is missing", missing=missing)
    if not isinstance(found.about["_id"], int) or not counter.is_id(found.about["_id"]):
        raise BadRegistration("Transactions._id is no id")
    if foreign := [id for id, _, _ in found.file_key_values if id not in found.files]:
        raise BadRegistration(f"FileKeyValue names file {foreign[0]}, which is not listed", file_id=foreign[0])
    return found


def register(found: Registration, owner: str, every: bool, read: Read) -> None:
    """Enter the transaction of ``owner`` and attach its files; ``every``: files that others put as well.

    ``read(id)`` yields a file's bytes, asked where another hashtype is declared than the archive has.
    PreconditionFailed for a file that is not held or not as declared, Conflict for an id that is taken.
    """
    held = ledger.locate(found.files)
    for id, entry in found.files.items():
        if id not in held or (not every and held[id].owner != owner):
            raise PreconditionFailed(f"File {id} is not in the archive", file_id=id)
        if held[id].transaction not in (None, found.id):
            raise Conflict(f"File {id} belongs to another transaction", file_id=id)
        _compare(held[id], entry, read)
    with orm.transaction():
        counter.reserve_beyond("upload_job", found.id)
        if _is_known(found, owner):
            return
        extra = {key: value for key, value in found.about.items() if key not in ("_id", *REQUIRED)}
        record(
            found.id,
            owner=owner,
            **{name: found.about[name] for name in REQUIRED},
            extra=extra,
            key_values=found.key_values,
            file_key_values=found.file_key_values,
        )
        attached = ledger.attach(found.id, [_row(id, entry) for id, entry in found.files.items()])
        if attached != len(found.files):
            raise Conflict("A file was taken away or given to another transaction meanwhile")


def _is_known(found: Registration, owner: str) -> bool:
    """Tell whether just this was registered before; Conflict when the id is another transaction's, or a job's."""
    row = Transaction.get_or_none(Transaction.id == found.id)
    if row is None:
        if StateChange.select().where((StateChange.kind == "job") & (StateChange.row == str(found.id))).exists():
            raise Conflict("This transaction id is a job's", transaction=found.id)
        return False
    files = {id for (id,) in orm.rows('SELECT id FROM archivedfile WHERE "transaction" = ?', found.id)}
    same = (row.submitter, row.project, row.instrument) == tuple(as_id(found.about[name]) for name in REQUIRED)
    if row.owner != owner or not same or files != found.files.keys():
        raise Conflict("There is another transaction of this id", transaction=found.id)
    return True


def _decoded(document: bytes) -> list[Any]:
    try:
        return _decoder.decode(document)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRegistration("Invalid JSON document", reason=str(error).split(" (byte")[0]) from error


def _checked(entry: Any, number: int) -> None:
    for key in ("id", "name", "size", "mimetype", "hashtype", "hashsum", "ctime", "mtime"):
        _said(entry, key, number)
    fault = judge(f"{entry.subdir}/{entry.name}" if entry.subdir else entry.name, LIMITS)
    width = len(hasher(entry.hashtype)().hexdigest()) if entry.hashtype in _HASHES else 0
    is_hex = len(entry.hashsum) == width and set(entry.hashsum) <= set("0123456789abcdef")
    kind, slash, _ = entry.mimetype.partition("/")
    if fault or not is_hex or kind not in MIMETYPES or not slash or "\0" in entry.mimetype:
        reason = fault.message if fault else "its digest, its hashtype or its mimetype"
        raise BadRegistration(f"Invalid metadata for file {entry.id}", reason=reason, entry=number)
    _time(entry.ctime, entry.id), _time(entry.mtime, entry.id)


_HASHES = frozenset(("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b", "blake2s"))


def _said(entry: Any, key: str, number: int) -> Any:
    value = getattr(entry, key)
    if value is UNSET or (key == "value" and not isinstance(value, str | int | float)):
        raise BadRegistration(f"An entry of {entry.destinationTable} lacks {key}", entry=number, key=key)
    return value


def _compare(held: ledger.Located, entry: Any, read: Read) -> None:
    """Raise PreconditionFailed unless the bytes that are held are as ``entry`` declares."""
    found = held.hashsum
    if entry.hashtype != held.hashtype and entry.size == held.size:
        digest = hasher(entry.hashtype)()
        for piece in read(held.id):
            digest.update(piece)
        found = digest.hexdigest()
    if (entry.size, entry.hashsum) != (held.size, found):
        raise PreconditionFailed(f"File {held.id} in the archive is not what is declared", file_id=held.id)


def _row(id: int, entry: Any) -> dict[str, Any]:
    return {
        "id": id,
        "hashtype": entry.hashtype,
        "hashsum": entry.hashsum,
        "subdir": entry.subdir,
        "name": entry.name,
        "mimetype": entry.mimetype,
        "ctime": _time(entry.ctime, id),
        "mtime": _time(entry.mtime, id),
    }


def _time(text: str, id: int) -> float:
    try:
        return epoch(text)
    except ValueError as error:
        raise BadRegistration(f"Invalid metadata for file {id}", reason="a time is no ISO date and time") from error
