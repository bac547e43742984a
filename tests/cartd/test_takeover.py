"""A database of Pacifica's cartd 0.7.0 becomes ours in place, and its live carts can be downloaded or say why not."""

import hashlib
import io
import time
from contextlib import contextmanager
from datetime import datetime

import pytest

from pacifica.cartd import orm as carts
from pacifica.cartd import takeover
from pacifica.cartd.filling import adopted, verify
from pacifica.cartd.orm import SCHEMA, Cart, CartSystem, File
from pacifica.cartd.ready import make_ready
from pacifica.cartd.shelf import Shelf
from pacifica.common import counter, orm
from pacifica.common.archive import LocalArchive
from pacifica.common.auth import Principal
from pacifica.common.errors import NotFound
from pacifica.common.interface import Incoming
from pacifica.common.state import StateChange
from pacifica.common.volume import Volume

# What peewee 3 makes of the models of cartd 0.7.0, on either database.
KEY = {True: "SERIAL NOT NULL PRIMARY KEY", False: "INTEGER NOT NULL PRIMARY KEY"}
TIME = {True: "TIMESTAMP", False: "DATETIME"}
BOOLEAN = {True: "BOOLEAN", False: "INTEGER"}
OLD = (
    'CREATE TABLE "cart" ("id" {key}, "cart_uid" VARCHAR(255) NOT NULL, "bundle_path" VARCHAR(255) NOT NULL,'
    ' "creation_date" {time} NOT NULL, "updated_date" {time} NOT NULL, "deleted_date" {time},'
    ' "status" TEXT NOT NULL, "error" TEXT NOT NULL)',
    'CREATE TABLE "file" ("id" {key}, "cart_id" INTEGER NOT NULL, "file_name" VARCHAR(255) NOT NULL,'
    ' "bundle_path" VARCHAR(255) NOT NULL, "hash_type" VARCHAR(255) NOT NULL, "hash_value" VARCHAR(255) NOT NULL,'
    ' "status" TEXT NOT NULL, "error" TEXT NOT NULL, FOREIGN KEY ("cart_id") REFERENCES "cart" ("id"))',
    'CREATE INDEX "file_cart_id" ON "file" ("cart_id")',
)
SYSTEM = 'CREATE TABLE "cartsystem" ("part" VARCHAR(255) NOT NULL PRIMARY KEY, "value" INTEGER NOT NULL)'
ADDED_1_0 = 'ALTER TABLE "cart" ADD COLUMN "bundle" {boolean}'
ADDED_2_0 = (
    'CREATE TABLE "carttasks" ("id" {key}, "cart_id" INTEGER NOT NULL, "celery_task_id" VARCHAR(255) NOT NULL,'
    ' FOREIGN KEY ("cart_id") REFERENCES "cart" ("id"))',
    'CREATE INDEX "carttasks_cart_id" ON "carttasks" ("cart_id")',
)
MADE, USED = "2024-07-01 10:00:00.123456", "2024-07-02 11:30:00.000000"


def make_old(version: tuple[int, int]) -> None:
    postgres = orm.is_postgres()
    words = {"key": KEY[postgres], "time": TIME[postgres], "boolean": BOOLEAN[postgres]}
    statements = list(OLD)
    if version >= (1, 0):
        statements.append(ADDED_1_0)
    if version >= (2, 0):
        statements += ADDED_2_0
    if version > (0, 0):
        statements.append(SYSTEM)
    for statement in statements:
        orm.execute(statement.format(**words))
    if version > (0, 0):
        for part, value in zip(("major", "minor"), version, strict=True):
            orm.execute("INSERT INTO cartsystem (part, value) VALUES (?, ?)", part, value)


def old_cart(uid: str, status: str, files: list[tuple], error: str = "", deleted: str | None = None) -> int:
    postgres = orm.is_postgres()
    moment = datetime.fromisoformat if postgres else str
    id = orm.rows(
        "INSERT INTO cart (cart_uid, bundle_path, creation_date, updated_date, deleted_date, status, error)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
        uid, f"/srv/{uid}", moment(MADE), moment(USED), deleted and moment(deleted), status, error,
    )[0][0]  # fmt: skip
    for name, path, hashtype, hashsum in files:
        orm.execute(
            "INSERT INTO file (cart_id, file_name, bundle_path, hash_type, hash_value, status, error)"
            " VALUES (?, ?, ?, ?, ?, 'staged', '')",
            id, name, path, hashtype, hashsum,
        )  # fmt: skip
    return id


def sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def zone(name: str, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("TZ", name)
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def volume(tmp_path):
    return Volume(tmp_path / "archive", 0)


def archived(volume: Volume, content: bytes) -> int:
    id = counter.allocate("file")
    incoming = Incoming(fill=io.BytesIO(content).readinto, length=len(content), mtime=1.0, owner="anna")
    LocalArchive(volume).put(id, incoming)
    return id


@pytest.mark.parametrize("version", [(0, 0), (0, 1), (1, 0), (2, 0)])
def test_every_older_schema_becomes_ours(database, volume, monkeypatch, version):
    id = archived(volume, b"content")
    make_old(version)
    kept = old_cart("live", "ready", [(str(id), "sub/f", "sha1", sha1(b"content"))])
    old_cart("slow", "staging", [(str(id), "/f", "md5", hashlib.md5(b"content").hexdigest())])
    old_cart("gone", "deleted", [(str(id), "f", "sha1", sha1(b""))], deleted=USED)
    old_cart("sick", "error", [(str(id), "f", "sha1", sha1(b""))], error="Failed to pull file(x)")
    with zone("America/Los_Angeles", monkeypatch):
        assert not SCHEMA.check()
        SCHEMA.sync()
    assert CartSystem.get_version() == (3, 0)
    assert SCHEMA.check(equal=True)
    found = {cart.cart_uid: cart for cart in Cart.select()}
    assert {uid: cart.state for uid, cart in found.items()} == {
        "live": "STAGING",
        "slow": "STAGING",
        "gone": "DELETED",
        "sick": "ERROR",
    }
    live = found["live"]
    assert (live.id, live.files_total, live.bundle) == (kept, 1, False)
    assert live.created == pytest.approx(1719853200.123456)  # 10:00 in summer on the west coast
    assert live.updated == pytest.approx(1719945000.0)
    assert found["sick"].exception == "Failed to pull file(x)"
    assert StateChange.select().where(StateChange.kind == "cart").count() == 4
    assert not {"carttasks", takeover.CARTS, takeover.FILES} & set(orm.database.get_tables())
    shelf = Shelf(volume)
    for uid in ("live", "slow"):
        verify(found[uid], volume)
        plan = make_ready(found[uid], shelf)
        assert [member.path for member in plan.members()] == [{"live": "sub/f", "slow": "f"}[uid]]
        assert Cart.get(Cart.cart_uid == uid).bytes_total == 7
    assert Cart.start(cart_uid="new", state="FILLING").id > kept
    SCHEMA.sync()  # nothing is left to do
    assert Cart.select().count() == 5


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([], "it has no files"),
        ([("1", "../../etc/x", "sha1", "0" * 40)], "a path is relative"),
        ([("..%2fconf", "x", "sha1", "0" * 40)], "is not a file id"),
        ([("1", "x", "sha1", "0" * 40), ("2", "x", "sha1", "0" * 40)], "twice"),
        ([("1", "x", "sha1", "0" * 40), ("2", "x/y", "sha1", "0" * 40)], "a file and a folder"),
        ([("1", "x", "crc", "0")], "is not a hash type"),
    ],
)
def test_a_live_cart_that_cannot_be_served_says_why(sqlite, files, reason):
    make_old((2, 0))
    old_cart("bad", "ready", files)
    SCHEMA.sync()
    cart = Cart.get()
    assert cart.state == "ERROR"
    assert cart.exception.startswith(takeover.EXPIRED)
    assert reason in cart.exception
    assert File.select().count() == 0


def test_a_live_cart_whose_files_are_not_here_fails_when_it_is_staged(sqlite, volume):
    make_old((2, 0))
    old_cart("lost", "ready", [("77", "x", "sha1", "0" * 40)])
    SCHEMA.sync()
    with pytest.raises(NotFound, match="File 77"):
        verify(Cart.get(), volume)


def test_a_killed_takeover_starts_afresh(sqlite, monkeypatch):
    make_old((2, 0))
    for number in range(5):
        old_cart(f"c{number}", "error", [])

    class Killed(BaseException):
        pass

    calls = []

    def dies(*_):
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return 1.0

    with monkeypatch.context() as patch:
        patch.setattr(takeover, "_epoch", dies)
        with pytest.raises(Killed):
            SCHEMA.sync()
    assert CartSystem.get_version() == (2, 0)
    SCHEMA.sync()
    assert Cart.select().count() == 5


def test_a_cart_without_an_owner_goes_to_who_may_read_its_files(sqlite, volume):
    id = archived(volume, b"x")
    make_old((2, 0))
    old_cart("live", "ready", [(str(id), "f", "sha1", sha1(b"x"))])
    SCHEMA.sync()
    cart = Cart.get()
    assert not adopted(cart, Principal("bob", False, False, "proxy"))
    assert adopted(cart, Principal("anna", False, False, "proxy"))
    assert carts.carts_of("live")[0].owner == "anna"
