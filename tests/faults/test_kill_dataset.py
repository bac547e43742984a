"""Killed before any lasting thing that an upload does, or out of room at any: the old version stays, or the new."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica.common import config, orm
from pacifica.datasafe import manifest
from pacifica.datasafe.config import settings
from pacifica.datasafe.dataset import DatasetStore
from pacifica.datasafe.local import LocalClient, connect
from pacifica.datasafe.loi import dataset
from pacifica.datasafe.orm import SCHEMA
from pacifica.tests.system import disks, failpoint
from pacifica.tests.system.crash import Mortal, MortalScaled
from pacifica.tests.system.datasets import unzipped, zipped
from pacifica.tests.system.suite import Suite, until

SERIES = "42.1001/ds/exp/sa/42/cwepr"
OLD = {"a.dat": b"old" * 1000, "sub/b.dat": b"same" * 100_000, "x.info": b"meta"}
NEW = OLD | {"a.dat": b"new" * 1000, "sub/c.dat": b"more"}
QUIET = {"PACIFICA_AUDIT_PERIOD_DAYS": "0"}  # so that the steps are an upload's alone
ROOM = 24 << 20
LEFT = [0, 16, 64, 128, 256, 384, 512, 640, 768, 1024, 1280]  # KiB


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    suite = Mortal(tmp_path_factory.mktemp("mortal") / "data", [], QUIET)
    try:
        yield suite.start()
    finally:
        suite.kill()


def url_of(suite: Suite, loi: str) -> str:
    return f"{suite.urls['datasets']}/{loi}"


def created(suite: Suite) -> str:
    answer = requests.post(url_of(suite, SERIES), timeout=60)
    assert answer.status_code == 201, answer.text
    return answer.text


def send(suite: Suite, loi: str, method: str, *, chunked: bool = True) -> int:
    """Upload OLD by PUT or NEW by PATCH, under the same key each time; return the status."""
    body, key = zipped(OLD if method == "PUT" else NEW), {"Idempotency-Key": f"{method}-{loi}"}
    data = iter([body]) if chunked else body
    return requests.request(method, url_of(suite, loi), data=data, headers=key, timeout=60).status_code


def held(suite: Suite, loi: str) -> dict[str, bytes] | None:
    answer = requests.get(url_of(suite, loi), timeout=60)
    assert answer.status_code in (200, 204), answer.text
    return unzipped(answer.content) if answer.status_code == 200 else None


def is_settled(suite: Suite, loi: str) -> bool:
    """Tell whether database and store agree, and nothing is left behind."""
    (version,) = suite.query("SELECT version FROM dataset WHERE loi = ?", loi)[0]
    listed = requests.get(f"{url_of(suite, loi)}?versions", timeout=60).json()["versions"]
    return version == len(listed) and not suite.query("SELECT 1 FROM pending") and not staged(suite.archive)


def staged(archive: Path) -> list[str]:
    """Return the names of the stages that are left."""
    return [path.name for path in (archive / "work" / "datasets").iterdir() if path.name != "locks"]


def step_count(suite: Mortal, loi: str, method: str) -> int:
    counter = suite.armed.with_suffix(".count")
    counter.write_text("")
    suite.arm("count 0")
    assert send(suite, loi, method) == 200
    suite.armed.unlink()
    return len(counter.read_text().splitlines())


@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_kill_at_any_step_leaves_the_old_or_the_new(mortal: Mortal, method: str) -> None:
    before, after = (None, OLD) if method == "PUT" else (OLD, NEW)
    loi = created(mortal)
    if method == "PATCH":
        send(mortal, loi, "PUT")
    steps = step_count(mortal, loi, method)
    assert steps > 15
    outcomes = set()
    for number in range(1, steps + 1, 4):
        if mortal.is_dead:
            mortal.start()
        loi = created(mortal)
        if method == "PATCH":
            assert send(mortal, loi, "PUT") == 200
        mortal.arm(f"event {number}")
        with suppress(requests.exceptions.RequestException):
            send(mortal, loi, method)
        mortal.kill()
        mortal.start()
        found = held(mortal, loi)
        assert found in (before, after), number
        outcomes.add(found == after)
        until(lambda loi=loi: is_settled(mortal, loi), 60, "agreement")
        assert send(mortal, loi, method) == 200  # as a client does that has not heard the answer
        assert held(mortal, loi) == after
        assert mortal.query("SELECT version FROM dataset WHERE loi = ?", loi) == [(1 if method == "PUT" else 2,)]
    assert outcomes == {True, False}
    store = DatasetStore(mortal.archive / "datasets", mortal.archive / "work")
    assert all(store.verify(loi).sound for loi in store.datasets())


# ---- under uWSGI, on PostgreSQL: around each step between the two stores that an upload has --------------------------

SAFE, SETTLE = "pacifica.datasafe.safe:Safe", "pacifica.datasafe.settle"
STEPS = {
    "PUT": [f"{SETTLE}:announce before", f"{SETTLE}:appear before", f"{SETTLE}:appear after"],
    "PATCH": [f"{SETTLE}:announce before", f"{SETTLE}:advance before", f"{SETTLE}:advance after"],
}
STEPS = {method: [*steps, f"{SAFE}._enter before", f"{SAFE}._enter after"] for method, steps in STEPS.items()}


@pytest.fixture(scope="module")
def scaled(postgres: Any, rabbitmq: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalScaled]:
    calls = sorted({step.split()[0] for steps in STEPS.values() for step in steps})
    data = tmp_path_factory.mktemp("scaled") / "data"
    suite = MortalScaled(data, postgres.create_database(), rabbitmq.create_vhost(), calls)
    suite.environment |= QUIET
    suite.services = ("datasafe",)
    try:
        suite.start()
        yield suite
    finally:
        suite.kill()


@pytest.mark.parametrize(("method", "step"), [(method, step) for method, steps in STEPS.items() for step in steps])
def test_a_web_process_killed_within_an_upload_is_replaced_and_the_same_request_is_one_version(
    scaled: MortalScaled, method: str, step: str
) -> None:
    def sent() -> int:
        with suppress(requests.exceptions.RequestException):  # nobody listens for a moment
            return send(scaled, loi, method, chunked=False)
        return 0

    before, after = (None, OLD) if method == "PUT" else (OLD, NEW)
    loi = created(scaled)
    if method == "PATCH":
        assert send(scaled, loi, "PUT", chunked=False) == 200
    scaled.arm(f"call {step} 1")
    assert sent() == 0
    scaled.struck(step)
    scaled.armed.unlink()
    until(lambda: requests.get(url_of(scaled, loi), timeout=60).status_code < 300, 60, "another web process")
    assert held(scaled, loi) in (before, after)
    until(lambda: is_settled(scaled, loi), 60, "agreement")
    until(lambda: sent() == 200, 60, "the same upload")
    assert held(scaled, loi) == after and is_settled(scaled, loi)
    assert scaled.query("SELECT version FROM dataset WHERE loi = ?", loi) == [(1 if method == "PUT" else 2,)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MiB, of its own."""
    with disks.small(tmp_path / "disk", ROOM) as folder:
        yield folder


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_full_disk_at_any_step_leaves_the_old_and_later_takes_the_new(
    small_disk: Path, tmp_path: Path, method: str
) -> None:
    """In one deployment: what writes to the volume is the same code in both, and PostgreSQL has a disk of its own."""
    environment = QUIET | {"PACIFICA_ARCHIVE_PATH": str(small_disk / "archive"), "PACIFICA_ARCHIVE_MIN_FREE_BYTES": "0"}
    suite = Suite(tmp_path / "data", environment)
    answers = set()
    try:
        suite.start()
        for left in LEFT:
            loi = created(suite)
            if method == "PATCH":
                assert send(suite, loi, "PUT") == 200
            before = held(suite, loi)
            ballast = small_disk / "ballast"
            room = os.statvfs(small_disk)
            ballast.write_bytes(bytes(max(0, room.f_bavail * room.f_frsize - left * 1024)))
            status = send(suite, loi, method)
            answers.add(status)
            assert status in (200, 507), left
            assert held(suite, loi) == (before if status == 507 else OLD if method == "PUT" else NEW), left
            ballast.unlink()
            if status == 507:
                assert send(suite, loi, method) == 200
            assert staged(small_disk / "archive") == [], left
        assert answers == {200, 507}
    finally:
        suite.kill()


# ---- in process: every single step ---------------------------------------------------------------------------------


def contents(client: LocalClient, loi: str) -> dict[str, bytes] | None:
    """Return the files of the newest version, None where there is none."""
    if not client.versions(loi):
        return None
    held = client.open(dataset(loi))
    return {name: held.whole(name) for name in held.names if name != manifest.NAME}


def dies(data: Path, armed: Path, store: Callable[[LocalClient], object]) -> bool:
    """Let a child do ``store`` to the datasets of ``data`` and die at the step that is armed; False when it did not."""
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 137)
        return code == 137
    try:
        failpoint.install(armed)
        worker = threading.Thread(target=lambda: store(connect(data, username="ada")) and os._exit(0))
        worker.start()
        worker.join()
    finally:
        os._exit(1)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", ["upload", "update"])
def test_a_kill_at_each_single_step_of_a_script_leaves_the_old_or_the_new(tmp_path: Path, method: str) -> None:
    folders = {"upload": tmp_path / "old", "update": tmp_path / "new"}
    for folder, files in zip(folders.values(), (OLD, NEW), strict=True):
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    base, armed = tmp_path / "base", tmp_path / "armed"
    base.mkdir()
    before, after = (None, OLD) if method == "upload" else (OLD, NEW)
    try:
        config.embed(base)
        settings.use(None)
        orm.connect(settings().database)
        SCHEMA.sync()
        client = connect(base, username="ada")
        loi = client.create(SERIES)
        if method == "update":
            client.upload(loi, folders["upload"])
        outcomes, step, dead = set(), 0, True
        while dead:
            step += 1
            orm.disconnect()
            here = tmp_path / f"step{step}"
            shutil.copytree(base, here)
            failpoint.arm(armed, f"event {step}")
            dead = dies(here, armed, lambda client: getattr(client, method)(loi, folders[method]))
            armed.unlink()
            client = connect(here, username="ada")  # which settles
            found = contents(client, loi)
            assert found in ((before, after) if dead else (after,)), step
            outcomes.add(found == after)
            (listed,) = client.ls(loi)
            assert listed.version == len(client.versions(loi)) and not orm.rows("SELECT 1 FROM pending"), step
            stages = here / "archive" / "work" / "datasets"
            assert [path.name for path in stages.iterdir() if path.name != "locks"] == [], step
            if found != after:
                getattr(client, method)(loi, folders[method])
            assert contents(client, loi) == after and not client.verify(loi).findings, step
            shutil.rmtree(here)
        assert outcomes == {True, False} and step > 25
    finally:
        orm.disconnect()
        config.embed(None)
