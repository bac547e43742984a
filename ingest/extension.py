"""What extended headers say: of the member that follows them (pax x, GNU L), or of every one (pax g)."""

from collections.abc import Callable

from . import fault
from .account import shown
from .header import BLOCK, check_global, pax_fields, pax_records
from .limits import Limits
from .roll import END_BYTES

FLAGS = frozenset({b"x", b"g", b"L"})
_NOTHING = (None, None, None)

Member = tuple[bytes, int, float, int]  # name, size, mtime, and where its first header begins


class Extension:
    """Holds what was said of the member to come, and the rules on where such a header may stand."""

    def __init__(self, limits: Limits) -> None:
        """Nothing was said yet."""
        self.limits = limits
        self.start: int | None = None  # where the header lies that the next one has to follow
        self._global_end = -1  # where the last global header ends
        self._given: tuple[bytes | None, int | None, float | None] = _NOTHING  # path, size and mtime by it

    def begin(self, flag: bytes, raw: bytes, size: int, offset: int, bound: int) -> Callable[[bytes, int], None]:
        """Return what has to be called with the header's ``size`` bytes, once they came, and its offset.

        A BundleError when it stands in a wrong place, or is too large for us or for the body, which ends at ``bound``.
        """
        if self.start is not None:
            raise fault.HeaderRepeated(file=shown(raw), offset=offset)
        limit = self.limits.max_name_bytes + 1 if flag == b"L" else self.limits.max_pax_bytes
        if size > limit:
            raise fault.PaxTooLarge(offset=offset, size=size, limit=limit)
        if offset + BLOCK + size + END_BYTES > bound:
            raise fault.SizeBeyondBody(file=shown(raw), offset=offset, size=size, body=bound)
        if flag == b"g":
            self._global_end = offset + BLOCK + size + (-size % BLOCK)
        else:
            self.start = offset
        return {b"x": self._pax, b"g": self._global, b"L": self._long_name}[flag]

    def require_none(self, offset: int) -> None:
        """Refuse an end of the archive at ``offset`` directly behind an extended header; tarfile fails there."""
        if self.start is not None or offset == self._global_end:
            raise fault.HeaderWithoutMember(offset=offset)

    def applied(self, raw: bytes, size: int, mtime: float, offset: int) -> Member:
        """Return what holds of the member whose own header, at ``offset``, says the rest; and forget it."""
        path, given_size, given_time = self._given
        start = offset if self.start is None else self.start
        self.start, self._given = None, _NOTHING
        return (
            raw if path is None else path,
            size if given_size is None else given_size,
            mtime if given_time is None else given_time,
            start,
        )

    def _pax(self, data: bytes, _: int) -> None:
        offset = self.start or 0
        self._given = pax_fields(pax_records(data, offset), offset)

    def _global(self, data: bytes, offset: int) -> None:
        check_global(pax_records(data, offset), offset)

    def _long_name(self, data: bytes, _: int) -> None:
        if not data.endswith(b"\0"):  # others read on to the next NUL, and so another name
            raise fault.BadPax("The long name does not end with NUL.", offset=self.start or 0)
        self._given = (data.removesuffix(b"\0"), None, None)
