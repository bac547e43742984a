"""Datasets of a datasafe behind a URL, by its published API (docs/datasafe.md): the verbs from anywhere."""

import fcntl
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ..common.errors import Conflict, Damaged, NeighbourAway, NoSpace, ServiceError
from ..common.moment import epoch
from .client import Client, Difference, Version, differing
from .dataset import DatasetExists
from .delivery import unpack
from .exchange import CONNECT_SECONDS, STORE_SECONDS, TRIES, BadAnswer, Exchange, pieces, wait
from .faults import Refused
from .held import HeldVersion, since
from .listing import MOST, Listed
from .loi import Loi, Series, dataset
from .manifest import Integrity
from .parcel import Parcel, Sent
from .safe import DatasetEmpty, NoVersion
from .zipstream import StoredZip

_CONTENT_RANGE = re.compile(r"bytes 0-0/([0-9]{1,18})")


class HttpClient(Client):
    """The datasets behind ``url`` (``http://127.0.0.1:8080``).

    Credentials are for the proxy in front: a ``token`` (sent as Bearer), or what .netrc or the URL has for the host.
    """

    def __init__(self, url: str, token: str = "") -> None:
        """Ask nothing yet."""
        self._exchange = Exchange(url, token)

    def close(self) -> None:
        """Close the connections."""
        self._exchange.close()

    def give(self, series: Series) -> str:
        """Reserve the next number; asked again under the same key where the answer was lost, it is the same."""
        with self._exchange.ask("POST", str(series), headers=_key()) as answer:
            try:
                return str(dataset(answer.text))
            except ServiceError as error:
                raise BadAnswer("The server's answer is no LOI.") from error

    def reserve(self, name: Loi, owner: str) -> None:
        """Give this very LOI to ``owner``, as an administrator may."""
        self._exchange.ask("POST", str(name), params={"exact": "", "owner": owner}).close()

    def send(self, name: Loi, parcel: Parcel, message: str, *, first: bool, by: str = "") -> Sent:
        """Store a version; where the answer is lost, look whether it is there before sending it again."""
        before = self._newest(name)
        if first is bool(before):
            raise DatasetExists if before else DatasetEmpty
        archive, key, attempt = parcel.zip(), _key(), 1
        while True:
            try:
                return self._send(name, parcel, archive, message, "PUT" if first else "PATCH", key)
            except ServiceError as error:
                passing = error.retryable and attempt < TRIES
                late = attempt > 1 and error.code == DatasetExists.code
                if not passing and not late:
                    raise
                if passing:
                    wait(attempt + 1, error.retry_after)
                arrived = self._arrived(name, parcel, before)
                if arrived:
                    return arrived
                if late:
                    raise
            attempt += 1

    def open(self, name: Loi, version: int | None = None) -> HeldVersion:
        """Ask what a version holds."""
        if version is None and not self._newest(name):
            raise NoVersion
        query = {"files": ""} | ({} if version is None else {"version": str(version)})
        return HeldVersion(self._exchange, name, self._exchange.json(str(name), **query))

    def first(self, name: Loi) -> Mapping[str, str] | None:
        """Return name -> MD5 of the first version, None where there is none."""
        return self.open(name, 1).md5 if self._newest(name) else None

    def ls(self, prefix: str = "") -> Iterator[Listed]:
        """Yield the datasets whose LOI begins with ``prefix``."""
        after: int | None = 0
        while after is not None:
            page = self._exchange.json("", prefix=prefix, after=str(after), limit=str(MOST))
            try:
                for one in page["datasets"]:
                    yield Listed(**one)._replace(stored=epoch(one["stored"]) if one["stored"] else None)
                last, after = after, page["next"]
            except (KeyError, TypeError, ValueError) as error:
                raise BadAnswer() from error
            if after is not None and not (type(after) is int and after > last):
                raise BadAnswer("The server's pages do not end.")

    def files(self, name: str, version: int | None = None) -> list[Mapping[str, Any]]:
        """Return name, size, sha512 and md5 of each file of a version."""
        return self.open(self._named(name), version).listed

    def versions(self, name: str) -> list[Mapping[str, Any]]:
        """Return version, created, author and message of each version."""
        told = self._exchange.json(str(self._named(name)), versions="")
        try:
            return [{key: one[key] for key in ("version", "created", "author", "message")} for one in told["versions"]]
        except (KeyError, TypeError) as error:
            raise BadAnswer() from error

    def fetch(self, held: Version, part: Path, target: Path) -> None:
        """Fetch the zip beside ``target``, going on where an earlier download broke off, and unpack it, checked."""
        etag, length = self._layout(held)
        key = hashlib.sha256(f"{self._exchange.api} {held.loi} {etag}".encode()).hexdigest()[:16]
        with _partial(target, key) as file:
            have = file.seek(0, 2)
            if shutil.disk_usage(part).free < held.size + max(0, length - have):
                raise NoSpace("There is no room here for this dataset.")
            self._fill(file, held, etag, length)
            try:
                unpack(_path(target, key), part, held.digests, held.size)
            except Refused as error:
                raise Damaged(f"What arrived is not what the server promised: {error.message}") from error

    def reread(self, held: Version) -> Iterator[Difference]:
        """Fetch every file and hold it against its digest."""
        return differing(held)

    # ---- parts -----------------------------------------------------------------------------------------------------

    def _newest(self, name: Loi) -> int:
        """Return the number of the newest version, 0 where there is none."""
        return len(self.versions(str(name)))

    def _layout(self, held: Version) -> tuple[str, int]:
        """Return validator and length of a version's zip; by its first byte, since HEAD would not say what is wrong."""
        query, headers = {"version": str(held.number)}, since(0) | {"Range": "bytes=0-0"}
        with self._exchange.ask("GET", str(held.loi), params=query, headers=headers) as answer:
            told = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            etag = answer.headers.get("ETag", "")
        if not told or not etag.startswith('"'):
            raise BadAnswer("The server gives no ranges.")
        return etag, int(told[1])

    def _send(
        self, name: Loi, parcel: Parcel, archive: StoredZip, message: str, method: str, key: dict[str, str]
    ) -> Sent:
        with self._exchange.ask(
            method, str(name), tries=1, params={"message": message} if message else {}, data=_Body(archive),
            headers={"Content-Type": "application/zip"} | key, timeout=(CONNECT_SECONDS, STORE_SECONDS),
        ) as answer:  # fmt: skip
            try:
                verdict, number = answer.json(), int(answer.headers["X-Pacifica-Version"])
                told = answer.headers.get("Warning", "").removeprefix('199 - "').removesuffix('"')
                warnings = tuple(told.split('", 199 - "')) if told else ()
                return parcel.sent(str(name), number, Integrity(verdict["data"], verdict["all"]), warnings)
            except (KeyError, TypeError, ValueError) as error:
                raise BadAnswer() from error

    def _arrived(self, name: Loi, parcel: Parcel, before: int) -> Sent | None:
        """Return the version after ``before`` that has just these files."""
        for number in range(before + 1, self._newest(name) + 1):
            if self.open(name, number).md5 == parcel.md5:
                return parcel.sent(str(name), number, Integrity(data=True, all=True))
        return None

    def _fill(self, file: IO[bytes], held: Version, etag: str, length: int) -> None:
        """Fetch what ``file`` lacks of the zip; NeighbourAway when nothing comes any more: the next call goes on."""
        attempt, at = 1, file.seek(0, 2)
        query = {"version": str(held.number)}
        while at < length:
            begun = at
            try:
                headers = since(at, etag)
                with self._exchange.ask("GET", str(held.loi), params=query, headers=headers, stream=True) as answer:
                    if answer.status_code != 206:
                        at = file.truncate(0)
                        file.seek(0)
                    for piece in pieces(answer):
                        at += file.write(piece)
                        if at > length:
                            raise BadAnswer("The server sends more than it promised.")
            except NeighbourAway as error:
                if isinstance(error, BadAnswer):
                    file.truncate(0)
                    raise
                attempt = 1 if at > begun else attempt + 1
                if attempt > TRIES:
                    raise
                wait(attempt)
        file.flush()


def _key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


class _Body:
    """A zip as requests sends it: of known length, and from its start each time."""

    def __init__(self, archive: StoredZip) -> None:
        self._archive = archive

    def __len__(self) -> int:
        return self._archive.length

    def __iter__(self) -> Iterator[bytes | memoryview]:
        return self._archive.stream()


@contextmanager
def _partial(target: Path, key: str) -> Iterator[IO[bytes]]:
    """Give the file beside ``target`` in which a download waits, ours alone.

    It stays when the server goes away or this process does, for the next call to go on, and goes in every other case.
    """
    path = _path(target, key)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC  # the name can be guessed
    with os.fdopen(os.open(path, flags, 0o600), "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("Another download to this place is under way.") from None
        if not os.fstat(file.fileno()).st_nlink:
            raise Conflict("Another download to this place has just ended.")
        try:
            yield file
        except (NeighbourAway, KeyboardInterrupt):
            raise
        except BaseException:
            path.unlink()
            raise
        path.unlink()
        for older in path.parent.glob(f".{target.name}.*.partial"):
            _forget(older)


def _path(target: Path, key: str) -> Path:
    return target.with_name(f".{target.name}.{key}.partial")


def _forget(path: Path) -> None:
    """Remove what an earlier download of another version has left, unless it goes on just now."""
    with suppress(OSError), path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
