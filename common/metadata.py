"""An entry of Pacifica's metadata list: the table that it means, and what it says for it.

A bundle's metadata.txt and the document that its metadata service takes are such lists (docs/formats.md#metadatatxt);
who reads one adds what only that one has.
"""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

FILES, KEY_VALUE, FILE_KEY_VALUE = "Files", "TransactionKeyValue", "FileKeyValue"
TABLES = frozenset((FILES, KEY_VALUE, FILE_KEY_VALUE))
TRANSACTION = "Transactions."
REQUIRED = ("submitter", "project", "instrument")  # of every transaction

# First parts of mimetypes, as Pacifica's metadata service spells them, and the one that it misspells.
MIMETYPES = frozenset(
    ("application", "audio", "font", "example", "image", "message", "model", "mulitpart", "multipart", "text", "video")
)


class FileEntry(msgspec.Struct):
    """What is said of a file, or of anything else, by an entry; keys that are not named here are skipped."""

    destinationTable: str
    name: str | UnsetType = UNSET
    subdir: str = ""
    size: int | UnsetType = UNSET
    mimetype: str | UnsetType = UNSET
    hashtype: str | UnsetType = UNSET
    hashsum: str | UnsetType = UNSET
    ctime: str | UnsetType = UNSET
    mtime: str | UnsetType = UNSET


class Entry(FileEntry):
    """Any entry as it is usually written."""

    value: Any = UNSET
    key: str | UnsetType = UNSET
    file_id: Any = UNSET  # of a FileKeyValue: its file
