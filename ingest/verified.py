"""A bundle of which every byte is as declared, and what others need of it: ledger rows, key-values, the document."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .declaration import data_path, digest, moment
from .index import Index
from .limits import Limits
from .metadata import FILE_KEY_VALUE, FILES, TABLES, TRANSACTION, entries


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle of which every byte is as declared.

    ``transaction`` has submitter, project, instrument and, in ``extra``, whatever else was said as Transactions.<name>.
    ``ordinals`` gives for each Files entry its place in the tar.
    """

    index: Index
    limits: Limits
    transaction: dict[str, Any]
    key_values: list[tuple[str, str | int | float]]
    ordinals: "array[int]"
    total_bytes: int
    file_key_value_count: int

    @property
    def count(self) -> int:
        """The number of files."""
        return len(self.ordinals)

    @property
    def order(self) -> list[int] | None:
        """The place in the tar of each Files entry, or None where both have one order."""
        return None if all(map(int.__eq__, self.ordinals, range(self.count))) else list(self.ordinals)

    def rows(self, first_id: int) -> Iterator[tuple[Any, ...]]:
        """Yield a ledger row (``ledger.ARCHIVED_FILE_COLUMNS``) for each Files entry, ids from ``first_id`` on."""
        index = self.index
        known, then, when = index.hashtype, "", 0.0
        for position, (ordinal, entry) in enumerate(self._files()):
            subdir, name = _place(index.path(ordinal))
            if entry.hashtype == known:
                hashtype, hashsum = known, index.digest(ordinal)  # which the entry was found to declare
            else:
                hashtype, hashsum = digest(entry.hashtype, entry.hashsum, name)
            if entry.ctime != then:
                then, when = entry.ctime, moment(entry.ctime, name)
            yield (
                first_id + position,
                index.offset[ordinal],
                index.size[ordinal],
                index.header[ordinal],
                hashtype,
                hashsum,
                subdir,
                name,
                entry.mimetype,
                when,
                when if entry.mtime == then else moment(entry.mtime, name),
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

    def _files(self) -> Iterator[tuple[int, Any]]:
        return zip(self.ordinals, (each for each in self._entries() if each.destinationTable == FILES), strict=True)

    def _ordinal(self, entry: Any) -> int:
        return self.index.find(data_path("", entry.path, self.limits))

    def _positions(self) -> "array[int]":
        positions = array("I", bytes(4 * self.count))
        for position, ordinal in enumerate(self.ordinals):
            positions[ordinal] = position
        return positions


def _place(path: str) -> tuple[str, str]:
    """Return subdir and name of the file at ``path``, data/ left out."""
    subdir, _, name = path[5:].rpartition("/")
    return subdir, name
