"""The verbs of datasets, the same for a datasafe of this host (``local``) and for one behind a URL (``remote``).

A dataset is a folder here and a version there.  What a call changes is changed whole or not at all.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from ..common.errors import ChecksumMismatch, Damaged
from . import bagit, loi, takeover
from .bagit import Bagged
from .delivery import appearing
from .folders import Folders
from .frames import CHANGED, MISSING, UNEXPECTED
from .listing import Listed
from .loi import Loi
from .parcel import Parcel, Sent, described, sums, walked
from .takeover import Outcome


class Version(Bagged, Protocol):
    """A version that is held; ``md5`` is name -> lower-case hex."""

    @property
    def md5(self) -> Mapping[str, str]: ...


class Fetched(NamedTuple):
    """What a download or an export has written."""

    loi: str
    version: int
    files: int
    bytes: int
    path: str


class Difference(NamedTuple):
    """One file that is not as it should be: ``missing``, ``changed``, ``short`` or ``unexpected``."""

    kind: str
    file: str


class Checked(NamedTuple):
    """What ``verify`` found; sound when there are no ``findings``."""

    loi: str
    version: int
    files: int
    bytes: int
    findings: tuple[Difference, ...]


class Client(ABC):
    """What can be done with datasets; a context manager."""

    issuers: Collection[str] = ()
    username = ""  # in whose name things are done; empty: the server knows

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Let go of connections."""

    # ---- the verbs -------------------------------------------------------------------------------------------------

    def create(self, series: str) -> str:
        """Reserve the next LOI of ``series`` (``42.1001/ds/exp/sa/42/cwepr``) and return it."""
        return self.give(loi.series(series, self.issuers))

    def upload(self, name: str, folder: Path | str, *, pattern: str = "", message: str = "") -> Sent:
        """Store the files of ``folder`` as the first version of the LOI ``name``.

        A MANIFEST.yaml in the folder says what goes and must fit; where there is none one is made, and not written
        there.  ``pattern``: only ``<pattern>.*`` of the folder, described afresh.  Refused names every fault.
        """
        return self._upload(name, Path(folder), pattern, message, first=True)

    def update(self, name: str, folder: Path | str, *, pattern: str = "", message: str = "") -> Sent:
        """Store the files of ``folder`` as one version more; the old ones stay.  As ``upload``."""
        return self._upload(name, Path(folder), pattern, message, first=False)

    def download(self, name: str, target: Path | str, version: int | None = None) -> Fetched:
        """Write a version (default: the newest) as the folder ``target``, which must not exist, every byte checked.

        ``target`` appears whole or not at all.
        """
        held = self.open(self._named(name), version)
        path = Path(target).absolute()
        with appearing(path) as part:
            self.fetch(held, part, path)
        return Fetched(str(held.loi), held.number, len(held.names), held.size, str(path))

    def verify(self, name: str, folder: Path | str | None = None, version: int | None = None) -> Checked:
        """Compare ``folder`` with a version that is held (default: the newest), file by file and byte by byte.

        Without ``folder`` the version itself is read again, every byte of it, and held against its digests.
        """
        held = self.open(self._named(name), version)
        found = tuple(_compared(held, Path(folder).resolve()) if folder is not None else self.reread(held))
        return Checked(str(held.loi), held.number, len(held.names), held.size, found)

    @abstractmethod
    def ls(self, prefix: str = "") -> Iterator[Listed]:
        """Yield the datasets whose LOI begins with ``prefix``, in the order in which their LOIs were given."""

    @abstractmethod
    def files(self, name: str, version: int | None = None) -> list[Mapping[str, Any]]:
        """Return name, size, sha512 and md5 of each file of a version (default: the newest)."""

    @abstractmethod
    def versions(self, name: str) -> list[Mapping[str, Any]]:
        """Return version, created, author and message of each version, the oldest first."""

    def export(self, name: str, target: Path | str, version: int | None = None) -> Fetched:
        """Write a version as a bag (BagIt 1.0, RFC 8493) to the folder ``target``; it appears whole or not at all."""
        held = self.open(self._named(name), version)
        path = Path(target).absolute()
        bagit.export(held, path)
        return Fetched(str(held.loi), held.number, len(held.names), held.size, str(path))

    def take_over(self, root: Path | str, issuer: str, owner: str) -> Iterator[Outcome]:
        """Take over the LabInform datasafe whose ``datasafe_root`` is ``root`` (docs/datasafe.md#takeover)."""
        return takeover.take_over(self, Path(root), issuer, owner)

    # ---- what each kind of datasafe does in its own way ------------------------------------------------------------

    @abstractmethod
    def give(self, series: loi.Series) -> str:
        """Reserve the next number."""

    @abstractmethod
    def reserve(self, name: Loi, owner: str) -> None:
        """Give this very LOI to ``owner``, if nobody has it."""

    @abstractmethod
    def send(self, name: Loi, parcel: Parcel, message: str, *, first: bool, by: str = "") -> Sent:
        """Store a version; ``by`` made it, where this client may say so."""

    @abstractmethod
    def open(self, name: Loi, version: int | None = None) -> Version:
        """Open a version; NoSuchDataset, NoSuchVersion, or what a server says in their place."""

    @abstractmethod
    def first(self, name: Loi) -> Mapping[str, str] | None:
        """Return name -> MD5 of the first version, None where there is none."""

    @abstractmethod
    def fetch(self, held: Version, part: Path, target: Path) -> None:
        """Write the files of a version into the empty folder ``part``, on its way to be ``target``."""

    @abstractmethod
    def reread(self, held: Version) -> Iterator[Difference]:
        """Read every byte of a version and yield what is not as it was."""

    # ---- parts -----------------------------------------------------------------------------------------------------

    def _named(self, name: str) -> Loi:
        return loi.dataset(name, self.issuers)

    def _upload(self, name: str, folder: Path, pattern: str, message: str, *, first: bool) -> Sent:
        called = self._named(name)
        return self.send(called, described(folder, str(called), pattern), message, first=first)


def differing(held: Version) -> Iterator[Difference]:
    """Read every file of a version and yield those that do not hash to their digest, or cannot be had."""
    for name in held.names:
        sha512 = hashlib.sha512()
        try:
            for piece in held.read(name):
                sha512.update(piece)
        except (Damaged, ChecksumMismatch):
            yield Difference(CHANGED, name)
            continue
        if sha512.hexdigest() != held.digests[name]:
            yield Difference(CHANGED, name)


def _compared(held: Version, folder: Path) -> Iterator[Difference]:
    present = dict(walked(folder))
    with Folders(folder) as folders:
        for name in held.names:
            if name not in present or present[name] is not None:
                yield Difference(MISSING, name)
            elif sums(folders, name).sha512 != held.digests[name]:
                yield Difference(CHANGED, name)
    for name in sorted(present.keys() - set(held.names)):
        yield Difference(UNEXPECTED, name)
