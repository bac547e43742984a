"""Pacifica's uniqueid, policy, metadata and archive on one port, no more of each than ingest asks for."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pacifica.common.sections import Neighbours, Policy
from pacifica.ingest.config import ArchiveInterface, Metadata, Settings, UniqueId


class Site(ThreadingHTTPServer):
    """What they hold; ``before`` runs once a PUT to the archive has come, before its bytes are kept."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[int, bytes] = {}  # of the archive
        self.transactions: dict[int, list[int]] = {}  # of the metadata service: the ids of each one's files
        self.next_id = 1000
        self.before: Callable[[], None] = lambda: None
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def archive_only(self) -> Settings:
        """The settings of an ingest of which the archive alone is elsewhere."""
        return Settings(archiveinterface=ArchiveInterface(url=f"{self._url}/archive"))

    @property
    def settings(self) -> Settings:
        """The settings of an ingest that has none of its own."""
        return Settings(
            uniqueid=UniqueId(url=f"{self._url}/uniqueid"),
            policy=Policy(ingest_url=f"{self._url}/policy/ingest"),
            metadata=Metadata(ingest_url=f"{self._url}/metadata/ingest"),
            archiveinterface=ArchiveInterface(url=f"{self._url}/archive"),
            neighbours=Neighbours(retry_seconds=0.01),
        )

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        """Serve no more."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes
    server: Site

    def _any(self) -> None:
        site, place = self.server, urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = {key: int(values[0]) for key, values in parse_qs(place.query).items() if values[0].isdecimal()}
        match self.command, *place.path.strip("/").split("/"):
            case "GET", "uniqueid", "getid":
                first, site.next_id = site.next_id, site.next_id + asked["range"]
                self._say({"startIndex": first, "endIndex": site.next_id - 1})
            case "POST", "policy", "ingest":
                self._say({"status": "success"})
            case "PUT", "metadata", "ingest":
                entries = json.loads(body)
                (id,) = (each["value"] for each in entries if each["destinationTable"] == "Transactions._id")
                files = [each["_id"] for each in entries if each["destinationTable"] == "Files"]
                taken = site.transactions.setdefault(int(id), files) is files
                self._say({"status": "success"} if taken else {"status": "error"}, 200 if taken else 500)
            case "GET", "metadata", "transactions":
                self._say([{"_id": asked["_id"]}] if asked["_id"] in site.transactions else [])
            case "GET", "metadata", "files":
                self._say([{"_id": id} for id in site.transactions.get(asked["transaction"], [])])
            case "PUT", "archive", id:
                site.before()
                site.files[int(id)] = body
                self._say({"total_bytes": len(body)}, 201)
            case "DELETE", "archive", id:
                found = site.files.pop(int(id), None)
                self._say({}, 404 if found is None else 200)
            case "HEAD", "archive", id if int(id) in site.files:
                self._send(204, b"", {"X-Content-Length": str(len(site.files[int(id)]))})
            case "GET", "archive", id if int(id) in site.files:
                self._send(200, site.files[int(id)], {})
            case _:
                self._say({}, 404)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any

    def _say(self, document: Any, status: int = 200) -> None:
        self._send(status, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
