"""The worker that enters the index is killed before any lasting thing it does: every entry arrives, and once."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacifica.common import orm
from pacifica.common.config import Database
from pacifica.common.tables import COMMON
from pacifica.datasafe.criteria import parse
from pacifica.datasafe.entering import enter
from pacifica.datasafe.search import search
from pacifica.tests.datasafe.world import WHO, World, expected, whole
from pacifica.tests.system import failpoint

QUERIES = ({"text": "EPR"}, {"text": "spec*"}, {"name": "x.info"}, {"key": ["format.type"]}, {"text": "again"}, {})
TABLES = {
    "entry": 'kind, subject, first, last, "transaction", owner, name, head',
    "contentdigest": "prefix, place",
    "datasetfile": "dataset, subdir, name, sha512, md5, size",
    "datasetkeyvalue": "dataset, key, value",
    "unentered": "kind, subject",
}


def connect(folder: Path) -> None:
    url = f"sqlite:///{folder}/pacifica.db"
    orm.connect(Database(peewee_url=url, connect_attempts=1, connect_wait=0.0))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A little of everything, of which the half waits to be entered for the first time and the half anew."""
    orm.disconnect()
    connect(tmp_path)
    COMMON.sync()
    world = World(tmp_path / "volume")
    try:
        for number in (1, 2):
            world.deal(number, first=number * 1000, count=2)
            world.dataset(number)
            if number == 1:
                world.enter()
        world.patch(world.datasets[0])
        world.put(20_000, None, "bob")
        orm.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        yield world
    finally:
        orm.disconnect()


def dies(folder: Path, armed: Path, world: World) -> bool:
    """Let a child enter what waits and die at the step that is armed; False when it did not."""
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 137)
        return code == 137

    def run() -> None:
        connect(folder)
        while enter(world.safe):
            pass
        os._exit(0)

    try:
        failpoint.install(armed)
        worker = threading.Thread(target=run)
        worker.start()
        worker.join()
    finally:
        os._exit(1)


def test_an_index_whose_worker_is_killed_at_any_step_has_every_entry_once(world: World, tmp_path: Path) -> None:
    assert orm.rows("SELECT count(*) FROM unentered")[0][0] >= 5
    wanted, armed, step, dead = None, tmp_path / "armed", 0, True
    half = 0
    while dead:
        orm.disconnect()
        here = tmp_path / f"step{step}"
        here.mkdir()
        shutil.copy(tmp_path / "pacifica.db", here)
        failpoint.arm(armed, f"event {step}" if step else "event 1000000")
        dead = dies(here, armed, world) or not step
        connect(here)
        half += 0 < orm.rows("SELECT count(*) FROM unentered")[0][0] < 5
        world.enter()
        found = {table: sorted(orm.rows(f"SELECT {columns} FROM {table}")) for table, columns in TABLES.items()}
        wanted = wanted or found  # of the run that nobody disturbed
        assert found == wanted, step
        for query in QUERIES:
            asked = parse(query)
            assert whole(search, asked, WHO[0]) == list(expected(world, asked, WHO[0])), (step, query)
        shutil.rmtree(here)
        step += 1 if step < 3 else 3
    assert step > 30 and half
