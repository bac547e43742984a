"""The members of a bundle as the scan meets them: each judged by name and size, and noted in the index."""

from . import fault
from .account import shown
from .header import BLOCK
from .index import Index
from .limits import Limits
from .name import DATA, METADATA, Names, checked, decoded, inside, plain

END_BYTES = 2 * BLOCK  # of the end-of-archive marker, which every member has to leave room for


class Roll:
    """Notes members in ``index``; ``length`` is the body's size where that is known."""

    def __init__(self, limits: Limits, index: Index, length: int | None) -> None:
        """Know no member yet."""
        self.limits, self.index, self._length = limits, index, length
        self.bound = limits.max_bytes if length is None else length  # where the body ends at the latest
        self.metadata: tuple[int, int] | None = None  # where the bytes of metadata.txt begin, and how many they are
        self._members = 0
        self._names = Names(limits.max_folders)
        self._short_bytes = min(255, limits.max_part_bytes, limits.max_name_bytes)

    def file(self, raw: bytes, size: int, mtime: float, start: int, data: int) -> str:
        """Note a file whose headers begin at ``start`` and whose bytes begin at ``data``; return its path."""
        limits, index = self.limits, self.index
        end = data + size + (-size % BLOCK)
        if end + END_BYTES > self.bound:
            kind = fault.NoEndMarker if end <= self.bound == self._length else fault.SizeBeyondBody
            raise kind(file=shown(raw), offset=start, size=size, body=self.bound)
        path = plain(raw, limits.max_depth) if len(raw) <= self._short_bytes else ""
        if not path:
            path = inside(checked(decoded(raw, start), limits, start), start)
            raw = path.encode()
            if path == METADATA:
                self._see_metadata(size, start, data)
                return path
        self._count(start)
        self._names.add(path)
        if len(index.names) + len(raw) > limits.max_names_bytes:
            raise fault.NamesTooLarge(limit=limits.max_names_bytes, offset=start)
        index.names += raw
        index.end.append(len(index.names))
        index.offset.append(data)
        index.size.append(size)
        index.header.append(data - start)
        index.mtime.append(mtime)
        return path

    def folder(self, raw: bytes, size: int, start: int) -> None:
        """Check a folder; nothing of it is kept but that no file may have its name."""
        self._count(start)
        if size:
            raise fault.FolderWithBytes(file=shown(raw), offset=start, size=size)
        path = decoded(raw, start).removesuffix("/")
        if path == METADATA:
            raise fault.MetadataNotRegular(file=METADATA, offset=start)
        if path in ("", ".") and raw.startswith(b"."):  # "./" is what `tar c .` begins with
            return
        if checked(path, self.limits, start) != DATA:
            self._names.enter(inside(path, start))

    def close(self) -> None:
        """Hold the names, which are all known now, against each other; MetadataMissing without a metadata.txt."""
        if self.metadata is None:
            raise fault.MetadataMissing(file=METADATA)
        self._names.refuse_twins(self.index.path)
        self._names = Names(0)  # the hashes have served

    def _count(self, offset: int) -> None:
        self._members += 1
        if self._members > self.limits.max_members:
            raise fault.TooManyMembers(limit=self.limits.max_members, offset=offset)

    def _see_metadata(self, size: int, start: int, data: int) -> None:
        if self.metadata is not None:
            raise fault.MetadataRepeated(file=METADATA, offset=start)
        if size > self.limits.max_metadata_bytes:
            limit = self.limits.max_metadata_bytes
            raise fault.MetadataTooLarge(file=METADATA, offset=start, size=size, limit=limit)
        self.metadata = (data, size)
