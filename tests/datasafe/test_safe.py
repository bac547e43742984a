"""Whose datasets are whose, how they end, and what survives the processes and the database that knew of them."""

import io
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica.common import orm, volume
from pacifica.common.errors import NoSpace, PreconditionFailed
from pacifica.common.volume import BLOCK, Volume
from pacifica.datasafe import once, staging
from pacifica.datasafe.config import Datasafe
from pacifica.datasafe.dataset import NoSuchDataset
from pacifica.datasafe.inventory import Author
from pacifica.datasafe.loi import series
from pacifica.datasafe.ocfl import place
from pacifica.datasafe.orm import SCHEMA, Dataset, DatasetGone, DatasetTombstone, Pending
from pacifica.datasafe.register import Register
from pacifica.datasafe.safe import Safe
from pacifica.tests.system.datasets import zipped
from pacifica.tests.system.suite import Suite

FILES = {"a.dat": b"one" * 1000, "test.info": b"meta"}
SERIES = series("42.1001/ds/exp/sa/42/cwepr")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite behind a proxy that says who asks."""
    told = {"MODE": "proxy", "ADMINISTRATORS": "root", "SERVICES": "flow"}
    environment = {f"PACIFICA_AUTH_{key}": value for key, value in told.items()}
    suite = Suite(tmp_path_factory.mktemp("shared") / "data", environment)
    try:
        yield suite.start()
    finally:
        suite.kill()


def ask(suite: Suite, user: str, method: str, path: str, **options: Any) -> requests.Response:
    url, headers = f"{suite.urls['datasets']}/{path}", {"X-Http-Authed-User": user} | options.pop("headers", {})
    return requests.request(method, url, headers=headers, timeout=60, **options)


@pytest.fixture
def held(shared: Suite) -> str:
    """The LOI of a dataset of ada's."""
    loi = ask(shared, "ada", "POST", "42.1001/ds/exp/sa/42/cwepr").text
    assert ask(shared, "ada", "PUT", loi, data=zipped(FILES)).status_code == 200
    return loi


def test_a_dataset_is_its_owners_and_nobody_else_learns_that_it_is_there(shared: Suite, held: str) -> None:
    for user, status in (("ada", 200), ("root", 200), ("flow", 200), ("bob", 404)):
        assert ask(shared, user, "GET", held).status_code == status, user
    for user in ("bob", "flow"):
        for method, status in (("PUT", 400), ("PATCH", 400), ("DELETE", 404)):
            if (user, method) != ("flow", "DELETE"):
                answer = ask(shared, user, method, held, data=zipped(FILES))
                assert (answer.status_code, answer.text) == (status, "LOI does not exist."), (user, method)
    assert requests.get(f"{shared.urls['datasets']}/{held}", timeout=60).status_code == 401


def test_lists_show_everybody_what_is_theirs(shared: Suite, held: str) -> None:
    for user, sees in (("ada", True), ("root", True), ("flow", True), ("bob", False)):
        told = ask(shared, user, "GET", "", params={"prefix": held}).json()["datasets"]
        assert [one["loi"] for one in told] == ([held] if sees else []), user
        assert ask(shared, user, "GET", f"{held}?files").status_code == (200 if sees else 404)
    taken = "42.1001/ds/exp/sa/43/cwepr/5"
    assert ask(shared, "ada", "POST", f"{taken}?exact").status_code == 403
    for status in (201, 200):
        told = ask(shared, "root", "POST", f"{taken}?exact", params={"owner": "ada"})
        assert (told.status_code, told.text) == (status, taken)
    assert ask(shared, "bob", "POST", "42.1001/ds/exp/sa/43/cwepr").text == taken[:-1] + "6"
    assert ask(shared, "ada", "PUT", taken, data=zipped(FILES)).status_code == 200


def test_only_an_administrator_deletes_and_only_with_a_reason(
    shared: Suite, held: str, ocfl_judge: Callable[[Path], None]
) -> None:
    assert ask(shared, "ada", "DELETE", held, params={"reason": "mine"}).status_code == 403
    assert ask(shared, "root", "DELETE", held).status_code == 400
    stale, why = {"If-Match": '"an older one"'}, {"reason": "consent withdrawn"}
    assert ask(shared, "root", "DELETE", held, params=why, headers=stale).status_code == 412
    assert ask(shared, "ada", "GET", held).status_code == 200
    told = ask(shared, "root", "DELETE", held, params={"reason": "consent withdrawn"})
    assert (told.status_code, told.json()["who"]) == (200, "root")
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        gone = ask(shared, "ada", method, held, data=zipped(FILES))
        assert gone.status_code == 410, method
        assert (gone.json()["who"], gone.json()["reason"]) == ("root", "consent withdrawn")
        assert gone.json()["at"].startswith("20")
    assert ask(shared, "bob", "GET", held).status_code == 404
    number = int(held.rpartition("/")[2])
    assert int(ask(shared, "ada", "POST", "42.1001/ds/exp/sa/42/cwepr").text.rpartition("/")[2]) > number
    ocfl_judge(shared.archive / "datasets")


# ---- in process ----------------------------------------------------------------------------------------------------


@pytest.fixture
def safe(database: Any, tmp_path: Path) -> Safe:
    SCHEMA.sync()
    return Safe(Volume(tmp_path / "archive", 0), Datasafe())


def put(safe: Safe, loi: Any, files: Any, first: bool = True) -> Any:
    path = safe.volume.spool / uuid.uuid4().hex
    path.write_bytes(zipped(files))
    with path.open("rb", buffering=0) as file:
        return safe.put(loi, file.readinto, None, Author(name="ada"), first=first)


def test_what_was_changed_meanwhile_is_not_deleted(safe: Safe) -> None:
    loi = safe.create(SERIES, "ada")
    for first, files in ((True, FILES), (False, FILES | {"b.dat": b"more"})):
        put(safe, loi, files, first)
    for newest in (0, 1, 3):
        with pytest.raises(PreconditionFailed):
            safe.delete(loi, "root", "why", newest)
    assert safe.find(loi).version == 2 and safe.store.exists(loi)
    assert safe.delete(loi, "root", "why", 2).version == 2 and not safe.store.exists(loi)


@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
def test_numbers_go_on_after_deletion_and_series_are_apart(safe: Safe) -> None:
    first, second = safe.create(SERIES, "ada"), safe.create(SERIES, "bob")
    assert [loi.number for loi in (first, second)] == [1, 2]
    safe.delete(second, "root", "mistake")
    assert safe.create(SERIES, "ada").number == 3
    assert safe.create(series("42.1002/ds/exp/sa/42/cwepr"), "ada").number == 1
    with pytest.raises(DatasetGone) as gone:
        safe.find(second)
    assert gone.value.detail["reason"] == "mistake"
    with pytest.raises(NoSuchDataset):
        safe.find(SERIES.loi(99))


@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
def test_a_reservation_of_ones_choice_is_made_once_and_survives_the_database(safe: Safe) -> None:
    loi = SERIES.loi(7)
    assert [safe.reserve(loi, "ada"), safe.reserve(loi, "bob")] == [True, False]
    assert safe.find(loi).owner == "ada" and safe.create(SERIES, "bob").number == 8
    assert [(one["number"], one["given"]) for one in safe.register.entries(SERIES)] == [(7, "ada"), (8, "bob")]
    safe.delete(loi, "root", "mistake")
    with pytest.raises(DatasetGone):
        safe.reserve(loi, "ada")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_version_that_became_visible_as_its_process_died_is_entered_and_announced(safe: Safe) -> None:
    loi = safe.create(SERIES, "ada")
    put(safe, loi, FILES)
    put(safe, loi, FILES | {"a.dat": b"two"}, first=False)
    Dataset.update(version=0).execute()
    orm.execute("DELETE FROM outbox")
    Pending.insert(loi=str(loi), stage="0" * 32).execute()
    assert safe.settle() == 1
    assert safe.find(loi).version == 2 and not Pending.select().count()
    told = [json.loads(body)["data"] for (body,) in orm.rows("SELECT body FROM outbox ORDER BY id")]
    assert [(data["version"], data["files"]) for data in told] == [(1, 3), (2, 3)]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_damaged_dataset_keeps_no_other_from_being_entered(safe: Safe) -> None:
    damaged, sound = (safe.create(SERIES, "ada") for _ in range(2))
    for loi in (damaged, sound):
        put(safe, loi, FILES)
        Pending.insert(loi=str(loi), stage="0" * 32).execute()
    Dataset.update(version=0).execute()
    (safe.volume.datasets / place(damaged) / "inventory.json").write_bytes(b"")
    assert safe.settle() == 1
    assert (safe.find(damaged).version, safe.find(sound).version) == (0, 1)
    assert [pending.loi for pending in Pending.select()] == [str(damaged)]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_deletion_that_was_cut_short_is_ended(safe: Safe) -> None:
    loi = safe.create(SERIES, "ada")
    put(safe, loi, FILES)
    safe.delete(loi, "root", "mistake")
    DatasetTombstone.update(settled=False).execute()
    put_again = safe.register.path(loi.series)
    (safe.volume.datasets / put_again).write_bytes(b"")  # as if the register had not been written yet
    assert safe.settle() == 1 and not safe.store.exists(loi)
    assert [entry["number"] for entry in safe.register.entries(loi.series) if "deleted" in entry] == [1]
    assert safe.settle() == 0


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_upload_that_meets_a_deletion_does_not_bring_the_dataset_back(safe: Safe, first: bool) -> None:
    loi = safe.create(SERIES, "ada")
    if not first:
        put(safe, loi, FILES)
    body = zipped(FILES | {"a.dat": b"two"})
    sent = []

    def fill(view: memoryview) -> int:
        if sent:
            return 0
        safe.delete(loi, "root", "meanwhile")
        view[: len(body)] = body
        sent.append(True)
        return len(body)

    with pytest.raises(DatasetGone):
        safe.put(loi, fill, len(body), Author(name="ada"), first=first)
    safe.settle()
    assert not safe.store.exists(loi) and not Pending.select().count()


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_body_of_unknown_length_holds_room_as_it_grows_and_ends_where_there_is_none(safe: Safe, first: bool) -> None:
    loi = safe.create(SERIES, "ada")
    if not first:
        put(safe, loi, FILES)
    sent, held = io.BytesIO(bytes(24 * BLOCK)), []

    def fill(view: memoryview) -> int:
        held.append(sum(volume._reserved.values()))
        if sent.tell() >= 8 * BLOCK:
            safe.volume.min_free = 1 << 60
        return sent.readinto(view)

    with pytest.raises(NoSpace):
        safe.put(loi, fill, None, Author(name="ada"), first=first)
    assert sent.tell() < 24 * BLOCK
    assert min(held[1:]) >= BLOCK and sum(volume._reserved.values()) == 0
    assert safe.store.exists(loi) is not first and not list(staging.orphans(safe.store.work))


@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
def test_a_key_is_its_owners_and_is_forgotten_after_a_week(safe: Safe) -> None:
    first = safe.create(SERIES, "ada", "key")
    assert safe.create(SERIES, "ada", "key") == first != safe.create(SERIES, "bob", "key")
    assert once.forget() == 0
    orm.execute("UPDATE requestkey SET created = created - ? WHERE owner = 'ada'", (once.DAYS + 1) * 86400)
    assert (once.forget(), once.forget()) == (1, 0)
    assert safe.create(SERIES, "ada", "key").number == 3 and safe.create(SERIES, "bob", "key").number == 2


def test_the_register_keeps_whole_lines_only(tmp_path: Path) -> None:
    register = Register(tmp_path)
    register.given(SERIES, 1, "ada", 1.0)
    path = tmp_path / register.path(SERIES)
    with path.open("ab") as file:
        file.write(b"torn by a crash")
    register.given(SERIES, 2, "bob", 2.0)
    assert [entry["number"] for entry in register.entries(SERIES)] == [1, 2]
    assert list(register.series()) == [SERIES] and register.damaged(SERIES) == 0
    path.write_bytes(path.read_bytes().replace(b"bob", b"eve"))
    assert [entry["number"] for entry in register.entries(SERIES)] == [1] and register.damaged(SERIES) == 1
