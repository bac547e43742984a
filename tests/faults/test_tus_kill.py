"""A server that is killed at any point of a resumable upload loses nothing that it has said to have."""

import hashlib
import os
import socket
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.suite import Suite, until

TUS = {"Tus-Resumable": "1.0.0"}
POINTS = 30
CONTENT = {"a.txt": b"alpha", "b.dat": os.urandom(6 << 20)}


def send_until_killed(suite: Suite, url: str, offset: int, data: bytes, count: int) -> None:
    """PATCH ``data``, and kill the server once ``count`` bytes of it are sent and some of them are on disk."""
    where = urlsplit(url)
    file = suite.archive / "spool" / url.rpartition("/")[2]
    with socket.create_connection((where.hostname, where.port), timeout=60) as connection:
        lines = {"Host": where.netloc, "Content-Type": "application/offset+octet-stream", **TUS}
        lines |= {"Upload-Offset": str(offset), "Content-Length": str(len(data))}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        connection.sendall(f"PATCH {where.path} HTTP/1.1\r\n{head}\r\n".encode() + data[:count])
        until(lambda: not file.exists() or file.stat().st_size > offset, 60, "the first bytes")
        suite.kill()


def offset_of(url: str) -> int:
    answer = requests.head(url, headers=TUS, timeout=60)
    assert answer.status_code == 200
    return int(answer.headers["Upload-Offset"])


@pytest.mark.timeout(600)
def test_a_kill_at_thirty_points_of_one_upload_loses_no_byte_that_was_counted(tmp_path: Path) -> None:
    posted = bundle(CONTENT)
    suite = Suite(tmp_path / "data")
    try:
        suite.start()
        headers = {**TUS, "Upload-Length": str(len(posted))}
        opened = requests.post(f"{suite.urls['ingest']}/files/", headers=headers, timeout=60)
        name = urljoin(opened.url, opened.headers["Location"]).rpartition("/")[2]
        sent = offset = 0
        for point in range(1, POINTS + 1):
            url = f"{suite.urls['ingest']}/files/{name}"
            target = point * len(posted) // POINTS  # the last kill comes when every byte was sent
            count = max(1, target - offset)
            send_until_killed(suite, url, offset, posted[offset:], count)
            sent = max(sent, offset + count)
            suite.start()
            before, offset = offset, offset_of(f"{suite.urls['ingest']}/files/{name}")
            assert before < offset <= sent
        url = f"{suite.urls['ingest']}/files/{name}"
        if offset < len(posted):
            media = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
            last = requests.patch(url, data=posted[offset:], headers={**TUS, **media}, timeout=60)
            assert last.status_code == 204
        head = requests.head(url, headers=TUS, timeout=60)
        job = int(head.headers["X-Pacifica-Job-Id"])
        assert suite.finished(job, 60)["state"] == "OK"
        assert suite.query("SELECT count(*) FROM job") == [(1,)]
        (pack,) = suite.packs()
        kept = (suite.archive / "packs" / pack[:2] / pack[2:4] / pack).read_bytes()
        assert hashlib.sha256(kept).digest() == hashlib.sha256(posted).digest()
        assert suite.spooled() == []
    finally:
        suite.kill()


AFTER = """
import os, sys
from pacifica.common.cli import main
from pacifica.ingest import {room}
def die(*_, **__):
    os._exit(137)
{room}.{name} = die
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("room", "name"), [("resumable", "finish"), ("tus", "_no_content")], ids=["before the commit", "after the commit"]
)
def test_a_kill_around_the_last_commit_makes_one_job(tmp_path: Path, room: str, name: str) -> None:
    posted = bundle({"a.txt": b"alpha"})
    suite = Suite(tmp_path / "data")
    try:
        suite.start(AFTER.format(room=room, name=name))
        headers = {**TUS, "Upload-Length": str(len(posted))}
        opened = requests.post(f"{suite.urls['ingest']}/files/", headers=headers, timeout=60)
        url = urljoin(opened.url, opened.headers["Location"])
        media = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
        with pytest.raises(requests.ConnectionError):
            requests.patch(url, data=posted, headers={**TUS, **media}, timeout=60)
        assert suite.stop() == 137
        suite.start()
        url = f"{suite.urls['ingest']}/files/{url.rpartition('/')[2]}"
        assert offset_of(url) == len(posted)
        again = requests.patch(url, data=posted, headers={**TUS, **media}, timeout=60)
        assert (again.status_code, again.headers["X-Pacifica-Job-Id"]) == (409, "1")
        assert suite.finished(1, 60)["state"] == "OK"
        assert suite.query("SELECT count(*) FROM job") == [(1,)]
    finally:
        suite.kill()
