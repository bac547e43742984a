"""Counters: no id is given twice, whoever asks for it at the same time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pacifica.common import counter, orm
from pacifica.common.config import Database
from pacifica.common.tables import COMMON

NAMESPACE = Path(__file__).parents[2] / ".namespace"

TAKERS = """
import sys, threading
from pacifica.common import counter, orm
from pacifica.common.config import Database
orm.connect(Database(peewee_url=sys.argv[1], connect_attempts=1))
print("ready", flush=True)
sys.stdin.readline()
taken = []
def take():
    for count in (1, 3, 2, 1, 5, 1, 1, 2):
        first = counter.allocate("file", count)
        taken.extend(range(first, first + count))
threads = [threading.Thread(target=take) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(*taken)
"""


def test_ids_are_distinct_under_many_processes_and_threads(database_url):
    orm.connect(Database(peewee_url=database_url, connect_attempts=1))
    COMMON.sync()
    orm.disconnect()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TAKERS, database_url], env={**os.environ, "PYTHONPATH": str(NAMESPACE)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    taken = [int(word) for process in processes for word in process.communicate(timeout=60)[0].split()]
    assert len(taken) == 4 * 6 * 16
    assert sorted(taken) == list(range(1, len(taken) + 1))


@pytest.mark.usefixtures("database")
def test_modes_count_apart_and_a_rollback_takes_no_id():
    assert counter.allocate("file", 10) == 1
    assert counter.allocate("upload_job") == 1
    with pytest.raises(ZeroDivisionError), orm.transaction():
        assert counter.allocate("file", 5) == 11
        raise ZeroDivisionError
    assert counter.allocate("file", 1) == 11
    assert counter.allocate("file", 1 << 40) == 12
    assert counter.allocate("file", 1) == 12 + (1 << 40)
    with pytest.raises(ValueError, match="at least one"):
        counter.allocate("file", 0)
