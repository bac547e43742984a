"""pacifica-cartd-cmd: fixit, dump and purge, with Pacifica's flags."""

import argparse
import hashlib
import json
from dataclasses import replace

import pytest
import yaml

from pacifica.cartd import administration, purging, tasks
from pacifica.cartd.config import Cartd
from pacifica.cartd.orm import Cart, File, State
from pacifica.common import orm
from pacifica.common.errors import Conflict


@pytest.fixture
def command(site, monkeypatch, capsys):
    """Run a command of ``pacifica-cartd-cmd`` against the site."""
    monkeypatch.setattr(administration, "shelf", lambda: site.shelf)
    monkeypatch.setattr(tasks, "shelf", lambda: site.shelf)

    monkeypatch.setattr(tasks, "settings", lambda: site.settings)

    def run(*words: str) -> tuple[int, str]:
        parser = argparse.ArgumentParser()
        administration.extend(parser.add_subparsers(required=True))
        arguments = parser.parse_args(words)
        return arguments.command(arguments), capsys.readouterr().out

    return run


def test_fixit_stages_a_failed_cart_again(site, command):
    entries = site.archive({"a": b"a", "b": b"b"})
    site.post("c", entries)
    cart = site.cart("c")
    cart.failed(RuntimeError("a bad day"))
    assert site.head("c").status_code == 500
    assert command("fixit", "--cartid", "c") == (0, "c: ready\n")
    assert site.head("c").headers["X-Pacifica-Status"] == "ready"
    assert site.get("c").status_code == 200


def test_fixit_says_what_is_still_wrong(site, command):
    entries = site.archive({"a": b"a"})
    entries[0] |= {"hashtype": "md5", "hashsum": hashlib.md5(b"other").hexdigest()}
    site.post("c", entries)
    code, text = command("fixit", "--cartid", "c")
    assert code == 1
    assert text.startswith("c: error Failed to pull file(Failed to pull with error: File hash does not match")
    site.post("d", [entries[0] | {"hashtype": "sha1", "hashsum": "0" * 40}])
    with pytest.raises(Conflict):
        command("fixit", "--cartid", "d")


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_dump_shows_live_carts_with_their_files_as_text(site, command, form):
    read = {"json": json.loads, "yaml": yaml.safe_load}[form]
    flags = ["--json"] if form == "json" else []
    assert read(command("dump", *flags)[1]) == []
    entries = site.archive({"a": b"a", "größe": b"b"})
    for uid in ("one", "two", "gone"):
        site.post(uid, entries)
    site.delete("gone")
    found = read(command("dump", *flags)[1])
    assert [cart["cart_uid"] for cart in found] == ["one", "two"]
    assert found[0]["files"][1] == {
        "file_name": str(entries[1]["id"]),
        "bundle_path": "größe",
        "hash_type": "sha1",
        "hash_value": entries[1]["hashsum"],
        "status": "staged",
        "error": "",
    }
    assert {type(value) for cart in found for value in cart.values()} == {str, list}


@pytest.mark.parametrize("cartd_tables", ["sqlite", "postgresql"], indirect=True)
def test_purge_takes_what_was_not_used_for_so_long(site, command):
    for uid in ("old", "new", "busy"):
        site.post(uid, site.archive({"a": b"a"}))
    orm.execute("UPDATE cart SET updated = updated - 700000")
    site.get("new")
    orm.execute("UPDATE cart SET read_until = updated + 800000 WHERE cart_uid = 'busy'")
    assert command("purge", "--time-ago", "9 days ago") == (0, "0 carts purged\n")
    assert command("purge", "--time-ago", "7 days ago") == (0, "1 carts purged\n")
    assert {cart.cart_uid: cart.state for cart in Cart.select()} == {
        "old": State.DELETED,
        "new": State.READY,
        "busy": State.READY,
    }
    assert File.select().count() == 2


def test_purge_spares_what_is_used_again_while_it_is_at_work(site, command, monkeypatch):
    for uid in ("first", "second"):
        site.post(uid, site.archive({"a": b"a"}))
    orm.execute("UPDATE cart SET updated = updated - 700000")
    clear = purging.clear

    def used(*given) -> int:
        assert site.get("second").status_code == 200
        return clear(*given)

    monkeypatch.setattr(purging, "clear", used)
    assert command("purge", "--time-ago", "7 days ago") == (0, "1 carts purged\n")
    assert {cart.cart_uid: cart.state for cart in Cart.select()} == {"first": State.DELETED, "second": State.READY}


def test_what_nobody_used_for_expire_days_goes_by_itself(site, command):
    for uid in ("old", "new"):
        site.post(uid, site.archive({"a": b"a"}))
    orm.execute("UPDATE cart SET updated = updated - 86400 * 2 WHERE cart_uid = 'old'")
    assert tasks.purge_unused in tasks.app.duties
    for days, left in ((0.0, {"old", "new"}), (3.0, {"old", "new"}), (1.0, {"new"})):
        site.settings = replace(site.settings, cartd=Cartd(expire_days=days))
        tasks.purge_unused()
        assert {cart.cart_uid for cart in Cart.select() if cart.state == State.READY} == left
    assert site.head("old").status_code == 404
    assert site.get("new").status_code == 200


@pytest.mark.parametrize("text", ["7 days ago", "1 day ago", "2 Weeks ago", "30 minutes ago"])
def test_an_age_is_read_as_pacifica_reads_it(text):
    assert administration.seconds_ago(text) > 0


@pytest.mark.parametrize("text", ["7", "days ago", "7 fortnights ago", "-7 days ago", ""])
def test_what_is_no_age_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        administration.seconds_ago(text)
