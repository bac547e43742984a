"""A remote archive that speaks Pacifica's archive interface and fails as it is told."""

import threading
import time
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PIECE = 64 << 10


class RemoteArchive:
    """An archive of ``files`` (id -> bytes) on a free loopback port.

    ``script[id]`` lists what the next GETs of a file do, each once, before all goes well: ``500``, ``stall`` (silence
    until the client goes), ``reset`` (half, then the connection breaks), ``short`` (half, as if that were all),
    ``wrong`` (a changed byte), ``long`` (more than it has).  ``on_tape[id]`` is how many HEADs after the POST it takes
    until the file is on disk; ``ranges`` says whether Range is known.
    """

    def __init__(self, files: dict[int, bytes], *, ranges: bool = True) -> None:
        self.files, self.ranges = files, ranges
        self.script: dict[int, list[str]] = defaultdict(list)
        self.always: dict[int, str] = {}
        self.on_tape: dict[int, int] = {}
        self.staged: Counter[int] = Counter()
        self.gets: list[tuple[int, str]] = []  # (id, Range)
        self.sent: Counter[int] = Counter()  # bytes
        self.slowness = 0.0  # seconds a piece
        self.busy = self.busiest = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        archive = self

        class Handler(_Handler):
            owner = archive

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Its base URL, without a slash at the end."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> "RemoteArchive":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: RemoteArchive
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        content = self._content()
        if content is None:
            return
        left = self.owner.on_tape.get(self._id, 0)
        if left and self.owner.staged[self._id]:
            self.owner.on_tape[self._id] = left - 1
        self.send_response(204)
        self.send_header("X-Content-Length", str(len(content)))
        self.send_header("Last-Modified", "1795246992.715929")
        self.send_header("X-Pacifica-File-Storage-Media", "tape" if left else "disk")
        self.end_headers()

    def do_POST(self) -> None:
        if self._content() is None:
            return
        self.owner.staged[self._id] += 1
        self._answer(200, b'{"message": "File was staged"}')

    def do_GET(self) -> None:
        content = self._content()
        if content is None:
            return
        owner, id = self.owner, self._id
        asked = self.headers.get("Range", "")
        with owner.lock:
            owner.gets.append((id, asked))
            fault = owner.script[id].pop(0) if owner.script[id] else owner.always.get(id, "")
            owner.busy += 1
            owner.busiest = max(owner.busiest, owner.busy)
        try:
            self._send(content, asked if owner.ranges else "", fault)
        except OSError:
            self.close_connection = True
        finally:
            with owner.lock:
                owner.busy -= 1

    def _send(self, content: bytes, asked: str, fault: str) -> None:
        if fault == "500":
            return self._answer(500, b"{}")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        body = content[start:]
        if fault == "wrong":
            body = body[:-1] + bytes([body[-1] ^ 1])
        if fault == "long":
            body += b"more"
        if fault == "short":
            body = body[: len(body) // 2]
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "stall":
            self.wfile.write(body[: len(body) // 2])
            self.owner.closing.wait(60)
            self.close_connection = True
            return None
        if fault == "reset":
            body = body[: len(body) // 2]
        for at in range(0, len(body), PIECE):
            self.wfile.write(body[at : at + PIECE])
            self.owner.sent[self._id] += len(body[at : at + PIECE])
            if self.owner.slowness:
                time.sleep(self.owner.slowness)
        if fault == "reset":
            self.close_connection = True
            self.connection.shutdown(2)
        return None

    @property
    def _id(self) -> int:
        return int(self.path.strip("/"))

    def _content(self) -> bytes | None:
        content = self.owner.files.get(self._id)
        if content is None:
            self._answer(404, b"{}")
        return content

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
