"""A neighbour that fails as it is told to: a proxy before a service that works; and the settings that ask it."""

import select
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

REFUSAL = b'{"status": "412", "message": "Precondition Failed: Invalid values for project", "traceback": ""}'
DRIP_SECONDS, SLOW_SECONDS = 0.4, 1.0


class FaultProxy:
    """Passes requests on to ``target``; ``faults`` says what happens to the next ones whose (method, path) match."""

    ASKED = ("Last-Modified", "Content-Type")  # headers that are passed on, and of answers the beginnings of such
    TOLD = ("X-", "Last-M")

    def __init__(self, target: str) -> None:
        self.target, self.seen, self.faults = target, [], []  # type: ignore[var-annotated]
        self.held, self._taking = threading.Event(), threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy.handle(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = handle_any

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def heal(self) -> None:
        """Fail no more, and forget what was asked."""
        with self._taking:
            self.faults.clear()
        self.seen.clear()
        self.held.clear()

    def put(self) -> list[int]:
        """Return the ids of the files that were sent, in order."""
        return [
            int(path.rpartition("/")[2]) for method, path in self.seen if (method, path[:9]) == ("PUT", "/archive/")
        ]

    def fail(self, method: str, part: str, how: str, times: int = 1) -> None:
        self.faults += [[method, part, how] for _ in range(times)]

    def handle(self, request: Any) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.seen.append((request.command, request.path))
        how = self._fault(request)
        if how == "hold":
            self.held.set()
            time.sleep(30)
        if how == "stall":
            select.select([request.connection], [], [], 60)  # until the other side has had enough
            request.close_connection = True
            return
        if how == "reset":
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        if how in ("500", "503"):
            self.answer(request, int(how), b'{"status": "error"}', {"Retry-After": "0"} if how == "503" else {})
            return
        if how == "wrong" and request.command == "PUT":
            body = b"X" + body[1:]
        if how == "cut":
            body = body[:-1]
        if how == "slow":
            time.sleep(SLOW_SECONDS)
        if how == "refuse":
            self.answer(request, 412, REFUSAL, {})
            return
        headers = {name: request.headers[name] for name in self.ASKED if name in request.headers}
        found = requests.request(request.command, self.target + request.path, data=body, headers=headers, timeout=30)
        if how == "lost":  # done, but nobody hears of it
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        if how in ("drip", "drip body"):
            self.drip(request, found, whole_head=how == "drip body")
            return
        content = {"short": found.content[:-1], "half": found.content[: len(found.content) // 2]}.get(
            str(how), found.content
        )
        if how == "flipped":
            content = b"X" + content[1:]
        kept = {name: value for name, value in found.headers.items() if name.startswith(self.TOLD)}
        self.answer(request, found.status_code, content, kept, len(found.content))

    def _fault(self, request: Any) -> str | None:
        """Take the first fault that is meant for a request."""
        with self._taking:
            for place, (method, part, how) in enumerate(self.faults):
                if method == request.command and part in request.path:
                    del self.faults[place]
                    return str(how)
        return None

    def drip(self, request: Any, found: requests.Response, whole_head: bool) -> None:
        """Answer byte by byte, each in time for the one who waits for the next."""
        head = f"HTTP/1.1 {found.status_code} OK\r\nContent-Length: {len(found.content)}\r\n\r\n".encode()
        pieces = [head] if whole_head else [bytes([byte]) for byte in head]
        request.close_connection = True
        for piece in [*pieces, *(bytes([byte]) for byte in found.content)]:
            try:
                request.wfile.write(piece)
            except OSError:
                return
            if select.select([request.connection], [], [], DRIP_SECONDS)[0]:
                return  # the other side has had enough

    def answer(
        self, request: Any, status: int, body: bytes, headers: dict[str, str], length: int | None = None
    ) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Type", "application/json")
        if status != 204:
            request.send_header("Content-Length", str(len(body) if length is None else length))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)
        if length is not None and length != len(body):
            request.connection.shutdown(socket.SHUT_RDWR)


def external(url: str, volume: Path) -> dict[str, str]:
    """Return the settings of an ingest that has all of its neighbours at ``url``, a datasafe's or a proxy's."""
    return {
        "UNIQUEID_URL": f"{url}/uniqueid",
        "POLICY_INGEST_URL": f"{url}/policy/ingest",
        "METADATA_INGEST_URL": f"{url}/metadata/ingest",
        "ARCHIVEINTERFACE_URL": f"{url}/archive",
        "VOLUME_PATH": str(volume),
        "PACIFICA_NEIGHBOURS_RETRY_SECONDS": "0.02",
    }
