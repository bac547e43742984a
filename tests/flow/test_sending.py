"""A local file on its way to ingest: what a pause of ingest means while its job is waited for."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from pacifica.common.errors import NeighbourAway
from pacifica.flow import sending

OPEN = {"job_id": 7, "complete": False}


class Site(ThreadingHTTPServer):
    """Gives the ``answers`` one after the other, the last one for ever; None: it hangs up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, object] | None] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is not None:
            self.send_response(answer[0])
            self.end_headers()
            self.wfile.write(json.dumps(answer[1]).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.shutdown()
    site.server_close()


def ended(site: Site) -> dict[str, object]:
    with requests.Session() as session:
        return sending._ended(session, f"http://127.0.0.1:{site.server_port}/get_state", OPEN)


def test_a_pause_of_ingest_is_waited_for_while_its_job_goes_on(site: Site) -> None:
    away = {"code": "database_away", "message": "The database is away."}
    done = {"job_id": 7, "complete": True, "state": "OK"}
    site.answers = [(200, OPEN), (503, away), None, (200, OPEN), (503, away), (200, done)]
    assert ended(site) == done


def test_a_silence_without_end_and_a_refusal_are_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.answers = [(404, {"message": "There is no such job."})]
    with pytest.raises(sending.NotSent, match="no such job"):
        ended(site)
    monkeypatch.setattr(sending, "PAUSE_SECONDS", 0.0)
    site.answers = [(503, {})]
    with pytest.raises(NeighbourAway, match="503"):
        ended(site)
