"""A folder on its way to be a dataset: which of its files go, the manifest that describes them, and their zip.

Nothing is written into the folder.  Its files are read twice, once for their sums and once as they are sent; one that
changes in between no longer has the sums that were told, and the receiver refuses it.
"""

import hashlib
import os
import stat
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..common.errors import BadRequest
from . import formats, manifest
from .faults import Fault, Refused, refuse
from .folders import Folders
from .manifest import Integrity
from .paths import NameLimits, judge, twins
from .zipstream import Part, Read, StoredZip

PIECE = 1 << 20


class FileChanged(BadRequest):
    """A file was changed while it was read."""

    code = "file_changed"


class Sums(NamedTuple):
    """What is known of one file; digests in lower-case hex."""

    size: int
    crc32: int
    md5: str
    sha512: str


class Sent(NamedTuple):
    """What became of a parcel; ``left`` are the files of the folder that did not go, ``warnings`` are sentences."""

    loi: str
    version: int
    files: int
    bytes: int
    data: bool
    all: bool
    warnings: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parcel:
    """The files of ``folder`` by name, MANIFEST.yaml among them, and the names of what stays behind."""

    folder: Path
    files: Mapping[str, Sums]
    made: bytes | None = None  # a manifest that is not in the folder
    left: tuple[str, ...] = ()

    @property
    def md5(self) -> dict[str, str]:
        """Name -> MD5."""
        return {name: sums.md5 for name, sums in self.files.items()}

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(sums.size for sums in self.files.values())

    def sent(self, loi: str, version: int, integrity: Integrity, warnings: Iterable[str] = ()) -> Sent:
        """Say what became of it."""
        verdict = integrity.data, integrity.all
        return Sent(loi, version, len(self.files), self.size, *verdict, tuple(warnings), self.left)

    def zip(self) -> StoredZip:
        """Return the zip of all files, of exact length."""
        names = sorted(self.files, key=lambda name: (name != manifest.NAME, name))
        parts = [Part(name, self.files[name].size, self.files[name].crc32) for name in names]
        return StoredZip(parts, time.time(), partial(self._reading, names))

    @contextmanager
    def _reading(self, names: Sequence[str]) -> Iterator[Read]:
        with Folders(self.folder) as held:
            yield lambda index, start, stop: self._read(held, names[index], start, stop)

    def _read(self, held: Folders, name: str, start: int, stop: int) -> Iterator[bytes]:
        if name == manifest.NAME and self.made is not None:
            yield self.made[start:stop]
            return
        descriptor = held.open(name)
        try:
            while start < stop:
                data = os.pread(descriptor, min(PIECE, stop - start), start)
                if not data:
                    raise FileChanged(file=name)
                yield data
                start += len(data)
        finally:
            os.close(descriptor)


def found(folder: Path, names: list[str]) -> Parcel:
    """Return these files of ``folder`` as they are, whatever its manifest says: the receiver holds them against it."""
    with Folders(folder) as held:
        return Parcel(folder, {name: sums(held, name) for name in names})


def described(folder: Path, loi: str, pattern: str = "") -> Parcel:
    """Return the files that make a dataset, with the manifest that is there, or with a fresh one.

    Left behind are hidden files and what the manifest does not list; with ``pattern`` a fresh manifest describes the
    files of the top folder that are named ``<pattern>.*``, as LabInform's clients have it.  Refused, naming each
    fault, when the manifest does not fit the files, or when a file cannot be part of a dataset.
    """
    folder = folder.resolve()
    entries = sorted(walked(folder))
    names = [name for name, _ in entries]
    if manifest.NAME in names and not pattern:
        return _listed(folder, entries)
    shown = [(name, fault) for name, fault in entries if not any(part.startswith(".") for part in name.split("/"))]
    if pattern:
        shown = [(name, fault) for name, fault in shown if "/" not in name and name.startswith(f"{pattern}.")]
    going = [name for name, _ in shown if name != manifest.NAME]
    _refuse([fault for _, fault in shown if fault] or twins(going))
    with Folders(folder) as held:
        files = {name: sums(held, name) for name in going}
    made = _manifest(folder, loi, files)
    fresh = Sums(len(made), zlib.crc32(made), _md5(made), hashlib.sha512(made).hexdigest())
    return Parcel(folder, files | {manifest.NAME: fresh}, made, _rest(names, going))


def walked(folder: Path) -> Iterator[tuple[str, Fault | None]]:
    """Yield everything below ``folder`` that is no folder, with what keeps it from being part of a dataset."""
    for here, folders, names in os.walk(folder, onerror=_fail):
        for name in (*names, *folders):
            path = Path(here, name)
            mode = path.lstat().st_mode
            if not stat.S_ISDIR(mode):
                inner = path.relative_to(folder).as_posix()
                special = (
                    None if stat.S_ISREG(mode) else Fault("zip_special", "Links and devices are not taken.", inner)
                )
                yield inner, judge(inner, NameLimits()) or special


def sums(held: Folders, name: str) -> Sums:
    """Read a file and return its size and digests."""
    md5, sha512, crc32, size = hashlib.md5(usedforsecurity=False), hashlib.sha512(), 0, 0
    with os.fdopen(held.open(name), "rb", buffering=0) as file:
        while data := file.read(PIECE):
            md5.update(data)
            sha512.update(data)
            crc32 = zlib.crc32(data, crc32)
            size += len(data)
    return Sums(size, crc32, md5.hexdigest(), sha512.hexdigest())


def filler(pieces: Iterator[bytes | memoryview]) -> Callable[[memoryview], int]:
    """Return what delivers ``pieces`` into views, 0 at their end: a body, for ``Safe.put``."""
    rest = memoryview(b"")

    def fill(view: memoryview) -> int:
        nonlocal rest
        while not rest:
            piece = next(pieces, None)
            if piece is None:
                return 0
            rest = memoryview(piece)
        count = min(len(rest), len(view))
        view[:count] = rest[:count]
        rest = rest[count:]
        return count

    return fill


def _listed(folder: Path, entries: list[tuple[str, Fault | None]]) -> Parcel:
    """Take the files that the folder's own manifest lists, each held against it."""
    names = [name for name, _ in entries]
    with Folders(folder) as held:
        with os.fdopen(held.open(manifest.NAME), "rb") as file:
            said = manifest.read(file.read(manifest.ManifestLimits().max_bytes + 1))
        going = sorted({*said.data, *said.metadata}.intersection(names))
        _refuse(fault for name, fault in entries if fault and name in going)
        _refuse(said.compare(going, {name.rpartition("/")[0] for name in names}))
        files = {name: sums(held, name) for name in [*going, manifest.NAME]}
    verdict = said.integrity({name: files[name].md5 for name in going})
    if not verdict.sound:
        words = "data" if not verdict.data else "metadata"
        text = f"The {words} files are not those that MANIFEST.yaml was made for; mend them, or remove MANIFEST.yaml."
        raise Refused([Fault("checksum_mismatch", text, manifest.NAME)], data=verdict.data, all=verdict.all)
    return Parcel(folder, files, None, _rest(names, going))


def _manifest(folder: Path, loi: str, files: Mapping[str, Sums]) -> bytes:
    metadata = [name for name in files if formats.is_metadata(name)]
    data = [name for name in files if not formats.is_metadata(name)]
    if not data or not metadata:
        kind = "data file" if not data else f"metadata file ({', '.join(formats.METADATA_EXTENSIONS)})"
        raise refuse("manifest_incomplete", f"There is no {kind}; a dataset has both kinds.")
    told = formats.detect([folder / name for name in data], [folder / name for name in metadata])
    named = [(name, *said) for name, said in zip(metadata, told.metadata, strict=True)]
    md5 = {name: found.md5 for name, found in files.items()}
    return manifest.write(manifest.create(loi, data, named, md5, told.data))


def _rest(names: list[str], going: list[str]) -> tuple[str, ...]:
    return tuple(sorted({*names}.difference(going, (manifest.NAME,))))


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _refuse(faults: Iterable[Fault]) -> None:
    told = list(faults)
    if told:
        raise Refused(told)


def _fail(error: OSError) -> None:
    raise error
