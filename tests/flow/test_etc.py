"""The sandbox's /etc: a copy of parts of the host's, made once for each state of it."""

import os
import stat
import threading
from pathlib import Path

import pytest

from pacifica.flow import etc
from pacifica.flow.etc import Etc


@pytest.fixture
def host(tmp_path):
    """A host's /etc with some of the parts and a secret."""
    root = tmp_path / "host"
    (root / "ssl" / "certs").mkdir(parents=True)
    (root / "ssl" / "certs" / "one.pem").write_text("certificate")
    (root / "ssl" / "certs" / "link.pem").symlink_to("one.pem")
    (root / "ssl" / "private").mkdir()
    (root / "shadow").write_text("secret")
    (root / "services").write_text("http 80/tcp\n")
    return root


def test_only_the_parts_are_copied_with_links_as_links(host, tmp_path):
    copy = Etc(host=host).folder(tmp_path / "beside")
    assert {path.name for path in copy.iterdir()} == {"ssl", "services", "passwd", "group"}
    assert {path.name for path in (copy / "ssl").iterdir()} == {"certs"}
    assert (copy / "ssl" / "certs" / "link.pem").readlink() == Path("one.pem")
    assert (copy / "ssl" / "certs" / "link.pem").read_text() == "certificate"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o755


def test_a_copy_is_used_again_until_the_host_changes(host, tmp_path):
    first = Etc(host=host).folder(tmp_path)
    inode = first.stat().st_ino
    assert Etc(host=host).folder(tmp_path).stat().st_ino == inode
    (host / "ssl" / "certs" / "two.pem").write_text("another")
    second = Etc(host=host).folder(tmp_path)
    assert second != first and (second / "ssl" / "certs" / "two.pem").exists()
    assert first.exists()  # whoever looked before the change may be about to bind it


def test_a_change_is_seen_by_who_looked_a_while_ago(host, tmp_path, monkeypatch):
    monkeypatch.setattr(etc, "LOOK_SECONDS", 0.0)
    held = Etc(host=host)
    first = held.folder(tmp_path)
    (host / "services").write_text("http 8080/tcp\n")
    assert (held.folder(tmp_path) / "services").read_text() == "http 8080/tcp\n" and held.folder(tmp_path) != first


def test_old_copies_go_when_a_new_one_is_made(host, tmp_path):
    old, fresh = tmp_path / "etc.old", tmp_path / "etc.fresh"
    for path in (old, fresh):
        path.mkdir()
    os.utime(old, (1, 1))
    Etc(host=host).folder(tmp_path)
    assert not old.exists() and fresh.exists()


def test_a_copy_of_another_state_that_is_in_use_does_not_go(host, tmp_path):
    used = Etc(("hosts",), host).folder(tmp_path)  # for programs that have the network, say
    os.utime(used, (1, 1))
    assert Etc(("hosts",), host).folder(tmp_path) == used
    Etc(host=host).folder(tmp_path)
    assert used.exists()


def test_of_many_that_make_it_at_once_all_get_the_same_whole_copy(host, tmp_path):
    beside, found = tmp_path / "beside", []
    threads = [threading.Thread(target=lambda: found.append(Etc(host=host).folder(beside))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1
    assert [path.name for path in beside.iterdir()] == [found[0].name]
    assert (found[0] / "ssl" / "certs" / "one.pem").read_text() == "certificate"


def test_what_the_sandbox_binds_itself_has_its_place(host, tmp_path):
    (host / "hosts").write_text("127.0.0.1 localhost\n")
    copy = Etc(("hosts", "resolv.conf"), host).folder(tmp_path)
    assert (copy / "hosts").read_text() == (copy / "resolv.conf").read_text() == ""
