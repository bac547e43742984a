"""A bundle of which every byte is as declared, and what others need of it: ledger rows, key-values, the document."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from ..common.metadata import FILE_KEY_VALUE, FILES, TABLES, TRANSACTION
from .declaration import data_path, digest
from .index import Index
from .limits import Limits
from .metadata import entries
from .name import DATA


class Told:
    """What the Files entries say, one after the other, in packed columns: 22 bytes for each.

    ``ordinals`` are their places in the tar, ``mimetype`` counts in ``mimetypes``, times are epoch seconds.
    """

    def __init__(self) -> None:
        self.ordinals, self.mimetype = array("I"), array("H")
        self.ctime, self.mtime = array("d"), array("d")
        self.mimetypes: list[str] = []
        self.has_exceptions = False  # entries with another hashtype than the scan's, or one mimetype too many


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle of which every byte is as declared.

    ``transaction`` has submitter, project, instrument and, in ``extra``, whatever else was said as Transactions.<name>.
    """

    index: Index
    limits: Limits
    transaction: dict[str, Any]
    key_values: list[tuple[str, str | int | float]]
    files: "Told"
    total_bytes: int
    file_key_value_count: int

    @property
    def count(self) -> int:
        """The number of files."""
        return len(self.files.ordinals)

    @property
    def order(self) -> list[int] | None:
        """The place in the tar of each Files entry, or None where both have one order."""
        ordinals = self.files.ordinals
        return None if all(map(int.__eq__, ordinals, range(self.count))) else list(ordinals)

    def rows(self, first_id: int) -> Iterator[tuple[Any, ...]]:
        """Yield a ledger row (``ledger.ARCHIVED_FILE_COLUMNS``) for each Files entry, ids from ``first_id`` on."""
        index, told = self.index, self.files
        known, width, digests, mimetypes = index.hashtype, index.digest_size, index.digests, told.mimetypes
        names, ends, data = index.names, index.end, len(f"{DATA}/")
        columns = zip(told.ordinals, told.mimetype, told.ctime, told.mtime, self._exceptions(), strict=False)
        for id, (ordinal, kind, ctime, mtime, exception) in enumerate(columns, first_id):
            start = ends[ordinal - 1] + data if ordinal else data
            subdir, _, name = names[start : ends[ordinal]].decode().rpartition("/")
            hashtype, hashsum, mimetype = exception or (
                known,
                digests[ordinal * width : ordinal * width + width].hex(),  # which the entry was found to declare
                mimetypes[kind],
            )
            yield (
                id,
                index.offset[ordinal],
                index.size[ordinal],
                index.header[ordinal],
                hashtype,
                hashsum,
                subdir,
                name,
                mimetype,
                ctime,
                mtime,
            )

    def file_key_values(self, first_id: int) -> Iterator[tuple[int, str, str | int | float]]:
        """Yield (file id, key, value) for each FileKeyValue entry."""
        if self.file_key_value_count:
            positions = self._positions()
            for entry in self._entries():
                if entry.destinationTable == FILE_KEY_VALUE:
                    yield first_id + positions[self._ordinal(entry)], entry.key, entry.value

    def document(self, first_id: int, transaction: int) -> Iterator[dict[str, Any]]:
        """Yield the entries as Pacifica's policy and metadata services take them, with the ids that we gave."""
        positions = self._positions() if self.file_key_value_count else array("I")
        rows = self.rows(first_id)
        for entry in self._entries():
            if entry.destinationTable not in TABLES and not entry.destinationTable.startswith(TRANSACTION):
                continue  # a field of the client's form that means no table
            said: dict[str, Any] = {"destinationTable": entry.destinationTable}
            if entry.destinationTable == FILES:
                id, _, size, _, hashtype, hashsum, subdir, name, *_ = next(rows)
                said |= {"_id": id, "name": name, "subdir": subdir, "size": size, "mimetype": entry.mimetype}
                said |= {"hashtype": hashtype, "hashsum": hashsum, "ctime": entry.ctime, "mtime": entry.mtime}
            else:
                said["value"] = entry.value
                if not entry.destinationTable.startswith(TRANSACTION):
                    said["key"] = entry.key
                if entry.destinationTable == FILE_KEY_VALUE:
                    said["file_id"] = first_id + positions[self._ordinal(entry)]
            yield said
        yield {"destinationTable": f"{TRANSACTION}_id", "value": transaction}

    def _entries(self) -> Iterator[Any]:
        return iter(entries(self.index.metadata_bytes or b""))

    def _exceptions(self) -> Iterator[tuple[str, str, str] | None]:
        """Yield hashtype, hashsum and mimetype of each Files entry whose own are not the scan's or not kept, else None.

        Such entries are rare: only where there is one, metadata.txt is read once more.
        """
        if not self.files.has_exceptions:
            yield from repeat(None)
        for entry in self._entries():
            if entry.destinationTable == FILES:
                kind, found = digest(entry.hashtype, entry.hashsum, entry.name)
                yield kind, found, entry.mimetype

    def _ordinal(self, entry: Any) -> int:
        return self.index.find(data_path("", entry.path, self.limits))

    def _positions(self) -> "array[int]":
        positions = array("I", bytes(4 * self.count))
        for position, ordinal in enumerate(self.files.ordinals):
            positions[ordinal] = position
        return positions
