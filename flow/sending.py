"""A file of this host as an input: sent to ingest as a bundle of one file, and named by the id that the archive gave.

The bundle is made while it is sent (docs/formats.md#bundle): the digest in its metadata, which comes last, is of the
bytes that went before.
"""

import hashlib
import json
import mimetypes
import tarfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from ..common.catalog import files_of
from ..common.errors import BadRequest, NeighbourAway, ServiceError

PIECE = 1 << 20  # bytes
CONNECT_SECONDS, SILENCE_SECONDS = 10.0, 600.0
POLL_SECONDS, PAUSE_SECONDS = 0.1, 600.0  # of an ingest that has the file already
_END = b"\0" * 1024  # of a tar
_SHA1 = "0" * 40


class NotSent(ServiceError):
    """Ingest did not take the file; the message is its own."""

    status = 422
    code = "not_sent"


def send(path: Path, url: str, about: Mapping[str, str], token: str = "") -> int:
    """Archive the file ``path`` by the ingest at ``url``, and return its id once it is visible.

    ``about`` is submitter, project and instrument.  BadRequest for what is no file, NotSent for what ingest refuses,
    NeighbourAway when it does not answer.
    """
    try:
        bundle = _Bundle(path, about)
    except OSError as error:
        raise BadRequest(f"{str(path)!r:.200} cannot be read: {error.strerror}.") from error
    with requests.Session() as session:
        if token:
            session.headers["Authorization"] = f"Bearer {token}"
        headers = {"Content-Type": "application/octet-stream"}
        state = _asked(session, "POST", f"{url.rstrip('/')}/upload", data=bundle, headers=headers)
        state = _ended(session, f"{url.rstrip('/')}/get_state", state)
    if state["state"] != "OK":
        raise NotSent(f"{path.name!r:.200} was not archived: {state['exception']}"[:1000])
    return int(next(iter(files_of(state["job_id"])))["_id"])


def _ended(session: requests.Session, url: str, state: dict[str, Any]) -> dict[str, Any]:
    """Ask until the job has ended, also past a pause of ingest: it has the file, and goes on with it afterwards."""
    heard = time.monotonic()
    while not state["complete"]:
        time.sleep(POLL_SECONDS)
        try:
            state, heard = _asked(session, "GET", url, params={"job_id": state["job_id"]}), time.monotonic()
        except NeighbourAway:
            if time.monotonic() - heard > PAUSE_SECONDS:
                raise
    return state


def _asked(session: requests.Session, method: str, url: str, **options: Any) -> dict[str, Any]:
    try:
        answer = session.request(method, url, timeout=(CONNECT_SECONDS, SILENCE_SECONDS), **options)
        said = answer.json()
    except requests.JSONDecodeError:
        raise NeighbourAway(f"What answers at {url} is no ingest.") from None
    except requests.RequestException as error:
        raise NeighbourAway(
            f"ingest at {url} does not answer: {type(error).__name__}. --ingest URL names another."
        ) from error
    if answer.status_code in (502, 503, 504):
        raise NeighbourAway(f"ingest at {url} answers {answer.status_code}.")
    if answer.status_code != 200 or "job_id" not in said:
        raise NotSent(f"ingest at {url} answers {answer.status_code}: {said.get('message', '')}"[:1000])
    return dict(said)


class _Bundle:
    """The bytes of a bundle, once; its length is known before."""

    def __init__(self, path: Path, about: Mapping[str, str]) -> None:
        self._path, self._about = path, about
        with path.open("rb"):  # what cannot be read is told before anything is sent
            self._stat = path.stat()
        self._size = self._stat.st_size
        text = self._metadata(_SHA1)
        self._heads = _head(f"data/{path.name}", self._size, self._stat.st_mtime), _head("metadata.txt", len(text))
        self._length = sum(map(len, self._heads)) + _padded(self._size) + _padded(len(text)) + len(_END)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        digest, left = hashlib.sha1(), self._size
        yield self._heads[0]
        with self._path.open("rb") as file:
            while left and (piece := file.read(min(PIECE, left))):
                left -= len(piece)
                digest.update(piece)
                yield piece
        if left:
            raise BadRequest(f"{self._path.name!r:.200} became shorter while it was read.")
        text = self._metadata(digest.hexdigest())
        yield bytes(_padded(self._size) - self._size) + self._heads[1]
        yield text + bytes(_padded(len(text)) - len(text)) + _END

    def _metadata(self, sha1: str) -> bytes:
        moment = datetime.fromtimestamp(self._stat.st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        file = {
            "destinationTable": "Files",
            "name": self._path.name,
            "subdir": "",
            "size": self._size,
            "mimetype": mimetypes.guess_type(self._path.name)[0] or "application/octet-stream",
            "hashtype": "sha1",
            "hashsum": sha1,
            "ctime": moment,
            "mtime": moment,
        }
        said = [{"destinationTable": f"Transactions.{name}", "value": value} for name, value in self._about.items()]
        return json.dumps([*said, file]).encode()


def _head(name: str, size: int, mtime: float = 0.0) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = size, int(mtime)
    return member.tobuf(tarfile.PAX_FORMAT)


def _padded(size: int) -> int:
    return -(-size // 512) * 512
