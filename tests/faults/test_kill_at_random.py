"""Killed at any moment under load, and in the middle of a large bundle, jobs end exactly once in effect."""

import itertools
import random
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.crash import CONTENTS, Mortal
from pacifica.tests.system.suite import until

MANY = {f"d{number % 50}/f{number}": b"%d" % number for number in range(25_000)}


def test_uploads_under_way_when_the_suite_is_killed_again_and_again_end_once(tmp_path: Path) -> None:
    suite, chance = Mortal(tmp_path / "data", []), random.Random(7)
    posted, acknowledged = bundle(CONTENTS), []

    def upload(url: str) -> None:
        with suppress(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            for _ in range(50):
                acknowledged.append(requests.post(f"{url}/upload", data=posted, timeout=30).json()["job_id"])

    try:
        for _ in range(8):
            suite.start()
            seen = len(acknowledged)
            clients = [threading.Thread(target=upload, args=(suite.urls["ingest"],)) for _ in range(4)]
            for client in clients:
                client.start()
            until(lambda seen=seen: len(acknowledged) >= seen + 3, 60, "some uploads")  # type: ignore[misc]
            time.sleep(chance.uniform(0, 1.0))  # the moment of death is what varies
            suite.kill()
            for client in clients:
                client.join(60)
        suite.start()
        suite.settled()
        assert len(acknowledged) == len(set(acknowledged)) > 20
        ended = dict(suite.query("SELECT id, state FROM job"))
        assert {ended[job] for job in acknowledged} == {"ARCHIVED"}
    finally:
        suite.kill()


@pytest.mark.parametrize("when", ["before 2", "after 3"])
def test_rows_of_a_bundle_that_were_half_written_are_written_once(tmp_path: Path, when: str) -> None:
    step = f"call pacifica.common.orm:insert_rows {when}"
    suite = Mortal(tmp_path / "data", ["pacifica.common.orm:insert_rows"]).start()
    try:
        suite.arm(step)
        with suppress(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            suite.upload(bundle(MANY))
        suite.died(step)
        suite.start()
        state = suite.finished(1, 120)
        assert state["state"] == "OK", state
        assert suite.query("SELECT count(*), min(id), max(id) FROM archivedfile") == [(25_000, 1, 25_000)]
        files = suite.files(1)
        assert [f"{file['subdir']}/{file['name']}" for file in files] == list(MANY)
        for file in itertools.islice(files, 0, None, 5000):
            assert suite.content(file["_id"]) == MANY[f"{file['subdir']}/{file['name']}"]
        until(lambda: not suite.spooled(), 30, "an empty spool")
        assert len(suite.packs()) == 1
    finally:
        suite.kill()
