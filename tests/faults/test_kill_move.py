"""A move is killed before each thing that lasts: its files are in the archive or in their folders, never in neither."""

import json
from pathlib import Path

import pytest
import requests

from pacifica.tests.system.bundles import TRANSACTION, entry
from pacifica.tests.system.crash import CONTENTS, Mortal
from pacifica.tests.system.suite import until

STRIDE = 2  # every step costs a start of the suite: the whole took three minutes


@pytest.mark.timeout(900)
def test_a_move_that_was_killed_anywhere_ends_once_and_loses_no_file(tmp_path: Path) -> None:
    root = tmp_path / "root"
    mortal = Mortal(tmp_path / "data", [], {"PACIFICA_INGEST_MOVE_ROOTS": str(root)})
    body = [*TRANSACTION, *(entry(name, content, source=str(root / name)) for name, content in CONTENTS.items())]

    def put() -> None:
        for name, content in CONTENTS.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)

    def post() -> None:
        url = f"{mortal.urls['ingest']}/move"
        answer = requests.post(url, data=json.dumps(body), headers={"Content-Type": "application/json"}, timeout=60)
        assert answer.status_code == 200, answer.text

    def left() -> list[str]:
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    try:
        mortal.start()
        step, ended = 1, False
        while not ended:
            before = mortal.newest_job()
            put()
            mortal.arm(f"event {step}")
            try:
                post()
                until(lambda: mortal.is_dead or not (left() or mortal.spooled()), 120, "death, or the end")
                mortal.armed.unlink(missing_ok=True)
                mortal.state(mortal.newest_job())  # it may be dying just now
            except requests.ConnectionError:
                until(lambda: mortal.is_dead, 60, "death")
            ended = not mortal.is_dead
            if not ended:
                assert mortal.stop() == 137
                mortal.start()
            if mortal.newest_job() == before:  # it died before there was a job
                assert left() == sorted(CONTENTS)
                for name in mortal.spooled():  # at most a list that no job names: strays go when they are a week old
                    assert name.endswith(".request")
                    (mortal.archive / "spool" / name).unlink()
            else:
                job = mortal.newest_job()
                assert mortal.finished(job, 120)["state"] == "OK"
                until(lambda: not left(), 120, f"the end of {left()}")
                files = mortal.files(job)
                names = {f"{file['subdir']}/{file['name']}".lstrip("/"): mortal.content(file["_id"]) for file in files}
                assert names == CONTENTS
                until(lambda: not mortal.spooled(), 120, f"an empty spool instead of {mortal.spooled()}")
            assert mortal.query("SELECT count(*) FROM pack WHERE NOT published") == [(0,)]
            step += STRIDE
        assert step > 60
    finally:
        mortal.kill()
