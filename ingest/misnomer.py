"""What can be wrong with the names of a bundle's members: one class each, with its code (docs/formats.md#bundle)."""

from .fault import BundleError


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
