"""Cartd over HTTP: Pacifica's contract to the header, and what stands beside it."""

import base64
import hashlib
import http.client
import io
import json
import shutil
import tarfile
import threading
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import quote, urlsplit

import pytest
import requests

from pacifica.cartd import filling, plans, purging, reading, rest, shelf
from pacifica.cartd.config import Cartd, Settings
from pacifica.cartd.digest import KEPT
from pacifica.cartd.orm import Cart, File, State
from pacifica.cartd.selection import Selection
from pacifica.common import ledger, orm
from pacifica.common.archive import LocalArchive
from pacifica.common.errors import ArchiveUnavailable, DatabaseAway
from pacifica.common.interface import Incoming
from pacifica.common.outbox import Outbox
from pacifica.tests.system.suite import until

FILES = {"a.txt": b"alpha", "sub/b.dat": b"b" * 70_000, "sub/leer": b"", "größe/ü.txt": b"umlaut"}


def members(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r|") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def told(answer: requests.Response) -> tuple[int, str, str]:
    return answer.status_code, answer.headers["X-Pacifica-Status"], answer.headers["X-Pacifica-Message"]


def raw_path(site, method: str, path: str) -> int:
    """Send a path as it is: other clients tidy it up."""
    connection = http.client.HTTPConnection(urlsplit(site.server.url).netloc, timeout=10)
    connection.putrequest(method, path)
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


def events() -> list[dict]:
    return [json.loads(row.body) for row in Outbox.select().order_by(Outbox.id) if row.channel == "event"]


# ---- Pacifica's contract -------------------------------------------------------------------------------------------


def test_the_root_tells_everybody_that_the_service_runs(site_of_many):
    assert site_of_many.get("").json() == {"message": "Pacifica Cartd Interface Up and Running"}
    assert site_of_many.head("").status_code == 200
    assert site_of_many.get("some").status_code == 401


def test_a_cart_is_ready_when_its_post_returns(site):
    entries = site.archive(FILES)
    answer = site.post("mine", entries)
    assert (answer.status_code, answer.json()) == (201, {"message": "Cart Processing has begun"})
    head = site.head("mine")
    assert told(head) == (204, "ready", "")
    got = site.get("mine?filename=data")
    assert members(got.content) == {f"data/{path}": content for path, content in FILES.items()}
    assert got.headers["Content-Disposition"] == 'attachment; filename="data"'
    assert int(site.head("mine").headers["X-Content-Length"]) == len(site.get("mine").content)
    assert told(got) == (200, "ready", "")
    assert [event["type"] for event in events()] == ["pacifica.cart.ready"]
    assert events()[0]["data"] == {"cart": "mine", "owner": "root", "files": 4, "bytes": len(site.get("mine").content)}


def test_that_a_cart_failed_is_logged_when_it_happens_and_not_again_at_each_look(site, caplog):
    caplog.set_level("INFO")
    site.post("wrong", [{"id": 7, "path": "x", "hashtype": "sha1", "hashsum": "0" * 40}])
    assert "failed: File 7 is not in the archive." in caplog.text
    site.head("wrong")
    assert {record.levelname for record in caplog.records} == {"INFO"}


def test_every_answer_has_status_and_message_also_when_there_is_no_cart(site):
    assert told(site.head("none")) == (404, "error", "No cart with uid none found")
    assert told(site.get("none")) == (404, "error", "The cart does not exist or has already been deleted")
    assert told(site.delete("none")) == (404, "error", "The cart does not exist or has already been deleted")
    assert told(site.head("x" * 256))[:2] == (400, "error")
    site.post("wrong", [{"id": 7, "path": "x", "hashtype": "sha1", "hashsum": "0" * 40}])
    assert told(site.head("wrong")) == (500, "error", "File 7 is not in the archive.")
    assert told(site.get("wrong")) == (500, "error", "File 7 is not in the archive.")
    assert [event["type"] for event in events()] == ["pacifica.cart.failed"]
    site.post("mine", site.archive(FILES))
    assert told(site.get("mine", headers={"Range": "bytes=99999999-"}))[:2] == (416, "ready")


@pytest.mark.parametrize(
    ("method", "path", "status", "shown"),
    [
        ("POST", "c", 400, "error"),
        ("POST", "c?some=thing", 400, "error"),
        ("POST", "x" * 256, 400, "error"),
        ("PUT", "c", 405, "error"),
        ("PATCH", "c/files/f", 405, "error"),
        ("DELETE", "c/files/f", 404, "error"),
        ("GET", "c/files/none", 404, "ready"),
        ("GET", "c/other", 404, "ready"),
        ("GET", "c?filename=%0A", 400, "ready"),
        ("GET", "c?filename=a&filename=b", 400, "error"),
    ],
)
def test_so_has_every_refusal(site, method, path, status, shown):
    site.post("c", site.archive({"f": b"x"}))
    answer = requests.request(method, f"{site.server.url}/{path}", data=b"nonsense", timeout=10)
    assert told(answer) == (status, shown, answer.json()["message"])


def test_so_has_the_refusal_of_a_document_that_is_too_large(site):
    length = {"Content-Length": str(1 << 40)}
    answer = requests.post(f"{site.server.url}/c", headers=length, timeout=10)
    assert told(answer) == (413, "error", answer.json()["message"])


def test_so_has_every_success(site):
    entries = site.archive({"f": b"x"})
    posted = site.post("c", entries)
    assert told(posted) == (201, "ready", "")
    for url in ("c", "c/files", "c/files/f", "c?filename=x"):
        assert told(site.get(url)) == (200, "ready", "")
    entries[0] |= {"hashtype": "md5", "hashsum": hashlib.md5(b"x").hexdigest()}
    assert told(site.post("d", entries)) == (201, "staging", "")
    assert told(site.post("e", [entries[0] | {"id": 99}])) == (201, "error", "File 99 is not in the archive.")
    gone = site.delete("c")
    assert (gone.headers["X-Pacifica-Message"], "X-Pacifica-Status" in gone.headers) == ("", False)


def test_so_has_what_a_stranger_is_told(site_of_many):
    url = f"{site_of_many.server.url}/c"
    for method in ("GET", "HEAD", "POST", "DELETE", "PUT"):
        assert told(requests.request(method, url, timeout=10))[:2] == (401, "error")
    away = requests.get(url, headers={"X-Http-Authed-User": "a, b"}, timeout=10)
    assert told(away) == (401, "error", away.json()["message"])


def test_while_a_cart_is_staged_get_answers_202_and_head_staging(site):
    entries = site.archive({"a": b"a"})
    entries[0] |= {"hashtype": "md5", "hashsum": hashlib.md5(b"a").hexdigest()}
    site.post("slow", entries)  # nobody works here
    assert told(site.head("slow")) == (204, "staging", "")
    answer = site.get("slow")
    assert (*told(answer), answer.text) == (202, "staging", "", "The cart is not ready for download.")
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Content-Type"].startswith("text/plain")
    Cart.update(state=State.FILLING).execute()
    assert told(site.head("slow")) == (204, "staging", "")
    assert site.delete("slow").status_code == 200
    assert File.select().count() == 0


def test_a_uid_posted_again_is_another_cart_and_delete_takes_them_all(site):
    for content in (b"1", b"22"):
        site.post("same", site.archive({"f": content}))
    assert list(members(site.get("same").content).values()) == [b"22"]
    answer = site.delete("same")
    assert (answer.status_code, answer.json()) == (200, {"message": "Cart Deleted Successfully"})
    assert site.head("same").status_code == site.get("same").status_code == site.delete("same").status_code == 404
    assert not any(site.volume.carts.rglob("*.plan"))
    assert {cart.cleared for cart in Cart.select()} == {True}


def test_the_top_folder_is_the_file_name_without_tar(site):
    site.post("c", site.archive({"f": b"x"}))
    for name, folder in (("data", "data"), ("my run.tar", "my run"), ("x.tar.gz", "x.tar.gz"), ("ü€.tar", "ü€")):
        answer = site.get(f"c?filename={quote(name)}")
        assert list(members(answer.content)) == [f"{folder}/f"]
        assert int(site.head(f"c?filename={quote(name)}").headers["X-Content-Length"]) == len(answer.content)
    assert site.get("c?filename=%C3%BC%E2%82%AC.tar").headers["Content-Disposition"] == (
        "attachment; filename=\"__.tar\"; filename*=UTF-8''%C3%BC%E2%82%AC.tar"
    )
    unnamed = site.get("c")
    name = unnamed.headers["Content-Disposition"].split('"')[1]
    assert list(members(unnamed.content)) == [f"{name.removesuffix('.tar')}/f"]
    assert name.startswith("data_2") and len(name) == len("data_2026_11_21_10_00_00.tar")


@pytest.mark.parametrize(
    "name", ["../../etc", "/abs", "a/b", "..", ".tar", ".", "a\r\nX-Evil: 1", "a\0b", "\u202etar", "x" * 256, "a\\b"]
)
def test_a_file_name_that_could_lead_anywhere_is_refused(site, name):
    site.post("c", site.archive({"f": b"x"}))
    assert told(site.get(f"c?filename={quote(name)}"))[0] == 400
    assert told(site.head(f"c?filename={quote(name)}"))[0] == 400


@pytest.mark.parametrize("name", ['a"b', "a;b", "a%22b", "-rf", "a'b", "a b "])
def test_a_file_name_with_quotes_and_the_like_breaks_no_header(site, name):
    site.post("c", site.archive({"f": b"x"}))
    answer = site.get(f"c?filename={quote(name)}")
    assert answer.status_code == 200
    assert list(members(answer.content)) == [f"{name}/f"]
    assert answer.headers["Content-Disposition"].count('"') == 2


def test_a_bundled_cart_has_its_uid_as_top_folder(site):
    entries = site.archive({"f": b"x"})
    site.post("7cf6-uid", entries, bundle=True)
    assert list(members(site.get("7cf6-uid?filename=data.tar").content)) == ["7cf6-uid/f"]
    site.post("no folder/ü".replace("/", "|"), entries, bundle=True)
    assert list(members(site.get(quote("no folder|ü") + "?filename=data.tar").content)) == ["data/f"]
    assert site.post("x", entries, bundle="yes").status_code == 400


@pytest.mark.parametrize("cartd_settings", [replace(Settings(), cartd=Cartd(bundle_task=True))])
def test_whether_a_cart_is_bundled_that_does_not_say_is_the_administrators_to_say(site):
    entries = site.archive({"f": b"x"})
    for uid, options, folder in (
        ("one", {}, "one"),
        ("two", {"bundle": False}, "d"),
        ("three", {"bundle": None}, "three"),
    ):
        site.post(uid, entries, **options)
        assert list(members(site.get(f"{uid}?filename=d.tar").content)) == [f"{folder}/f"]


@pytest.mark.parametrize("uid", ["ü" * 255, "a b", "...", "a'b\"c", "-", "x" * 255])
def test_any_printable_segment_is_a_uid_and_touches_no_path(site, tmp_path, uid):
    before = {path for path in tmp_path.rglob("*") if "carts" not in path.parts}
    entries = site.archive({"f": b"x"})
    assert raw_path(site, "GET", f"/{quote(uid, safe='.')}") in (404,)
    path = quote(uid, safe="").replace(".", "%2E")
    assert site.post(path, entries).status_code == 201
    assert site.get(path).status_code == 200
    assert site.delete(path).status_code == 200
    beyond = {path for path in tmp_path.rglob("*") if "carts" not in path.parts and "packs" not in path.parts} - before
    assert {path.name for path in beyond} <= {"spool", "carts", "archive", "pacifica.db-wal", "pacifica.db-shm"}
    assert {path.name for path in site.volume.carts.rglob("*")} <= {f"{1:02x}"}


@pytest.mark.parametrize(
    "uid", ["x" * 256, "a%2Fb", "a%00b", "a%0Ab", "%E2%80%AE", "%2e%2e", "docs", "metrics", "openapi.yaml"]
)
def test_what_is_no_uid_is_refused(site, uid):
    assert site.post(uid, site.archive({"f": b"x"})).status_code in (400, 405)
    assert Cart.select().count() == 0


# ---- what a selection may say --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "../../x",
        "//abs/x",
        "a//b",
        "",
        "/",
        "a/",
        "a/../b",
        "./a",
        "a\0b",
        "a\nb",
        "n" * 256,
        "x/" * 2048 + "y",
        "..",
        "a\x7f",
        "a\x9b2J",
        "a\x85b",
        "a\u2028b",
        "ü" * 128,
        "a/..",
        "a\x1b[2J",
    ],
)
def test_a_path_that_is_no_path_in_the_cart_is_refused_with_its_place(site, path):
    good, bad = site.archive({"good": b"x", "bad": b"y"})
    answer = site.post("c", [good, bad | {"path": path}])
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_selection")
    assert [fault["position"] for fault in answer.json()["faults"]] == [1]
    assert Cart.select().count() == 0


def test_every_path_that_is_file_and_folder_is_named(site):
    paths = ["a", "a/b/c", "a/b", "a!", "a b/c", "b/c/d", "b", "bb/c", "ü", "ü/x", "z/z", "zz"]
    (entry,) = site.archive({"f": b"x"})
    answer = site.post("c", [entry | {"path": path} for path in paths])
    assert [fault["entry"] for fault in answer.json()["faults"]] == ["a", "a/b", "b", "ü"]


def test_deep_paths_cost_no_more_than_their_length(site):
    entry = {"id": 1, "hashtype": "sha1", "hashsum": "0" * 40}
    document = json.dumps({"fileids": [entry | {"path": f"{n}/" + "x/" * 2000 + "y"} for n in range(2000)]}).encode()
    tracemalloc.start()
    try:
        selection = Selection(document, 10_000)
        assert tracemalloc.get_traced_memory()[1] < 6 * len(document)
    finally:
        tracemalloc.stop()
    assert len(selection) == 2000


def test_every_bad_entry_is_listed(site):
    entries = site.archive({"a": b"", "b": b"", "c": b"", "d": b"", "e": b"", "f": b"", "g": b""})
    changes = [{"path": "x"}, {"path": "x"}, {"path": "x/y"}, {"id": "../1"}, {"hashtype": "crc"}, {"hashsum": "zz"}]
    answer = site.post("c", [entry | change for entry, change in zip(entries, [*changes, {"id": True}], strict=True)])
    assert answer.json()["faults_total"] == 6
    assert [fault.get("position") for fault in answer.json()["faults"]] == [1, 3, 4, 5, 6, None]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b'{"fileids": []}',
        b'{"fileids": {}}',
        b'{"fileids": [1]}',
        b'{"fileids": [{}]}',
        b"nonsense",
        b"\xff",
        b'{"fileids": [{"id": NaN, "path": "a", "hashtype": "sha1", "hashsum": "x"}]}',
        b'{"fileids": [{"id": 1, "path": "\\ud800", "hashtype": "a", "hashsum": ""}]}',
        b'{"fileids":' + b"[" * 200_000,
        b'{"fileids": [' + b'{"id":' * 100_000,
    ],
)
def test_a_document_that_is_no_selection_is_refused(site, document):
    answer = site.post("c", document)
    assert (answer.status_code, answer.json()["code"]) in ((400, "bad_json"), (400, "bad_selection"))
    assert Cart.select().count() == 0


def test_more_files_than_allowed_are_refused(site_of_many):
    one = {"id": 1, "hashtype": "sha1", "hashsum": "0" * 40}
    document = json.dumps({"fileids": [one | {"path": str(number)} for number in range(11)]})
    answer = requests.post(
        f"{site_of_many.server.url}/c", data=document, headers={"X-Http-Authed-User": "anna"}, timeout=10
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_selection")


def test_ids_may_be_strings_and_paths_have_one_leading_slash_and_digests_a_prefix(site):
    (entry,) = site.archive({"f": b"x"})
    changed = {"id": str(entry["id"]), "path": "/f", "hashsum": "SHA1:" + entry["hashsum"].upper(), "hashtype": "SHA1"}
    assert site.post("c", [changed]).status_code == 201
    assert list(members(site.get("c?filename=d.tar").content)) == ["d/f"]


# ---- failures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ArchiveUnavailable(), DatabaseAway(), RuntimeError("unforeseen")])
def test_a_post_that_fails_half_way_leaves_no_cart_that_seems_to_work(site, monkeypatch, error):
    entries = site.archive({"f": b"x"})

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(filling.ledger, "vouched", fail)
        answer = site.post("c", entries)
    assert answer.status_code in (500, 503)
    assert site.cart("c").state == State.ERROR
    assert told(site.head("c"))[:2] == (500, "error")
    assert site.post("c", entries).status_code == 201
    assert told(site.head("c")) == (204, "ready", "")


def test_a_cart_deleted_while_it_is_filled_stays_deleted(site, monkeypatch):
    entries = site.archive({"f": b"x"})
    vouched = ledger.vouched

    def delete_meanwhile(ids):
        assert site.delete("c").status_code == 200
        return vouched(ids)

    monkeypatch.setattr(filling.ledger, "vouched", delete_meanwhile)
    assert site.post("c", entries).status_code == 409
    assert site.head("c").status_code == 404
    assert File.select().count() == 0
    assert not any(site.volume.carts.rglob("*.plan"))


def test_a_cart_deleted_while_it_is_planned_leaves_no_plan(site, monkeypatch):
    entries = site.archive({"f": b"x"})
    make_ready = rest.make_ready

    def delete_meanwhile(cart, shelf):
        assert site.delete("c").status_code == 200
        return make_ready(cart, shelf)

    monkeypatch.setattr(rest, "make_ready", delete_meanwhile)
    assert site.post("c", entries).status_code in (409, 201)
    assert site.head("c").status_code == 404
    assert not any(site.volume.carts.rglob("*.plan"))


@pytest.mark.parametrize("step", ["_make_room", "build"])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_cart_deleted_while_its_plan_is_written_is_gone(site, monkeypatch, method, step):
    entries, now = site.archive({"f": b"x"}), getattr(plans, step)

    def delete_meanwhile(*given):
        assert site.delete("c").status_code == 200
        return now(*given)

    if method == "GET":
        assert site.post("c", entries).status_code == 201
    monkeypatch.setattr(plans, step, delete_meanwhile)
    answer = site.post("c", entries) if method == "POST" else site.get("c?filename=other")
    assert answer.status_code == (201 if method == "POST" else 410)
    assert site.head("c").status_code == 404
    assert not any(site.volume.carts.rglob("*.plan*"))


def test_a_folder_that_somebody_writes_to_as_it_is_cleared_is_cleared_again(site, monkeypatch):
    site.post("c", site.archive({"f": b"x"}))
    home, rmtree = site.shelf.home(site.cart("c").id), shutil.rmtree

    def late(path, **options) -> None:
        rmtree(path, **options)
        path.mkdir(parents=True)
        (path / "late.sha-256").touch()

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", late)
        assert site.delete("c").status_code == 200
    assert (home.exists(), site.cart("c").cleared) == (True, False)
    assert (purging.clear(site.shelf), purging.clear(site.shelf)) == (1, 0)
    assert (home.exists(), site.cart("c").cleared) == (False, True)


def test_what_goes_while_the_oldest_digests_are_looked_for_is_no_reason_to_keep_the_others(site, monkeypatch):
    entries, looked = site.archive({"f": b"x"}), shelf._changed
    site.post("c", entries)
    home = site.shelf.home(site.cart("c").id)
    for number in range(7):
        (home / f"{number}.sha-256").touch()

    def changed(path) -> float:
        if path.name == "3.sha-256":
            path.unlink()
        return looked(path)

    monkeypatch.setattr(shelf, "_changed", changed)
    site.get("c?filename=d", headers={"Want-Repr-Digest": "sha-256=1"})
    until(lambda: len([*home.glob("*.sha-256")]) == KEPT, 30, "the others to go")


def test_a_file_replaced_in_the_archive_is_not_what_the_cart_declared(site):
    (entry,) = site.archive({"f": b"old"})
    site.post("c", [entry])
    first = site.get("c?filename=a").content
    new = b"new"
    rest_of = io.BytesIO(new)
    LocalArchive(site.volume).put(entry["id"], Incoming(fill=rest_of.readinto, length=3, mtime=1.0))
    assert site.get("c?filename=a").content == first  # the plan is on disk, and packs are never overwritten
    assert site.get("c?filename=b").status_code == 410


# ---- what is inside ------------------------------------------------------------------------------------------------


def test_the_files_of_a_cart_are_listed_and_given_out_one_by_one(site):
    entries = site.archive(FILES)
    site.post("c", entries)
    listed = site.get("c/files").json()["files"]
    assert [file["path"] for file in listed] == list(FILES)
    assert listed[1] == {
        "id": entries[1]["id"],
        "path": "sub/b.dat",
        "size": 70_000,
        "mtime": 1_795_000_000,
        "hashtype": "sha1",
        "hashsum": entries[1]["hashsum"],
    }
    for path, content in FILES.items():
        answer = site.get(f"c/files/{quote(path)}")
        assert (answer.status_code, answer.content) == (200, content)
        digest = base64.b64encode(hashlib.sha1(content).digest()).decode()
        assert answer.headers["Repr-Digest"] == f"sha=:{digest}:"
        assert answer.headers["ETag"] == f'"{hashlib.sha1(content).hexdigest()}"'
        assert told(answer) == (200, "ready", "")
        head = site.head(f"c/files/{quote(path)}")
        assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(content)))
        assert head.headers["Repr-Digest"] == answer.headers["Repr-Digest"]
    part = site.get("c/files/sub/b.dat", headers={"Range": "bytes=69990-"})
    assert (part.status_code, part.content) == (206, b"b" * 10)
    assert site.get("c/files/sub").status_code == site.get("c/files/sub/b.dat/x").status_code == 404
    assert site.get("c/nothing").status_code == 404
    assert "Repr-Digest" not in site.get("c/files/a.txt", headers={"Range": "bytes=9-"}).headers


def test_the_digest_of_a_file_is_told_in_its_own_algorithm(site):
    site.post("c", site.archive({"f": b"x"}, hashtype="sha256"))
    digest = base64.b64encode(hashlib.sha256(b"x").digest()).decode()
    assert site.get("c/files/f").headers["Repr-Digest"] == f"sha-256=:{digest}:"


def test_the_digest_of_a_tar_is_computed_for_who_wants_it_and_told_to_all(site):
    site.post("c", site.archive(FILES))
    whole, want = site.get("c?filename=d"), {"Want-Repr-Digest": "sha-512=3, sha-256=10"}
    assert "Repr-Digest" not in whole.headers
    for unwanted in ("sha-512=1", "sha-256=0", "unixsum=1", "x-sha-256=1", "sha-256"):
        site.get("c?filename=d", headers={"Want-Repr-Digest": unwanted})
    site.get("c?filename=d", headers=want | {"Range": "bytes=1-"})
    assert not any(site.volume.carts.rglob("*.sha-256"))
    site.get("c?filename=d", headers=want)
    until(lambda: any(site.volume.carts.rglob("*.sha-256")), 10, "the digest")
    said = f"sha-256=:{base64.b64encode(hashlib.sha256(whole.content).digest()).decode()}:"
    for answer in (
        site.get("c?filename=d"),
        site.get("c?filename=d", headers={"Range": "bytes=1-5"}),
        site.head("c?filename=d"),
    ):
        assert answer.headers["Repr-Digest"] == said
    assert "Repr-Digest" not in site.get("c?filename=other").headers
    assert "Repr-Digest" not in site.get("c?filename=d", headers={"Range": "bytes=999999-"}).headers
    site.get("c", headers=want)
    until(lambda: "Repr-Digest" in site.head("c", headers=want).headers, 10, "that of the unnamed one")
    for number in range(6):
        site.get(f"c?filename={number}", headers=want)
    until(lambda: "Repr-Digest" in site.head("c?filename=5").headers, 10, "that of the last one")
    until(lambda: len([*site.volume.carts.rglob("*.sha-256")]) == 4, 10, "the others to go")
    for torn in site.volume.carts.rglob("*.sha-256"):
        torn.write_bytes(b"")
    assert "Repr-Digest" not in site.get("c?filename=5").headers
    site.delete("c")
    assert not any(site.volume.carts.rglob("*.*"))


@pytest.mark.parametrize("count", [999, 1000, 1001, 2000])
def test_a_long_list_is_streamed_whole(site, count):
    (entry,) = site.archive({"f": b"x"})
    paths = [f"f{number}" for number in range(count)]
    site.post("c", [entry | {"path": path} for path in paths])
    assert [file["path"] for file in site.get("c/files").json()["files"]] == paths


def test_damage_breaks_the_download_off_and_marks_file_and_cart(site):
    entries = site.archive({"good": b"g" * 2_000_000, "bad": b"b" * 100_000})
    site.post("tar", entries)
    site.post("file", entries)
    site.damage(entries[1]["id"])
    for url in ("tar?filename=d.tar", "file/files/bad"):
        try:
            answer = site.get(url)
            assert answer.status_code == 500  # before the first byte it can still be told
        except requests.exceptions.ChunkedEncodingError:  # IncompleteRead
            pass
    assert told(site.head("tar"))[:2] == told(site.head("file"))[:2] == (500, "error")
    assert ledger.find(entries[1]["id"]).verdict == ledger.DAMAGED
    assert ledger.find(entries[0]["id"]).verdict is None
    site.post("again", entries)
    assert told(site.head("again")) == (500, "error", f"File {entries[1]['id']} is damaged in the archive.")


def test_the_plans_of_large_carts_are_made_one_after_the_other_and_each_once(site, monkeypatch):
    monkeypatch.setattr(plans, "LARGE", 0)
    monkeypatch.setattr(plans, "_turns", threading.BoundedSemaphore(1))
    site.post("c", site.archive(FILES))
    at_work, made, build = Counter(), [], plans.build

    def watched(members, folder, *rest_of):
        at_work["now"] += 1
        at_work["most"] = max(at_work["most"], at_work["now"])
        try:
            return build(members, folder, *rest_of)
        finally:
            at_work["now"] -= 1
            made.append(folder)

    monkeypatch.setattr(plans, "build", watched)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: site.get(f"c?filename=n{number % 3}"), range(24)))
    assert {answer.status_code for answer in answers} == {200}
    assert (sorted(made), at_work["most"]) == (["n0", "n1", "n2"], 1)


# ---- whose carts ---------------------------------------------------------------------------------------------------


def test_another_users_cart_is_not_there(site_of_many):
    site = site_of_many
    entries = site.archive({"f": b"x"}, owner="anna")
    anna, bob, boss = ({"X-Http-Authed-User": name} for name in ("anna", "bob", "boss"))
    document = json.dumps({"fileids": entries})
    assert requests.post(f"{site.server.url}/c", data=document, headers=anna, timeout=10).status_code == 201
    for url in ("c", "c/files", "c/files/f"):
        assert site.get(url, headers=anna).status_code == 200
        assert site.get(url, headers=boss).status_code == 200
        assert site.get(url, headers=bob).status_code == 404
    assert site.head("c", headers=bob).status_code == site.delete("c", headers=bob).status_code == 404
    assert site.head("c", headers=anna).status_code == 204
    assert requests.post(f"{site.server.url}/d", data=document, headers=bob, timeout=10).status_code == 201
    assert (
        site.head("d", headers=bob).headers["X-Pacifica-Message"] == f"File {entries[0]['id']} is not in the archive."
    )


def test_a_download_keeps_a_cart_from_being_unused(site):
    site.post("c", site.archive({"f": b"x"}))
    orm.execute("UPDATE cart SET updated = 1000, read_until = 0")
    site.get("c", headers={"Range": "bytes=0-1"})
    cart = site.cart("c")
    assert cart.updated > orm.clock() - 60
    assert cart.read_until > orm.clock() + 30
    orm.execute("UPDATE cart SET updated = 1000")
    site.get("c", headers={"Range": "bytes=1-2"})
    assert site.cart("c").updated == 1000, "one write for many ranges"


def test_a_download_holds_its_cart_for_as_long_as_it_lasts(site, monkeypatch):
    monkeypatch.setattr(reading, "RENEW_SECONDS", 0.02)
    monkeypatch.setattr(reading, "_thread", None)
    site.post("c", site.archive({"f": bytes(40 << 20)}))
    answer = site.get("c", stream=True)
    begun = next(answer.iter_content(1 << 20))
    for _ in range(2):
        orm.execute("UPDATE cart SET read_until = 0")
        until(lambda: site.cart("c").read_until > orm.clock() + 30, 20, "the next word of the download")
    assert len(begun + answer.content) == int(answer.headers["Content-Length"])
    until(lambda: not reading._held, 20, "the end of the download")
