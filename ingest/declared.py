"""A bundle against its metadata.txt: what is declared, held against what came (docs/formats.md#metadatatxt)."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import UNSET

from ..common.metadata import FILE_KEY_VALUE, FILES, KEY_VALUE, REQUIRED, TRANSACTION
from . import falsehood
from .account import shown
from .declaration import check_mimetype, data_path, digest, moment
from .falsehood import MetadataError
from .index import Index
from .limits import Limits
from .metadata import Entry, entries
from .verified import Bundle, Told

__all__ = ["Bundle", "Declared", "check"]

MAX_FAULTS = 100
MAX_KEY = 1024  # characters
MAX_VALUE = 1 << 20
MAX_KEY_VALUES = 100_000  # of the transaction; they stay in memory


Read = Callable[[int, int], Iterator[bytes]]  # (offset, size) of the bundle


def check(index: Index, read: Read, limits: Limits | None = None) -> Bundle:
    """Hold the bundle of ``index`` against its metadata.txt and return it as what it is now known to be.

    ``read(offset, size)`` yields bytes of the bundle: metadata.txt where the scan did not keep it, and members that are
    declared by another hashtype than they were scanned with.  Raises the first falsehood found (a MetadataError); its
    detail ``faults`` lists up to a hundred as {file or entry, code, message, ...}.
    """
    return Declared(index, read, limits or Limits()).check()


class Declared:
    """What metadata.txt declares, while it is being held against an index."""

    def __init__(self, index: Index, read: Read, limits: Limits) -> None:
        """Start with nothing declared."""
        self.index, self.read, self.limits = index, read, limits
        self.faults: list[MetadataError] = []
        self.said: dict[str, Any] = {}
        self.key_values: list[tuple[str, str | int | float]] = []
        self.file_key_values = 0
        self.files = Told()
        self._listed = bytearray(len(index))
        self._next = 0  # the ordinal that the next Files entry is likely to mean
        self._mimetypes: dict[str, int] = {}  # their places in ``files.mimetypes``
        self._time: str | None = None  # the last one that was found good, and what it means
        self._moment = 0.0

    def check(self) -> Bundle:
        """Read every entry; return the bundle, or raise the first falsehood."""
        number = -1
        for number, entry in enumerate(entries(self.index.read_metadata(self.read))):
            if number >= self.limits.max_entries:
                raise falsehood.TooManyEntries(limit=self.limits.max_entries)
            try:
                self._take(entry)
            except MetadataError as error:
                error.detail.setdefault("entry", number)
                self._note(error)
        self._unlisted()
        if self.faults:
            self._refuse()
        transaction = {key: self.said.pop(key) for key in REQUIRED}
        return Bundle(
            index=self.index,
            limits=self.limits,
            transaction=transaction | {"extra": self.said},
            key_values=self.key_values,
            files=self.files,
            total_bytes=sum(self.index.size),
            file_key_value_count=self.file_key_values,
        )

    def _take(self, entry: Entry | MetadataError) -> None:
        if isinstance(entry, MetadataError):
            raise entry
        table = entry.destinationTable
        if table == FILES:
            self._file(entry)
        elif table == KEY_VALUE:
            if len(self.key_values) >= MAX_KEY_VALUES:
                raise falsehood.TooManyEntries(limit=MAX_KEY_VALUES)
            self.key_values.append((_key(entry), _value(entry)))
        elif table == FILE_KEY_VALUE:
            self._file_key_value(entry)
        elif table.startswith(TRANSACTION):
            self._transaction(table.removeprefix(TRANSACTION), entry)
        elif entry.metaID is UNSET:  # Pacifica's uploader also writes the fields of its form that mean no table
            raise falsehood.UnknownDestination(destinationTable=shown(table))

    def _transaction(self, name: str, entry: Entry) -> None:
        if name == "_id":
            raise falsehood.TransactionIdGiven
        if not name.isidentifier() or not name.isascii() or len(name) > 64 or name == "extra":
            raise falsehood.UnknownDestination(destinationTable=shown(TRANSACTION + name))
        if name in self.said:
            raise falsehood.TransactionRepeated(destinationTable=TRANSACTION + name)
        if len(self.said) > MAX_KEY_VALUES:
            raise falsehood.TooManyEntries(limit=MAX_KEY_VALUES)
        self.said[name] = _value(entry)
        if self.said[name] == "":
            raise falsehood.BadValue(destinationTable=TRANSACTION + name)

    def _file_key_value(self, entry: Entry) -> None:
        if entry.file_id is not UNSET:
            raise falsehood.FileIdGiven
        _key(entry), _value(entry)
        if not isinstance(entry.path, str):
            raise falsehood.MissingKey("A FileKeyValue names its file by 'path'.", key="path")
        try:
            self.index.find(data_path("", entry.path, self.limits))
        except KeyError:
            raise falsehood.UnknownPath(file=shown(entry.path)) from None
        self.file_key_values += 1

    def _file(self, entry: Any) -> None:
        """Hold one Files entry against the member that it means; every test passes the usual case first."""
        index, ordinal = self.index, self._next
        path = f"data/{entry.subdir}/{entry.name}" if entry.subdir else f"data/{entry.name}"
        if entry.name is UNSET or entry.subdir.startswith("data"):
            path, ordinal = self._member(entry)
        elif ordinal >= len(index) or index.raw_path(ordinal) != path.encode():
            try:
                ordinal = index.find(path)
            except KeyError:
                path, ordinal = self._member(entry)
        self._next = ordinal + 1
        if self._listed[ordinal]:
            raise falsehood.FileRepeated(file=shown(path))
        self._listed[ordinal] = 1
        told = self.files
        told.ordinals.append(ordinal)
        if entry.size != index.size[ordinal]:
            size = _given(entry, "size", path)
            raise falsehood.SizeMismatch(file=shown(path), declared=size, size=index.size[ordinal])
        if entry.hashtype != index.hashtype or entry.hashsum != index.digest(ordinal):
            self._digest(entry, ordinal, path)
        kind = self._mimetypes.get(entry.mimetype)
        told.mimetype.append(self._mimetype(entry, path) if kind is None else kind)
        if entry.ctime != self._time:
            self._see(entry, "ctime", path)
        told.ctime.append(self._moment)
        if entry.mtime != self._time:
            self._see(entry, "mtime", path)
        told.mtime.append(self._moment)

    def _see(self, entry: Any, key: str, path: str) -> None:
        """Take the time that ``entry`` has under ``key``; most entries have the one before."""
        self._moment = moment(_given(entry, key, path), path)
        self._time = getattr(entry, key)

    def _mimetype(self, entry: Any, path: str) -> int:
        """Return the place of a mimetype that was not seen before, or of none where too many were."""
        check_mimetype(_given(entry, "mimetype", path), shown(path))
        if len(self._mimetypes) >= MAX_KEY:
            self.files.has_exceptions = True
            return 0
        self.files.mimetypes.append(entry.mimetype)
        return self._mimetypes.setdefault(entry.mimetype, len(self._mimetypes))

    def _member(self, entry: Any) -> tuple[str, int]:
        path = data_path(entry.subdir, _given(entry, "name", entry.subdir), self.limits)
        try:
            return path, self.index.find(path)
        except KeyError:
            raise falsehood.FileMissing(file=shown(path)) from None

    def _digest(self, entry: Any, ordinal: int, path: str) -> None:
        """Compare a digest that is not written as ours is, or is of another algorithm: that takes one more read."""
        file = shown(path)
        hashtype, declared = digest(_given(entry, "hashtype", path), _given(entry, "hashsum", path), file)
        if hashtype == self.index.hashtype:
            found = self.index.digest(ordinal)
        else:
            self.files.has_exceptions = True
            again = hashlib.new(hashtype)
            for piece in self.read(self.index.offset[ordinal], self.index.size[ordinal]):
                again.update(piece)
            found = again.hexdigest()
        if found != declared:
            raise falsehood.HashMismatch(file=file, hashtype=hashtype, declared=declared, digest=found)

    def _unlisted(self) -> None:
        """Note what is not declared at all: files, or the transaction."""
        ordinal = self._listed.find(0)
        while ordinal >= 0 and len(self.faults) < MAX_FAULTS:
            self._note(falsehood.FileNotListed(file=shown(self.index.path(ordinal))))
            ordinal = self._listed.find(0, ordinal + 1)
        for name in REQUIRED:
            if name not in self.said:
                self._note(falsehood.TransactionMissing(destinationTable=TRANSACTION + name))
        if not len(self.index):
            self._note(falsehood.NoFiles())

    def _note(self, error: MetadataError) -> None:
        self.faults.append(error)
        if len(self.faults) >= MAX_FAULTS:
            self._refuse()

    def _refuse(self) -> None:
        first = self.faults[0]
        found = [{**each.detail, "code": each.code, "message": each.message} for each in self.faults]
        first.detail = {**first.detail, "faults": found}
        raise first


def _given(entry: Any, key: str, path: str) -> Any:
    """Return what ``entry``, of the file ``path``, has under ``key``, or raise MissingKey."""
    value = getattr(entry, key)
    if value is UNSET:
        raise falsehood.MissingKey(f"A Files entry lacks {key}.", file=shown(path), key=key)
    return value


def _key(entry: Entry) -> str:
    if entry.key is UNSET:
        raise falsehood.MissingKey("A key-value lacks its key.", key="key")
    if not isinstance(entry.key, str) or not 0 < len(entry.key) <= MAX_KEY or "\0" in entry.key:
        raise falsehood.BadValue("A key is empty, too long, or has a NUL in it.", key=shown(str(entry.key)))
    return entry.key


def _value(entry: Entry) -> str | int | float:
    if isinstance(entry.value, str) and (len(entry.value) > MAX_VALUE or "\0" in entry.value):
        raise falsehood.BadValue(destinationTable=shown(entry.destinationTable))
    if not isinstance(entry.value, str | int | float):
        raise falsehood.MissingKey(f"An entry of {shown(entry.destinationTable)} lacks its value.", key="value")
    return entry.value
