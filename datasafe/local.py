"""Datasets of this host's own volume: the verbs in process, without a server, for scripts on the storage host.

Who can write to the volume and the database may do everything: nobody's rights are asked for here.
"""

import getpass
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..common import orm, service
from ..common.auth import Principal
from ..common.config import embed
from ..common.errors import SchemaMismatch
from ..common.volume import open_volume
from . import listing
from .client import Client, Difference, Version
from .config import settings
from .delivery import write
from .inventory import Author
from .listing import Listed
from .loi import Loi, Series
from .orm import SCHEMA
from .parcel import Parcel, Sent, filler
from .safe import NoVersion, Safe
from .snapshot import Snapshot


class LocalClient(Client):
    """The datasets of ``safe``; what is stored is stored in the name of ``username`` (default: who runs this)."""

    def __init__(self, safe: Safe, username: str = "", *, closing: Callable[[], None] = lambda: None) -> None:
        """Use ``safe``, whose database is connected; ``closing`` is called at the end."""
        self.safe, self.username, self._closing = safe, username or getpass.getuser(), closing
        self.issuers = safe.settings.issuers

    def close(self) -> None:
        """Disconnect, where ``connect`` has connected."""
        self._closing()

    def give(self, series: Series) -> str:
        """Reserve the next number."""
        return str(self.safe.create(series, self.username))

    def reserve(self, name: Loi, owner: str) -> None:
        """Give this very LOI to ``owner``, if nobody has it."""
        self.safe.reserve(name, owner)

    def send(self, name: Loi, parcel: Parcel, message: str, *, first: bool, by: str = "") -> Sent:
        """Store a version by the same way in as an upload over HTTP."""
        self.safe.find(name)
        archive = parcel.zip()
        author = Author(name=by or self.username, message=message)
        reader = Principal(self.username, administrator=True, service=False, via="local")
        stored = self.safe.put(name, filler(archive.stream()), archive.length, author, first=first, reader=reader)
        warnings = tuple(warning.message for warning in stored.warnings)
        return parcel.sent(str(name), stored.facts.number, stored.integrity, warnings)

    def open(self, name: Loi, version: int | None = None) -> Snapshot:
        """Open a version."""
        self.safe.find(name)
        if version is None and not self.safe.store.exists(name):
            raise NoVersion
        return self.safe.store.open(name, version)

    def first(self, name: Loi) -> Mapping[str, str] | None:
        """Return name -> MD5 of the first version, None where there is none."""
        return self.safe.store.open(name, 1).md5 if self.safe.store.exists(name) else None

    def ls(self, prefix: str = "") -> Iterator[Listed]:
        """Yield the datasets whose LOI begins with ``prefix``."""
        after: int | None = 0
        while after is not None:
            page = listing.page(prefix, after)
            yield from page.datasets
            after = page.next

    def files(self, name: str, version: int | None = None) -> list[Mapping[str, Any]]:
        """Return name, size, sha512 and md5 of each file of a version."""
        return list(listing.files(self.open(self._named(name), version)))

    def versions(self, name: str) -> list[Mapping[str, Any]]:
        """Return version, created, author and message of each version."""
        called = self._named(name)
        self.safe.find(called)
        held = self.safe.store.versions(called) if self.safe.store.exists(called) else ()
        return [listing.version(number, *one) for number, one in enumerate(held, 1)]

    def fetch(self, held: Version, part: Path, target: Path) -> None:
        """Copy the files, every block checked."""
        for name in held.names:
            write(part / name, held.read(name))

    def reread(self, held: Version) -> Iterator[Difference]:
        """Check the whole dataset as the audit does, all its versions, past the page cache; nothing is recorded."""
        for finding in self.safe.store.verify(held.loi).findings:
            yield Difference(finding.kind, ", ".join(finding.files) or finding.path)


def connect(data: Path | None = None, config: str | None = None, username: str = "") -> LocalClient:
    """Return the datasets of ``pacifica up --data <data>``, or of the configuration in force (``config``: its file).

    What writers that were killed have left is finished first.  One at a time in a process: it closes the connection.
    """
    if data is not None:
        embed(data)
    settings.use(config)
    service.connect(settings, "pacifica-datasafe-cmd dbsync")
    if not SCHEMA.check():
        raise SchemaMismatch("The database is not at the schema of this version: run pacifica-datasafe-cmd dbsync.")
    safe = Safe(open_volume(settings().archive), settings().datasafe)
    safe.settle()
    return LocalClient(safe, username, closing=orm.disconnect)
