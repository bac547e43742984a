"""What can be wrong with metadata.txt, or untrue in it: one class each, with its code (docs/formats.md#metadatatxt).

Up to a hundred are collected; the first one is raised, and its ``faults`` tells of all.
"""

from ..common.errors import ChecksumMismatch
from .fault import BundleError


class MetadataError(BundleError):
    """The metadata is refused.  Detail: ``file`` or ``entry`` (position in the list), and ``faults``, every finding."""

    code = "bad_metadata"


class BadMetadataJson(MetadataError):
    """metadata.txt is not a JSON list in UTF-8."""

    code = "bad_metadata_json"


class TooManyEntries(MetadataError):
    """metadata.txt has more entries than this service takes."""

    code = "too_many_entries"


class BadEntry(MetadataError):
    """An entry is not an object, or a value in it is of the wrong type."""

    code = "bad_entry"


class MissingKey(MetadataError):
    """An entry lacks a key that its destinationTable needs."""

    code = "missing_key"


class BadValue(MetadataError):
    """A value is empty, too long, or has a NUL in it."""

    code = "bad_value"


class UnknownDestination(MetadataError):
    """An entry's destinationTable is not one that is known here."""

    code = "unknown_destination"


class TransactionIdGiven(MetadataError):
    """A client may not choose the transaction's id: it would enter another's transaction."""

    code = "transaction_id_given"


class TransactionRepeated(MetadataError):
    """The metadata says twice what the transaction has once."""

    code = "transaction_repeated"


class TransactionMissing(MetadataError):
    """The metadata does not say who submits, for which project, or from which instrument."""

    code = "transaction_missing"


class FileIdGiven(MetadataError):
    """A client cannot know a file's id; a FileKeyValue names its file by 'path'."""

    code = "file_id_given"


class UnknownPath(MetadataError):
    """A FileKeyValue names a file that the bundle does not have."""

    code = "unknown_path"


# ---- files ---------------------------------------------------------------------------------------------------------


class NoFiles(MetadataError):
    """The metadata lists no file."""

    code = "no_files"


class BadPath(MetadataError):
    """The subdir and name of a file are no path below data/."""

    code = "bad_path"


class FileRepeated(MetadataError):
    """A file is listed twice."""

    code = "file_repeated"


class FileMissing(MetadataError):
    """A file is listed but not in the bundle."""

    code = "file_missing"


class FileNotListed(MetadataError):
    """A file is in the bundle but not listed: it would be lost."""

    code = "file_not_listed"


class SizeMismatch(MetadataError):
    """A file has another size than the metadata declares."""

    code = "size_mismatch"


class HashMismatch(MetadataError, ChecksumMismatch):
    """The bytes of a file do not hash to the digest that the metadata declares."""

    code = "checksum_mismatch"


class UnknownHashtype(MetadataError):
    """A file's hashtype is not one that is computed here."""

    code = "unknown_hashtype"


class VariableHashtype(MetadataError):
    """A file's hashtype has no length of its own, so that its digest proves nothing."""

    code = "variable_hashtype"


class BadHashsum(MetadataError):
    """A file's hashsum is not the hexadecimal digest of its hashtype."""

    code = "bad_hashsum"


class BadMimetype(MetadataError):
    """A file's mimetype is none, or its first part is not one that the catalogue takes."""

    code = "bad_mimetype"


class BadTime(MetadataError):
    """A file's ctime or mtime is not a date and time like 2026-11-21T07:37:08."""

    code = "bad_time"
