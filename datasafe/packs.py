"""The verdict on a pack: every block and every file in it read again, past the page cache.

Block digests cover each byte, headers and padding too; the files' own digests tell which of them a bad block hits.
Nothing is accused before a second read says the same.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from xxhash import xxh3_128_digest

from ..common import orm
from ..common.errors import Damaged
from ..common.pack import hasher
from ..common.sidecar import DIGEST, Sidecar, sidecar_path
from ..common.volume import BLOCK, Volume
from .frames import CHANGED, MISSING, SHORT, Finding
from .packlist import Member, PackList
from .verdict import Throttle

TOLD = 1000  # findings of one pack that are kept; the ledger marks every file


class Pack(NamedTuple):
    """A published pack's row."""

    id: int
    name: str
    first_id: int
    files: int
    size: int


@dataclass
class Judged:
    """What a full check of a pack found; ``damaged`` are file ids, ``ids`` those of all its files, ascending."""

    findings: list[Finding] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    ids: Sequence[int] = ()
    bytes: int = 0
    misread: int = 0


def judge(volume: Volume, pack: Pack, throttle: Throttle) -> Judged:
    """Read ``pack`` whole and return the verdict; goes on after each finding."""
    members = PackList(pack.id, pack.first_id, pack.files)
    judged = Judged(ids=members.ids)
    path = volume.pack_path(pack.name)
    place = str(path.relative_to(volume.root))
    blocks = _blocks(volume, pack, judged, f"{place}{sidecar_path(volume, pack.name).suffix}")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        _accuse(judged, [Finding(MISSING, place)], members, MISSING, place)
        return judged
    try:
        size = os.fstat(descriptor).st_size
        if size != pack.size:
            kind = SHORT if size < pack.size else CHANGED
            judged.findings.append(Finding(kind, place, expected=f"{pack.size} bytes", found=f"{size} bytes"))
        reading = _Reading(descriptor, blocks, members, throttle)
        reading.run()
        judged.bytes = reading.bytes
        _confirm(reading, judged, place, size)
    finally:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # what was only audited should push nothing out
        os.close(descriptor)
    return judged


class _Reading:
    """One pass over a pack: which blocks and which members are not what their digests say."""

    def __init__(self, descriptor: int, blocks: bytes | None, members: PackList, throttle: Throttle) -> None:
        self.descriptor, self.blocks, self.members, self._throttle = descriptor, blocks, members, throttle
        self.bytes = 0
        self.bad_blocks: list[int] = []
        self.bad_members: list[Member] = []

    def run(self) -> None:
        """Read the pack from start to end, from the disk."""
        os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        members = iter(self.members)
        member, digest = next(members, None), None
        number = 0
        while data := self.block(number):
            start, stop = number * BLOCK, number * BLOCK + len(data)
            if self.blocks is not None and not self.matches(number, data):
                self.bad_blocks.append(number)
            view = memoryview(data)
            while member is not None and member.offset < stop:
                end = member.offset + member.size
                part = view[max(member.offset - start, 0) : min(end, stop) - start]
                if digest is None:
                    digest = hasher(member.hashtype)(part)
                else:
                    digest.update(part)
                if end > stop:
                    break
                if digest.hexdigest() != member.hashsum:
                    self.bad_members.append(member)
                member, digest = next(members, None), None
            number += 1
        while member is not None:  # beyond the end of the pack; an empty file may be, and is right
            if member.size or hasher(member.hashtype)().hexdigest() != member.hashsum:
                self.bad_members.append(member)
            member = next(members, None)

    def block(self, number: int) -> bytes:
        """Read a block; one that the disk refuses is noise, which fits no digest."""
        try:
            data = os.pread(self.descriptor, BLOCK, number * BLOCK)
        except OSError:
            rest = os.fstat(self.descriptor).st_size - number * BLOCK
            data = os.urandom(max(0, min(BLOCK, rest)))
        self.bytes += len(data)
        self._throttle(len(data))
        return data

    def matches(self, number: int, data: bytes) -> bool:
        """Say whether a block is what its digest says."""
        assert self.blocks is not None
        return xxh3_128_digest(data) == self.blocks[number * DIGEST : (number + 1) * DIGEST]

    def again(self, member: Member) -> str:
        """Return the digest of a member, read once more; empty where the pack ends before it."""
        digest = hasher(member.hashtype)()
        for number in range(member.offset // BLOCK, max(member.offset, member.offset + member.size - 1) // BLOCK + 1):
            start, data = number * BLOCK, self.block(number)
            digest.update(memoryview(data)[max(member.offset - start, 0) : member.offset + member.size - start])
            if len(data) < BLOCK and start + len(data) < member.offset + member.size:
                return ""
        return str(digest.hexdigest())


def _blocks(volume: Volume, pack: Pack, judged: Judged, place: str) -> bytes | None:
    """Return the sidecar's block digests, None where it cannot be trusted, which is a finding."""
    try:
        sidecar = Sidecar.read(volume, pack.name)
    except Damaged:
        kind = CHANGED if os.path.lexists(sidecar_path(volume, pack.name)) else MISSING
        judged.findings.append(Finding(kind, place))
        return None
    told = (sidecar.first_id, sidecar.count, sidecar.size)
    if told != (pack.first_id, pack.files, pack.size):
        expected = f"first id {pack.first_id}, {pack.files} files, {pack.size} bytes"
        judged.findings.append(Finding(CHANGED, place, expected=expected))
    return sidecar.blocks


def _confirm(reading: _Reading, judged: Judged, place: str, size: int) -> None:
    """Read again what was wrong, past the page cache, and accuse what still is."""
    if not reading.bad_blocks and not reading.bad_members:
        return
    os.posix_fadvise(reading.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    wrong = []
    for member in reading.bad_members:
        found = reading.again(member)
        if found == member.hashsum:
            judged.misread += 1
        else:
            wrong.append(member)
            kind = SHORT if member.offset + member.size > size else CHANGED
            _accuse(judged, [], [member], kind, place, found)
    hit = {number for member in wrong for number in _span(member)}
    for number in reading.bad_blocks:
        if number in hit:
            continue
        data = reading.block(number)
        if reading.matches(number, data):
            judged.misread += 1
            continue
        assert reading.blocks is not None
        expected = reading.blocks[number * DIGEST : (number + 1) * DIGEST].hex()
        found = xxh3_128_digest(data).hex()
        judged.findings.append(Finding(CHANGED, place, (), f"block {number} {expected}", found))


def _span(member: Member) -> Iterator[int]:
    if member.size:
        yield from range(member.offset // BLOCK, (member.offset + member.size - 1) // BLOCK + 1)


def _accuse(
    judged: Judged, whole: list[Finding], members: Iterable[Member], kind: str, place: str, found: str = ""
) -> None:
    judged.findings += whole
    for member in members:
        judged.damaged.append(member.id)
        if len(judged.findings) >= TOLD:
            continue
        name = orm.rows("SELECT subdir, name FROM archivedfile WHERE id = ?", member.id)
        path = "/".join(filter(None, name[0])) if name else ""
        judged.findings.append(Finding(kind, place, (f"{member.id} {path}".strip(),), member.hashsum, found))
