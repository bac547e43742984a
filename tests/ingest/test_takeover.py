"""A database made by Pacifica ingest 0.4.1 becomes ours in place, every row kept; another one is read in."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import peewee
import pytest
from playhouse import db_url

from pacifica.common import orm
from pacifica.common.config import Database
from pacifica.common.counter import allocate
from pacifica.common.errors import BadConfiguration, Conflict
from pacifica.common.state import StateChange
from pacifica.ingest.orm import SCHEMA, IngestState, Job
from pacifica.ingest.rest import state_object
from pacifica.ingest.takeover import CODE, read_in
from pacifica.tests.system.originals import Originals

ROWS = [
    (1, "OK", "ingest metadata", "100.00000", "", True),
    (2, "FAILED", "Policy Validation", "0.00000", "Precondition Failed: Invalid values for project", True),
    (3, "OK", "ingest files", "0.00000", "", False),
    (77, "OK", "UPLOADING", "0.00000", "", False),
]
CREATED, UPDATED = "2019-08-01 10:11:12.345678", "2019-08-01 10:12:13.000001"
CLI = "import sys; from pacifica.ingest.__main__ import cmd; sys.exit(cmd())"


def old(url: str, version: tuple[int, int], rows: list[tuple[Any, ...]] = ROWS) -> None:
    """Make the tables of Pacifica's ingest as its models do, at ``version``, and fill them."""
    database = db_url.connect(url)
    boolean, stamp = ("boolean", "timestamp") if "postgres" in url else ("integer", "datetime")
    complete = f", complete {boolean} not null" if version == (2, 0) else ""
    database.execute_sql(
        "CREATE TABLE ingeststate (id bigint not null primary key, state varchar(255) not null,"
        " task varchar(255) not null,"
        f" task_percent decimal(10, 5) not null, exception text not null{complete},"
        f" created {stamp} not null, updated {stamp} not null)"
    )
    mark = "%s" if "postgres" in url else "?"
    for id, state, task, percent, exception, over in rows:
        values = [id, state, task, percent, exception, *([over] if complete else []), CREATED, UPDATED]
        database.execute_sql(f"INSERT INTO ingeststate VALUES ({', '.join([mark] * len(values))})", values)
    if version != (0, 0):
        database.execute_sql("CREATE TABLE ingeststatesystem (part varchar(255) primary key, value integer not null)")
        for part, value in zip(("major", "minor"), version, strict=True):
            database.execute_sql(f"INSERT INTO ingeststatesystem VALUES ('{part}', {value})")
    database.close()


def opened(url: str) -> None:
    orm.disconnect()
    orm.connect(Database(peewee_url=url, connect_attempts=1, connect_wait=0.0))


def seen() -> None:
    """Hold every old row against what get_state answers now."""
    assert Job.select().count() == IngestState.select().count() == len(ROWS)
    for id, state, task, percent, exception, over in ROWS:
        found = state_object(id)
        assert (found["task"], found["task_percent"]) == (task, percent)
        assert (found["created"], found["updated"]) == (CREATED, UPDATED)
        assert found["complete"] is True
        if over:
            assert (found["state"], found["exception"]) == (state, exception)
        else:
            assert found["state"] == "FAILED"
            assert f"retry --job_id {id}" in found["exception"]
    assert {job.code for job in Job.select()} == {CODE}
    assert StateChange.select().where(StateChange.kind == "job").count() == len(ROWS)
    assert allocate("upload_job") == 78


@pytest.mark.parametrize("version", [(0, 0), (1, 0), (2, 0)])
def test_dbsync_takes_over_every_version_in_place(database_url: str, version: tuple[int, int]):
    old(database_url, version)
    opened(database_url)
    try:
        assert not SCHEMA.check()
        SCHEMA.sync()
        assert SCHEMA.check(equal=True)
        seen()
        SCHEMA.sync()
        assert Job.select().count() == len(ROWS)
    finally:
        orm.disconnect()


def test_a_version_0_0_that_has_complete_already_loses_nothing(database_url: str):
    old(database_url, (2, 0))
    database = db_url.connect(database_url)
    database.execute_sql("DROP TABLE ingeststatesystem")
    database.close()
    opened(database_url)
    try:
        SCHEMA.sync()
        seen()
    finally:
        orm.disconnect()


ORIGINAL = """
import json
from pacifica.ingest.__main__ import cmd
from pacifica.ingest.orm import IngestStateSystem, update_state
cmd(["dbsync"])
update_state(5, "OK", "ingest metadata", 100)
update_state(6, "FAILED", "open tar", 0, "Failed to open tarfile.")
update_state(9, "OK", "load metadata", 0)
print(json.dumps(IngestStateSystem.get_version()))
"""


@pytest.mark.timeout(600)
def test_a_database_that_the_original_made_is_taken_over(postgres: Any, tmp_path: Path):
    url = postgres.create_database()
    try:
        assert Originals(tmp_path / "home", PEEWEE_URL=url).python(ORIGINAL) == [2, 0]
        done = subprocess.run(
            [sys.executable, "-c", CLI, "dbsync"], env=os.environ | {"PEEWEE_URL": url}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        opened(url)
        told = {id: state_object(id) for id in (5, 6, 9)}
        assert (told[5]["state"], told[5]["task_percent"], told[5]["complete"]) == ("OK", "100.00000", True)
        assert (told[6]["state"], told[6]["exception"]) == ("FAILED", "Failed to open tarfile.")
        assert (told[9]["state"], told[9]["task"]) == ("FAILED", "load metadata")
        assert allocate("upload_job") == 10
    finally:
        orm.disconnect()
        postgres.drop_database(url)


def test_another_database_is_read_in_once_with_its_counters(database_url: str, tmp_path: Path):
    source = f"sqlite:///{tmp_path}/old.db"
    old(source, (2, 0))
    database = peewee.SqliteDatabase(f"{tmp_path}/old.db")
    database.execute_sql('CREATE TABLE uniqueindex (id varchar(255) primary key, "index" bigint not null)')
    database.execute_sql("INSERT INTO uniqueindex VALUES ('file', 1005), ('upload_job', 70)")
    database.close()
    opened(database_url)
    try:
        SCHEMA.sync()
        assert read_in(source, Job, "root") == {"jobs": 4, "counters": 2}
        seen()
        assert read_in(source, Job, "root") == {"jobs": 0, "counters": 2}
        assert allocate("file") == 1005
        Job.update(created=1.0).where(Job.id == 3).execute()
        with pytest.raises(Conflict):
            read_in(source, Job, "root")
    finally:
        orm.disconnect()


def test_a_database_without_anything_of_pacifica_is_refused(sqlite: Any, tmp_path: Path):
    SCHEMA.sync()
    with pytest.raises(BadConfiguration):
        read_in(f"sqlite:///{tmp_path}/empty.db", Job, "root")
