"""An application that shows what a server does to bodies and answers, under cheroot and under real uWSGI.

Run by ``conftest.wire`` in this process, and by uWSGI as ``--wsgi-file``.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pacifica.common import rest
from pacifica.common.auth import public
from pacifica.common.config import Auth, Server
from pacifica.common.errors import Conflict, NoSpace, ServiceError
from pacifica.common.ranges import respond_range
from pacifica.common.streams import JSON_TYPES, Body, json_body

PATIENCE = Server(body_timeout=5.0, min_body_rate=1)
MTIME = 1_000_000_000.0


@dataclass(frozen=True)
class Settings:
    auth: Auth = field(default_factory=Auth)
    server: Server = PATIENCE


class Seen:
    """What happened where the client could not see it."""

    exposed = True

    def __init__(self) -> None:
        self.said: list[str] = []

    def GET(self) -> list[str]:
        return self.said

    def DELETE(self) -> None:
        self.said.clear()


class Upload:
    exposed = True

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def PUT(self, max_bytes: str = "", idle: str = "") -> dict[str, Any]:
        patience = Server(body_timeout=float(idle), min_body_rate=1) if idle else PATIENCE
        digest, view = hashlib.sha1(), memoryview(bytearray(1 << 20))
        try:
            body = Body.of_request(int(max_bytes) if max_bytes else None, patience)
            while count := body.readinto(view):
                digest.update(view[:count])
        except ServiceError as error:
            self.seen.said.append(error.code)
            raise
        return {"received": body.received, "length": body.length, "sha1": digest.hexdigest()}

    POST = PATCH = PUT


class Download:
    """``bad``: the producer fails there; ``short``: it ends there."""

    exposed = True

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def GET(self, size: str = "1000", bad: str = "", short: str = "") -> Any:
        end = min(int(size), int(short or size), int(bad or size))

        def produce(start: int, stop: int) -> Iterator[bytes | memoryview]:
            self.seen.said.append(f"opened {start} {stop}")
            try:
                for place in range(start, min(stop, end), 1 << 20):
                    yield memoryview(pattern(place, min(place + (1 << 20), stop, end)))
                if bad:
                    raise ValueError("/a/secret/path")
            finally:
                self.seen.said.append("closed")

        return respond_range(int(size), "abc", MTIME, produce, content_type="application/x-tar", filename="ä b.tar")


class Json:
    exposed = True

    def POST(self, strict: str = "") -> Any:
        return {"got": json_body(1000, PATIENCE, types=JSON_TYPES if strict else None)}


class Broken:
    exposed = True

    def GET(self) -> None:
        raise ValueError("/a/secret/path")

    def PUT(self) -> None:
        raise Conflict("Not now", job_id=7, status="a fact that must not win")

    def POST(self) -> None:
        raise NoSpace()


class Stream:
    """A plain generator, of which nobody knows the length."""

    exposed = True

    def GET(self, bad: str = "") -> Iterator[bytes]:
        return self._pieces(bad)

    def _pieces(self, bad: str) -> Iterator[bytes]:
        if bad == "first":
            raise Conflict("before the first byte")
        yield b"a" * 1000
        if bad:
            raise ValueError("/a/secret/path")


class Item:
    exposed = True

    def GET(self, name: str, *more: str, number: str = "0", **rest_of_query: Any) -> dict[str, Any]:
        return {"name": name, "more": more, "number": int(number), "rest": rest_of_query}


class Root:
    exposed = True

    def __init__(self) -> None:
        self.seen = Seen()
        self.upload, self.download = Upload(self.seen), Download(self.seen)
        self.json, self.broken, self.stream, self.item = Json(), Broken(), Stream(), Item()
        self.hidden = object()
        setattr(self, "with.dot", Item())

    @public
    def GET(self) -> dict[str, str]:
        return {"message": "up"}


def pattern(start: int, stop: int) -> bytes:
    """Return the bytes [start, stop) of a file whose every byte tells its place."""
    first = start // 256 * 256
    return (bytes(range(256)) * ((stop - first) // 256 + 1))[start - first : stop - first]


application = rest.application(Root(), Settings(), service="wire")
