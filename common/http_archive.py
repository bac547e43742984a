"""The archive behind Pacifica's archive interface: bytes by file id, put and read over HTTP.

Nothing that it says of itself is believed: what was put is read back and hashed.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests

from .config import Neighbours
from .errors import ArchiveUnavailable, ChecksumMismatch, Damaged, NotFound, RangeNotSatisfiable
from .ledger import Located
from .neighbour import Neighbour, NeighbourAway
from .pack import hasher
from .volume import BLOCK

MEMORY = 8 << 20  # a body of unknown length is kept in memory up to here, then in a temporary file


class HttpArchive:
    """The archive at ``url``; the contract is ``archive.Archive``."""

    def __init__(self, url: str, settings: Neighbours) -> None:
        """Nothing is asked before the first file."""
        self.neighbour = Neighbour("The archive", url, settings, is_final=_is_unknown)

    def put(
        self,
        id: int,
        fill: Callable[[memoryview], int],
        *,
        length: int | None,
        mtime: float,
        owner: str = "",
        hashtype: str = "sha1",
        hashsum: str | None = None,
    ) -> Located:
        """Send the bytes, hashed on their way, read them back, and return what the archive then holds.

        ChecksumMismatch when the bytes are not what is declared, ArchiveUnavailable when what was stored is not what
        was sent; either way the file is deleted again, as far as the archive lets us.  Bytes are sent once: a caller
        that can deliver them again tries again.
        """
        if length is None:
            return self._put_unknown(id, fill, mtime=mtime, owner=owner, hashtype=hashtype, hashsum=hashsum)
        source = _Source(fill, length, hashtype)
        headers = {
            "Last-Modified": time.ctime(mtime),  # as Pacifica's ingest writes it
            "Content-Type": "application/octet-stream",
            "Content-Length": str(length),
        }
        try:
            answer = self.neighbour.once("PUT", f"/{id}", body=lambda: source, headers=headers)
            if answer.status_code != 201 or _said(answer, "total_bytes") != length:
                raise ArchiveUnavailable(f"The archive did not take file {id} ({answer.status_code}).", file_id=id)
            found = source.digest.hexdigest()
            if hashsum is not None and found != hashsum.lower():
                raise ChecksumMismatch(id=id, hashtype=hashtype, found=found)
            if source.failure is not None:
                raise source.failure
            self._read_back(id, length, hashtype, found)
        except Exception as error:
            self._take_back(id)
            if source.failure is not None:
                raise source.failure from error
            raise
        return _located(id, length, hashtype, found, mtime, mtime, owner)

    def open(self, id: int, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Return the bytes ``start`` to ``stop``; Damaged where the archive sends fewer or more of them.

        Their digest is the reader's to compare: the archive holds none.
        """
        size = self.stat(id).size
        stop = size if stop is None else stop
        if not 0 <= start <= stop <= size:
            raise RangeNotSatisfiable(size=size)
        return self._read(id, start, stop, size)

    def stat(self, id: int) -> Located:
        """Return size and times of a file; its digest is not known."""
        answer = self.neighbour.ask("HEAD", f"/{id}")
        self._require(answer, id)
        headers = answer.headers
        try:
            size = int(headers["X-Content-Length"])
            mtime, ctime = float(headers["Last-Modified"]), float(headers["X-Pacifica-Ctime"])
        except (KeyError, ValueError) as error:
            raise ArchiveUnavailable(f"The archive does not tell the size of file {id}.", file_id=id) from error
        return _located(id, size, "", "", mtime, ctime, "")

    def is_near(self, id: int) -> bool:
        """Tell whether the file is on disk, where it can be read at once."""
        answer = self.neighbour.ask("HEAD", f"/{id}")
        self._require(answer, id)
        return str(answer.headers.get("X-Pacifica-File-Storage-Media", "")) == "disk"

    def stage(self, id: int) -> Located:
        """Ask for the file to be brought to disk; ``is_near`` tells when it is."""
        self._require(self.neighbour.ask("POST", f"/{id}"), id)
        return self.stat(id)

    def delete(self, id: int, who: str, reason: str = "") -> None:
        """Take a file away; NotFound when it is not there."""
        self._require(self.neighbour.ask("DELETE", f"/{id}"), id)

    def discard(self, id: int, seconds: float) -> None:
        """See to it, in one try of ``seconds``, that the file is not there; NeighbourAway when that cannot be known."""
        answer = self.neighbour.once("DELETE", f"/{id}", within=seconds)
        if answer.status_code >= 400 and answer.status_code not in (404, 410, 500):
            raise ArchiveUnavailable(f"The archive answers {answer.status_code}.", file_id=id)

    def locate(self, id: int) -> tuple[Path, int, int] | None:
        """Return None: nothing is local."""
        return None

    def _put_unknown(self, id: int, fill: Callable[[memoryview], int], **options: Any) -> Located:
        """Put a body whose length has to be counted first: the archive interface wants it announced."""
        with tempfile.SpooledTemporaryFile(MEMORY) as file:
            view = memoryview(bytearray(BLOCK))
            while count := fill(view):
                file.write(view[:count])
            length = file.tell()
            file.seek(0)
            return self.put(id, file.readinto, length=length, **options)

    def _read(self, id: int, start: int, stop: int, size: int) -> Iterator[bytes]:
        if start == stop:
            return
        whole = (start, stop) == (0, size)
        path = f"/{id}" if whole else f"/{id}?byte_range={start}-{stop}"
        answer = self.neighbour.ask("GET", path, stream=True, headers={"Accept-Encoding": "identity"})
        with answer:
            self._require(answer, id)
            left = stop - start
            try:
                for piece in answer.iter_content(BLOCK):
                    left -= len(piece)
                    if left < 0:
                        break
                    yield piece
            except (requests.RequestException, OSError) as error:
                raise self.neighbour.away("The archive broke off.") from error
            if left:
                raise Damaged(f"The archive sends another number of bytes of file {id}.", file_id=id)

    def _read_back(self, id: int, size: int, hashtype: str, hashsum: str) -> None:
        digest = hasher(hashtype)()
        try:
            for piece in self._read(id, 0, size, size):
                digest.update(piece)
        except (Damaged, NotFound) as error:
            raise ArchiveUnavailable(f"The archive did not keep file {id} as it was sent.", file_id=id) from error
        if digest.hexdigest() != hashsum:
            raise ArchiveUnavailable(f"The archive did not keep file {id} as it was sent.", file_id=id)

    def _take_back(self, id: int) -> None:
        try:
            self.neighbour.once("DELETE", f"/{id}")
        except NeighbourAway:
            return  # whoever keeps account of what was put deletes it later

    def _require(self, answer: requests.Response, id: int) -> None:
        if answer.status_code in (404, 410) or _is_unknown(answer):
            raise NotFound("there is no such file", id=id)
        if answer.status_code >= 400:
            raise ArchiveUnavailable(f"The archive answers {answer.status_code}.", file_id=id)


class _Source:
    """A body of known length that is hashed while requests reads it."""

    def __init__(self, fill: Callable[[memoryview], int], length: int, hashtype: str) -> None:
        self.len = length  # requests announces it by this name
        self.digest = hasher(hashtype)()
        self.failure: Exception | None = None
        self._fill, self._left = fill, length

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, none at the end."""
        want = min(self._left, BLOCK if size < 0 else size)
        piece = bytearray(want)
        try:
            count = self._fill(memoryview(piece)) if want else 0
        except Exception as error:
            self.failure = error
            raise
        self._left -= count
        data = bytes(piece[:count])
        self.digest.update(data)
        return data


def _is_unknown(answer: requests.Response) -> bool:
    """Tell whether a 500 is what the original says of an id that it does not have: asking again helps nobody."""
    return answer.status_code == 500 and "Can't open" in str(_said(answer, "message"))


def _said(answer: requests.Response, key: str) -> Any:
    try:
        return answer.json().get(key)
    except (ValueError, AttributeError):
        return None


def _located(id: int, size: int, hashtype: str, hashsum: str, mtime: float, ctime: float, owner: str) -> Located:
    return Located(
        id=id,
        pack="",
        offset=0,
        size=size,
        header=0,
        hashtype=hashtype,
        hashsum=hashsum,
        mtime=mtime,
        subdir="",
        name="",
        owner=owner,
        transaction=None,
        mimetype="application/octet-stream",
        ctime=ctime,
        verdict=None,
        kind="remote",
    )
