"""What can be wrong with a bundle's tar: one class each, with its code (rules and decisions: docs/formats.md#bundle).

What can be wrong with a name stands in ``misnomer``, with its metadata.txt in ``falsehood``.  All are faults of the
client, so never retried.
"""

from ..common.errors import ServiceError


class BundleError(ServiceError):
    """The bundle is refused.  Detail: ``file`` (printable), ``offset`` of the header or byte, where they are known."""

    status = 422
    code = "bad_bundle"


# ---- the tar as a whole --------------------------------------------------------------------------------------------


class EmptyBody(BundleError):
    """There is not one byte."""

    code = "empty_body"


class Compressed(BundleError):
    """The body is compressed; a bundle is a plain tar."""

    code = "compressed"


class NotATar(BundleError):
    """The body is not a tar."""

    code = "not_a_tar"


class UnknownFormat(BundleError):
    """A header is of a tar format that is not read here (ustar, GNU, pax and v7 are)."""

    code = "unknown_format"


class BadChecksum(BundleError):
    """A header does not match its own checksum."""

    code = "bad_checksum"


class Truncated(BundleError):
    """The tar ends in the middle of a member."""

    code = "truncated"


class NoEndMarker(BundleError):
    """The tar ends without its end-of-archive marker of two zero blocks: something may be missing."""

    code = "no_end_marker"


class LoneZeroBlock(BundleError):
    """One zero block is followed by other bytes; the end-of-archive marker is two."""

    code = "lone_zero_block"


class TrailingBytes(BundleError):
    """There are bytes other than zero after the end-of-archive marker; most readers would lose them silently."""

    code = "trailing_bytes"


class TooManyMembers(BundleError):
    """The bundle has more members than this service takes."""

    code = "too_many_members"


class TooManyFolders(BundleError):
    """The members lie in more folders than this service takes."""

    code = "too_many_folders"


class NamesTooLarge(BundleError):
    """The names of the members take more room than this service gives them."""

    code = "names_too_large"


# ---- one header ----------------------------------------------------------------------------------------------------


class BadNumber(BundleError):
    """A numeric field of a header is not a number."""

    code = "bad_number"


class NegativeSize(BundleError):
    """A member claims a negative size."""

    code = "negative_size"


class SizeBeyondBody(BundleError):
    """A member claims more bytes than the body has, or than this service takes."""

    code = "size_beyond_body"


class Link(BundleError):
    """The member is a symbolic or hard link; only files and folders are archived."""

    code = "link"


class Device(BundleError):
    """The member is a device; only files and folders are archived."""

    code = "device"


class Fifo(BundleError):
    """The member is a fifo; only files and folders are archived."""

    code = "fifo"


class Contiguous(BundleError):
    """The member is a contiguous file, a type that no current writer makes."""

    code = "contiguous"


class Sparse(BundleError):
    """The member is stored sparse: its bytes in the tar are not its content."""

    code = "sparse"


class UnknownType(BundleError):
    """The member is of a type that is not read here."""

    code = "unknown_type"


class FolderWithBytes(BundleError):
    """A folder claims to have bytes."""

    code = "folder_with_bytes"


class HeaderRepeated(BundleError):
    """An extended header is followed by another instead of by its member."""

    code = "header_repeated"


class HeaderWithoutMember(BundleError):
    """An extended header is followed by the end of the archive instead of by its member."""

    code = "header_without_member"


class PaxTooLarge(BundleError):
    """An extended header is larger than this service takes."""

    code = "pax_too_large"


class BadPax(BundleError):
    """The records of a pax header, or a GNU long name, are malformed."""

    code = "bad_pax"


class PaxKey(BundleError):
    """A pax header says something about the member that is not read here."""

    code = "pax_key"


class GlobalPax(BundleError):
    """A global pax header says something about every member."""

    code = "global_pax"


# ---- metadata.txt as a member --------------------------------------------------------------------------------------


class MetadataMissing(BundleError):
    """The bundle has no metadata.txt."""

    code = "metadata_missing"


class MetadataRepeated(BundleError):
    """The bundle has two members metadata.txt."""

    code = "metadata_repeated"


class MetadataNotRegular(BundleError):
    """metadata.txt is not a regular file."""

    code = "metadata_not_regular"


class MetadataTooLarge(BundleError):
    """metadata.txt is larger than this service takes."""

    code = "metadata_too_large"
