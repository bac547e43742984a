"""Taking in a dataset: a zip file becomes checked files in a stage, or a refusal and nothing.

Order: the zip's structure, names and declared sizes (before a byte is written); MANIFEST.yaml against the members, in
both directions; then each member once, inflated within its declared size while MD5, SHA-512, CRC-32 and the block
digests are computed; last LabInform's checksums.
"""

import mmap
import os
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from traceback import clear_frames

from . import manifest, zipindex
from .extract import Extractor
from .faults import Fault, Refused, refuse
from .manifest import Integrity, Manifest, ManifestLimits
from .members import Members
from .paths import NameLimits, judge, twins
from .taken import Held, TakenFiles


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an upload may hold; sizes in bytes."""

    max_bytes: int = 64 << 30  # unpacked
    max_members: int = 200_000
    max_ratio: int = 250  # unpacked to packed, of the whole archive; plain deflate reaches 1032
    ratio_free_bytes: int = 64 << 20  # up to here any ratio is taken
    names: NameLimits = NameLimits()
    manifest: ManifestLimits = ManifestLimits()


@dataclass(frozen=True)
class Deposit:
    """What was taken in: the files below ``content``, not yet durable, MANIFEST.yaml among them."""

    content: Path
    files: TakenFiles
    loi: str  # that the manifest names, or empty
    integrity: Integrity
    warnings: list[Fault] = field(default_factory=list)


def take(
    source: Path,
    content: Path,
    limits: Limits = Limits(),
    held: Held | None = None,
    room: Callable[[int], object] | None = None,
) -> Deposit:
    """Take the zip file ``source`` into ``content``, a folder of a stage that is made when a file needs it.

    ``held`` may keep a file from being written a second time; ``room`` is told how many bytes all files will take, and
    raises when they cannot fit.  Raises Refused with every fault found at the first
    stage that finds any; what was written then, the stage's end removes.
    """
    with _mapped(source) as view:
        members = zipindex.read(view, limits.max_members)
        _limit(members, len(view), limits)
        _refuse(_names(members, limits.names))
        if room is not None:
            room(sum(members.sizes))
        with Extractor(view, content, held) as extractor:
            listing = _manifest(members, extractor, limits)
            _refuse(listing.compare(members.names(folders=False), {*members.names(folders=True)}))
            data, metadata = listing.roles(members.names(folders=False))
            listing = replace(listing, data=(), metadata=(), document={})  # as large as all that is kept of the files
            taken = TakenFiles()
            for entry in members:
                if not entry.folder:
                    taken.take(extractor.extract(entry))
    integrity = listing.verdict(_sum(taken, data), _sum(taken, data, metadata))
    if not integrity.sound:
        words = "data" if not integrity.data else "metadata"
        fault = Fault("checksum_mismatch", f"The checksum over the {words} files is not that of the manifest.")
        raise Refused([fault], data=integrity.data, all=integrity.all)
    return Deposit(content, taken, listing.loi, integrity)


def _sum(taken: TakenFiles, *roles: "array[int]") -> str:
    """Return LabInform's sum of the files, each as often as it is listed."""
    counts = map(sum, zip(*roles, strict=True))
    return manifest.checksum_of(taken.md5(row) for row, count in enumerate(counts) for _ in range(count))


@contextmanager
def _mapped(source: Path) -> Iterator[memoryview]:
    """Give the bytes of ``source`` as memory; the file is ours alone, nobody cuts it while it is mapped."""
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_size == 0:
            raise refuse("zip_bad", "This is not one whole zip archive.")
        archive = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)
    view = memoryview(archive)
    try:
        yield view
    except BaseException as error:
        clear_frames(error.__traceback__)  # they hold slices, which would keep the file open as long as the error lives
        raise
    finally:
        view.release()
        with suppress(BufferError):
            archive.close()


def _limit(members: Members, packed: int, limits: Limits) -> None:
    size = sum(members.sizes)
    if size > limits.max_bytes:
        raise refuse("too_many_bytes", f"The archive unpacks to more than {limits.max_bytes} bytes.")
    if size > max(limits.ratio_free_bytes, packed * limits.max_ratio):
        raise refuse("ratio", f"The archive unpacks to more than {limits.max_ratio} times its size.")


def _names(members: Members, limits: NameLimits) -> Iterator[Fault]:
    for row in range(len(members)):
        fault = judge(members.name(row), limits)
        if fault:
            yield fault
    yield from twins(chain((f"{name}/" for name in members.names(folders=True)), members.names(folders=False)))


def _manifest(members: Members, extractor: Extractor, limits: Limits) -> Manifest:
    for row in range(len(members)):
        if members.name(row) == manifest.NAME and not members[row].folder:
            if members.sizes[row] > limits.manifest.max_bytes:
                raise refuse("manifest_large", "The manifest is too large.", manifest.NAME)
            return manifest.read(extractor.whole(members[row]), limits.manifest, names_alone=True)
    raise refuse("manifest_absent", "The archive has no MANIFEST.yaml in its top folder.", manifest.NAME)


def _refuse(faults: Iterator[Fault]) -> None:
    found = list(faults)
    if found:
        raise Refused(found)
