"""SQLite's online backup, taken under load, is a consistent database; with the volume copied after it, it is served."""

import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.crash import CONTENTS, QUICK, STEADY, Inspected
from pacifica.tests.system.suite import until


def test_a_backup_under_load_is_served_elsewhere_with_all_that_was_archived_before_it(tmp_path: Path) -> None:
    suite = Inspected(tmp_path / "data", QUICK | STEADY)
    jobs: list[int] = []
    ended = threading.Event()

    def load() -> None:
        while not ended.wait(0.01):
            answer = requests.post(f"{suite.urls['ingest']}/upload", data=bundle(CONTENTS), timeout=60)
            assert answer.status_code == 200, answer.text
            jobs.append(answer.json()["job_id"])

    copy = tmp_path / "copy"
    copy.mkdir()
    clients = [threading.Thread(target=load) for _ in range(3)]
    try:
        suite.start()
        for client in clients:
            client.start()
        try:
            until(lambda: len(jobs) >= 20, 60, "some uploads")
            before = {job for (job,) in suite.query("SELECT id FROM job WHERE state = 'ARCHIVED'")}
            with (
                closing(sqlite3.connect(suite.data / "pacifica.db", timeout=30)) as source,
                closing(sqlite3.connect(copy / "pacifica.db")) as target,
            ):
                # page by page, so that there are commits in between
                source.backup(target, pages=5, sleep=0.001)
            seen = len(jobs)
            until(lambda: len(jobs) >= seen + 5, 60, "uploads behind the backup")
            shutil.copytree(suite.archive / "packs", copy / "archive" / "packs", ignore=shutil.ignore_patterns(".*"))
        finally:
            ended.set()
            for client in clients:
                client.join(60)
    finally:
        suite.kill()

    assert len(before) >= 5
    with closing(sqlite3.connect(copy / "pacifica.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        held = {job for (job,) in database.execute("SELECT id FROM job WHERE state = 'ARCHIVED'")}
    assert before <= held
    restored = Inspected(copy, QUICK | STEADY)
    try:
        restored.start()
        for job in held:
            restored.is_archived(job, CONTENTS)
        assert restored.finished(restored.upload(bundle(CONTENTS))["job_id"], 60)["state"] == "OK"
    finally:
        restored.kill()
