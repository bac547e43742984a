"""What can be wrong with a bundle's tar: one class each, with its code (rules and decisions: docs/formats.md#bundle).

What can be wrong with its metadata.txt stands in ``falsehood``.  All are faults of the client, so never retried.
"""

from typing import Any

from ..common.errors import ServiceError

SHOWN = 200  # characters of a hostile name that an answer repeats
TOLD = 10  # faults that the text of a job's failure names one by one


class BundleError(ServiceError):
    """The bundle is refused.  Detail: ``file`` (printable), ``offset`` of the header or byte, where they are known."""

    status = 422
    code = "bad_bundle"


def shown(name: str | bytes) -> str:
    """Return ``name`` as one printable line of bounded length, whatever it holds."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    if len(text) <= SHOWN and text.isprintable():
        return text
    text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text[: SHOWN + 1])
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def faults_of(error: ServiceError) -> list[dict[str, Any]]:
    """Return what is wrong, one object each: {code, message, and file, entry or offset where they are known}."""
    listed: list[dict[str, Any]] | None = error.detail.get("faults")
    return listed or [{**error.detail, "code": error.code, "message": error.message}]


def account(error: ServiceError) -> str:
    """Return what the sender of a bundle reads of ``error``: a line for each fault, with its place and its code."""
    found = faults_of(error)
    lines = [f"{_place(fault)}{fault['message']} [{fault['code']}]" for fault in found[:TOLD]]
    if len(found) > TOLD:
        lines.append(f"... and {len(found) - TOLD} more")
    return "\n".join(lines)


def _place(fault: dict[str, Any]) -> str:
    if fault.get("file"):
        return f"{fault['file']}: "
    for name in ("entry", "offset"):
        if name in fault:
            return f"{name} {fault[name]}: "
    return ""


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
    """The records of a pax header are malformed."""

    code = "bad_pax"


class PaxKey(BundleError):
    """A pax header says something about the member that is not read here."""

    code = "pax_key"


class GlobalPax(BundleError):
    """A global pax header says something about every member."""

    code = "global_pax"


# ---- one name ------------------------------------------------------------------------------------------------------


class NameFault(BundleError):
    """The name is refused."""

    code = "bad_name"


class NulInName(NameFault):
    """The name has a NUL byte in it."""

    code = "nul_in_name"


class ControlCharacter(NameFault):
    """The name has a control character or a line break in it."""

    code = "control_character"


class NotUtf8(NameFault):
    """The name is not UTF-8."""

    code = "not_utf8"


class AbsolutePath(NameFault):
    """The name is an absolute path."""

    code = "absolute_path"


class ParentPart(NameFault):
    """The name has a part '..'."""

    code = "parent_part"


class DotPart(NameFault):
    """The name has a part '.' other than one leading './'."""

    code = "dot_part"


class EmptyPart(NameFault):
    """The name, or a part of it, is empty."""

    code = "empty_part"


class NameTooLong(NameFault):
    """The name is too long."""

    code = "name_too_long"


class PartTooLong(NameFault):
    """A part of the name is too long for a file system."""

    code = "part_too_long"


class TooDeep(NameFault):
    """The name has too many parts."""

    code = "too_deep"


class OutsideData(NameFault):
    """The member is neither below data/ nor metadata.txt."""

    code = "outside_data"


class DuplicateName(NameFault):
    """Two members have this name."""

    code = "duplicate_name"


class FileIsFolder(NameFault):
    """One member is a file where another needs a folder."""

    code = "file_is_folder"


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
