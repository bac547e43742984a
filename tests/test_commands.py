"""``pacifica-ingest-cmd job`` and ``retry`` beside the running suite, with Pacifica's flags in both spellings."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from pacifica.common import cli, config, log, orm
from pacifica.datasafe import __main__ as datasafe
from pacifica.datasafe.config import settings
from pacifica.tests.system.bundles import TRANSACTION, bundle, entry
from pacifica.tests.system.suite import Suite, until

GOOD = bundle({"x": b"as it should be", "y": b"and this"})


@pytest.fixture
def suite(deployment: Suite) -> Suite:
    return deployment


def failed(suite: Suite) -> int:
    """Return the id of a job that failed by its client's fault, of which nothing is left."""
    lying = bundle({"x": b"x"}, [*TRANSACTION, entry("x", b"x", hashsum="0" * 40)])
    job = suite.finished(suite.upload(lying)["job_id"])
    assert job["state"] == "FAILED"
    until(lambda: not suite.spooled(), 30, "an empty spool")
    return int(job["job_id"])


def test_a_failed_job_is_run_again_with_a_bundle_of_the_administrators(suite: Suite, tmp_path: Path) -> None:
    job, path, before = failed(suite), tmp_path / "mended.tar", suite.packs()
    path.write_bytes(GOOD)
    assert "--path" in suite.command("ingest", "retry", "--job_id", job, code=1).stderr
    assert "absent.tar" in suite.command("ingest", "retry", "--job-id", job, "--path", "absent.tar", code=1).stderr
    shown = json.loads(
        suite.command("ingest", "retry", "--job-id", job, "--path", path, "--username", "somebody").stdout
    )
    assert (shown["job_id"], shown["state"], shown["complete"], shown["exception"]) == (job, "OK", True, "")
    assert suite.state(job) == shown
    assert {file["name"]: suite.content(file["_id"]) for file in suite.files(job)} == {
        "x": b"as it should be",
        "y": b"and this",
    }
    assert suite.query("SELECT source, target FROM statechange WHERE row = ? AND who = 'somebody'", str(job)) == [
        ("FAILED", "RECEIVED")
    ]
    assert path.read_bytes() == GOOD
    until(lambda: not suite.spooled(), 30, "an empty spool")
    assert len(suite.packs()) == len(before) + 1
    assert suite.command("ingest", "retry", "--job-id", job, code=1).stderr  # it is not FAILED any more


def test_a_retry_of_a_bundle_that_is_bad_again_fails_again(suite: Suite, tmp_path: Path) -> None:
    job, path, before = failed(suite), tmp_path / "bad.tar", suite.packs()
    path.write_bytes(GOOD[:1000])
    shown = json.loads(suite.command("ingest", "retry", "--job_id", job, "--path", path, code=1).stdout)
    assert (shown["state"], shown["complete"]) == ("FAILED", True)
    assert "[truncated]" in shown["exception"] or "[size_beyond_body]" in shown["exception"]
    until(lambda: not suite.spooled(), 30, "an empty spool")
    assert suite.packs() == before


def test_what_clients_see_of_a_job_can_be_overwritten(suite: Suite) -> None:
    job = suite.finished(suite.upload(GOOD)["job_id"])["job_id"]
    words = ["--task", "ingest files", "--task_percent", "12.5", "--exception", "looked at by hand"]
    shown = json.loads(suite.command("ingest", "job", "--job_id", job, *words).stdout)
    assert (shown["task"], shown["task_percent"], shown["state"]) == ("ingest files", "12.50000", "OK")
    state = requests.get(f"{suite.urls['ingest']}/get_state", {"job_id": job}, timeout=10).json()
    assert (state["task_percent"], state["exception"]) == ("12.50000", "looked at by hand")
    again = json.loads(suite.command("ingest", "job", "--job-id", job, "--task-percent", "99").stdout)
    assert again["task_percent"] == "99.00000"
    for text in ("nan", "1e400", "-1", "100.1"):
        words = ["job", "--job-id", str(job), f"--task-percent={text}"]
        assert "no number from 0 to 100" in suite.command("ingest", *words, code=2).stderr
    for words in (["--state", "FAILED"], ["--state", "RECEIVED"]):  # archived is archived
        assert suite.command("ingest", "job", "--job-id", job, *words, code=1).stderr
    assert suite.content(suite.files(job)[0]["_id"]) == b"as it should be"


@pytest.mark.parametrize("option", ["-c {}", "--config {}", "--config={}", "-c{}"])
def test_a_configuration_of_pacificas_is_named_on_the_command_line(suite: Suite, tmp_path: Path, option: str) -> None:
    job = suite.finished(suite.upload(GOOD)["job_id"])["job_id"]
    (tmp_path / "pacifica.ini").write_text(
        f"[ingest]\nvolume_path = {tmp_path}\ntransfer_size = 4 Mb\nauth_header = X-Http-Authed-User\n"
        "[uniqueid]\nurl = http://127.0.0.1:8051\n[policy]\ningest_url = http://127.0.0.1:8181/ingest\n"
        "[archiveinterface]\nurl = http://127.0.0.1:8080\n[metadata]\ningest_url = http://127.0.0.1:8121/ingest\n"
        f"[database]\npeewee_url = {suite.administrators['PACIFICA_DATABASE_PEEWEE_URL']}\nconnect_attempts = 1\n"
        "[celery]\nbroker_url = pyamqp://\nbackend_url = rpc://\n"
    )
    program = Path(sys.executable).with_name("pacifica-ingest-cmd")
    words = option.format(tmp_path / "pacifica.ini").split(" ")
    done = subprocess.run(
        [program, *words, "job", "--job_id", str(job)],
        cwd=tmp_path, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (json.loads(done.stdout)["job_id"], json.loads(done.stdout)["state"]) == (job, "OK")


def test_a_job_that_is_not_there_is_told(suite: Suite) -> None:
    for command in ("job", "retry"):
        said = suite.command("ingest", command, "--job-id", 999_999_999, code=1).stderr
        assert "999999999" in said
        assert "Traceback" not in said
    assert suite.command("ingest", "dbchk", "--equal").returncode == 0


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("pacifica-datasafe-cmd audit", 1),
        ("pacifica-datasafe-cmd dbchk", 255),
        ("pacifica-datasafe", 1),
        ("pacifica dataset ls", 1),
        ("pacifica catalog list", 1),
    ],
)
def test_a_command_without_its_configuration_says_so_and_makes_no_database(
    line: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = {"pacifica": cli.main, "pacifica-datasafe": datasafe.main, "pacifica-datasafe-cmd": datasafe.cmd}
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(log, "configure", lambda *_: None)  # the log is that of all tests
    orm.disconnect()
    config.embed(None)
    program, *words = line.split()
    assert programs[program](words) == code
    said = capsys.readouterr().err
    assert f"There is no database {tmp_path}/db.sqlite3." in said and "_CONFIG and ~/.pacifica-" in said
    assert "Traceback" not in said and list(tmp_path.iterdir()) == []
    (tmp_path / "there.ini").write_text("[log]\nlevel = error\n")
    assert datasafe.cmd(["-c", "there.ini", "audit"]) == 1
    assert "The configuration is there.ini." in capsys.readouterr().err
    settings.use(None)
