"""Messages in the scaled deployment: one job to many workers at once, a bundle that kills whoever works on it, and what
is no message at all."""

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import amqp
import pytest

from pacifica.common.broker import Message, call
from pacifica.common.publisher import Publisher
from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.crash import QUICK, STEADY, Inspected
from pacifica.tests.system.scaled import Scaled
from pacifica.tests.system.suite import until

CHILDREN, COPIES, GOOD = 8, 40, 20
POISON = {f"p{number}": b"" for number in range(13)}
DEADLY = """
import os, signal
from pacifica.ingest import archiving
check = archiving.check
def deadly(index, *more):
    if index.count == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return check(index, *more)
archiving.check = deadly
"""
TASK = ("pacifica.ingest", "pacifica.ingest.ingest")  # queue and name


class Crowd(Scaled, Inspected):
    """The scaled deployment with eight children in a worker, of which one kind of bundle kills each that takes it."""


@pytest.fixture(scope="module")
def crowd(postgres: Any, rabbitmq: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    folder = tmp_path_factory.mktemp("crowd")
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(DEADLY)
    environment = QUICK | STEADY | {"PACIFICA_CELERY_CONCURRENCY": str(CHILDREN), "PYTHONPATH": str(folder / "site")}
    services = ("ingest", "datasafe")
    suite = Crowd(folder / "data", postgres.create_database(), rabbitmq.create_vhost(), environment, services=services)
    try:
        yield suite.start()  # type: ignore[misc]
    finally:
        suite.kill()


def test_of_eight_workers_that_hear_of_one_job_at_once_one_does_it(crowd: Crowd) -> None:
    crowd.kill("worker main")
    contents = {f"d/f{number}": b"%d" % number for number in range(500)}
    before = crowd.newest_job()
    job = crowd.upload(bundle(contents))["job_id"]
    publisher = Publisher(crowd.environment["PACIFICA_CELERY_BROKER_URL"])
    try:
        copies = [Message(number, "task", TASK[0], call(TASK[1], job, 0)) for number in range(COPIES)]
        assert len(publisher.publish(copies, 10).sent) == COPIES
    finally:
        publisher.close()
    crowd.restart()
    assert crowd.finished(job, 60)["state"] == "OK"
    until(lambda: crowd.logged("worker-ingest").count("succeeded in") >= COPIES, 60, "the end of every message")
    assert crowd.query("SELECT attempt FROM job WHERE id = ?", job) == [(1,)]
    crowd.settled(before, contents)


def test_a_bundle_that_kills_each_worker_is_given_up_and_the_others_go_on(crowd: Crowd) -> None:
    before, main = crowd.newest_job(), crowd.workers["ingest"]
    poison = crowd.upload(bundle(POISON))["job_id"]
    good = [crowd.upload(bundle({"x": b"%d" % number}))["job_id"] for number in range(GOOD)]
    for job in good:
        assert crowd.finished(job, 60)["state"] == "OK"
    state = crowd.finished(poison, 60)
    assert (state["state"], state["exception"]) == ("FAILED", "Given up after 5 attempts. [attempts_exhausted]")
    assert crowd.query("SELECT attempt FROM job WHERE id = ?", poison) == [(6,)]  # the sixth only finds that it is over
    crowd.is_absent(poison)
    assert crowd.spooled(), "kept for an administrator"
    assert main.poll() is None
    assert not crowd.query("SELECT 1 FROM job WHERE id > ? AND state NOT IN ('ARCHIVED', 'FAILED')", before)


class Bomb:
    """What leaves a file behind where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


PLAIN = {"task": TASK[1], "id": "1", "lang": "py", "root_id": "1", "retries": 0}


def test_what_is_no_task_of_ours_is_dropped_with_a_line_in_the_log(crowd: Crowd, rabbitmq: Any, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    bomb = pickle.dumps(([Bomb(mark)], {}, {}))
    said: list[tuple[str, dict[str, Any], bytes]] = [
        ("application/x-python-serialize", PLAIN, bomb),
        ("application/json", PLAIN, bomb),
        ("application/x-yaml", PLAIN, f"!!python/object/apply:os.mkdir ['{mark}']".encode()),
        *(("application/json", PLAIN, body) for body in (
            b"", b"[1, 2]", b"null", b"7", b"{}", b"[[[[", b"[{}, [], 0]")),
        *(("application/json", headers, b"[[1, 0], {}, {}]") for headers in (
            {}, {"task": "os.system"}, {"task": ["x"]}, PLAIN | {"eta": "never"}, PLAIN | {"retries": "x"},
            PLAIN | {"id": {"x": 1}}, PLAIN | {"timelimit": "x"}, PLAIN | {"expires": ["x"]})),
        *(("application/json", PLAIN, body) for body in (b'[["x", {}], {}, {}]', b"[[1, 0, 3], {}, {}]")),
    ]  # fmt: skip
    with rabbitmq.channel(crowd.environment["PACIFICA_CELERY_BROKER_URL"]) as channel:
        for kind, headers, body in said:
            message = amqp.Message(
                body, content_type=kind, content_encoding="utf-8", application_headers=headers, delivery_mode=2
            )
            channel.basic_publish(message, routing_key=TASK[0])
        job = crowd.upload(bundle({"x": b"after"}))["job_id"]
        assert crowd.finished(job, 60)["state"] == "OK"
        until(lambda: not channel.queue_declare(TASK[0], passive=True).message_count, 30, "an empty queue")
    assert not mark.exists()
    logged = crowd.logged("worker-ingest")
    assert "Refusing to deserialize untrusted content of type pickle" in logged
    assert "a message that is no task was dropped" in logged
    assert crowd.workers["ingest"].poll() is None
    crowd.kill("worker main")
    crowd.restart()  # nothing of it was left to be met again
    assert crowd.finished(crowd.upload(bundle({"x": b"later"}))["job_id"], 60)["state"] == "OK"
    assert "no task was dropped" not in crowd.logged("worker-ingest")
