"""Carts of a remote archive: waited for, pulled, resumed, checked, and evicted when room is needed."""

import hashlib
import threading
from dataclasses import replace

import pytest

from pacifica.cartd import pull, reading, space, staging, tasks
from pacifica.cartd.administration import fix
from pacifica.cartd.config import ArchiveInterface, Cartd, Settings
from pacifica.cartd.orm import Cart, File, State
from pacifica.cartd.part import room_of
from pacifica.cartd.shelf import Shelf, StagedReader, pack_name
from pacifica.common import orm, remote, state
from pacifica.common.config import Archive, Neighbours, Worker
from pacifica.common.errors import BadConfiguration, IllegalMove
from pacifica.common.pack import _packs
from pacifica.common.volume import Volume
from pacifica.tests.cartd.test_rest import members, told
from pacifica.tests.system.suite import until
from pacifica.tests.system.tape import RemoteArchive

BIG = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(100_000))  # 3.2 MB


@pytest.fixture
def archive():
    with RemoteArchive({1: b"one", 2: BIG, 3: b"", 4: b"four" * 1000}) as made:
        yield made


@pytest.fixture
def cartd_settings(archive):
    return replace(
        Settings(),
        archiveinterface=ArchiveInterface(url=f"{archive.url}/"),
        worker=Worker(retry_seconds=0.0, max_attempts=3),
        archive=Archive(min_free_bytes=0),
        cartd=Cartd(pulls=4),
    )


@pytest.fixture
def work(site, monkeypatch):
    """Do what a worker does when the bell rings for the cart: as often as it takes, or is told."""
    monkeypatch.setattr(tasks, "settings", lambda: site.settings)
    monkeypatch.setattr(tasks, "shelf", lambda: site.shelf)
    monkeypatch.setattr(pull, "WAIT_SECONDS", 0.001)

    def run(uid: str, times: int = 20) -> Cart:
        for _ in range(times):
            cart = site.cart(uid)
            if cart.state != State.STAGING:
                break
            orm.execute("UPDATE cart SET not_before = 0")
            tasks.stage(cart.id, cart.attempt)
        return site.cart(uid)

    return run


both = pytest.mark.parametrize("cartd_tables", ["sqlite", "postgresql"], indirect=True)


def selection(archive, *ids, **changes):
    return [
        {"id": id, "path": f"d/{id}", "hashtype": "sha1", "hashsum": hashlib.sha1(archive.files[id]).hexdigest()}
        | changes
        for id in ids or archive.files
    ]


def expected(archive, *ids):
    return {f"data/d/{id}": archive.files[id] for id in ids or archive.files}


@both
def test_a_cart_of_a_remote_archive_is_pulled_checked_and_served(site, archive, work):
    assert site.post("c", selection(archive)).status_code == 201
    assert told(site.head("c")) == (204, "staging", "")
    assert site.get("c").status_code == 202
    cart = work("c")
    assert (cart.state, cart.bytes_total, cart.pending_bytes) == (State.READY, len(BIG) + 4003, 0)
    assert told(site.head("c")) == (204, "ready", "")
    assert members(site.get("c?filename=data").content) == expected(archive)
    part = site.get("c?filename=data", headers={"Range": "bytes=2000000-2000099"})
    assert part.content == site.get("c?filename=data").content[2_000_000:2_000_100]
    file = site.get("c/files/d/2", headers={"Range": "bytes=5-9"})
    assert (file.status_code, file.content) == (206, BIG[5:10])
    assert [entry["mtime"] for entry in site.get("c/files").json()["files"]] == [1795246992] * 4
    assert archive.busiest <= 4


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("fault", ["500", "stall", "reset", "short"])
def test_a_transfer_that_breaks_is_resumed_where_it_broke(site, archive, work, fault, ranges):
    if fault == "stall":  # else no answer is waited for so long
        impatient = replace(site.settings.archiveinterface, timeout=2.0)
        site.settings = replace(site.settings, archiveinterface=impatient)
    archive.ranges = ranges
    archive.script[2] = [fault, fault]
    site.post("c", selection(archive))
    cart = work("c", times=1)
    assert cart.state == State.READY
    assert members(site.get("c?filename=data").content) == expected(archive)
    asked = [where for id, where in archive.gets if id == 2]
    assert len(asked) == 3
    assert len([id for id, _ in archive.gets if id != 2]) == 2  # an empty file needs no transfer
    if fault != "500":
        assert all(where.startswith("bytes=") for where in asked[1:])
    if ranges and fault in ("short", "reset"):
        assert archive.sent[2] < 1.1 * len(BIG)


@pytest.mark.parametrize("fault", ["wrong", "long"])
def test_wrong_bytes_are_asked_for_once_more_and_never_served(site, archive, work, fault):
    archive.script[2] = [fault]
    site.post("c", selection(archive))
    assert work("c", times=1).state == State.READY
    assert members(site.get("c?filename=data").content) == expected(archive)


def test_bytes_that_stay_wrong_fail_the_cart_in_pacificas_words(site, archive, work):
    archive.always[2] = "wrong"
    site.post("c", selection(archive))
    assert work("c").state == State.ERROR
    text = "Failed to pull file(Failed to pull with error: File hash does not match provided hash)"
    assert told(site.head("c")) == (500, "error", text)
    assert len([id for id, _ in archive.gets if id == 2]) == pull.TRIES_MAX
    home = site.shelf.staged(site.cart("c").id)
    assert not any(home.spool.iterdir())
    row = File.get(File.file_name == 2)
    assert not home.pack_path(pack_name(row.cart, row.id)).exists()
    assert (row.status, row.error) == ("waiting", text)


def test_only_what_failed_is_tried_again(site, archive, work):
    archive.always[2] = "500"
    site.post("c", selection(archive))
    assert work("c", times=1).state == State.STAGING
    assert {row.file_name: row.status for row in File.select()} == {1: "staged", 2: "waiting", 3: "staged", 4: "staged"}
    archive.always.clear()
    before = len(archive.gets)
    assert work("c", times=1).state == State.READY
    assert [id for id, _ in archive.gets[before:]] == [2]


def test_an_archive_that_stays_away_ends_in_an_error(site, archive, work):
    archive.always = dict.fromkeys(archive.files, "500")
    site.post("c", selection(archive, 2))
    cart = work("c")
    assert (cart.state, cart.code, cart.attempt) == (State.ERROR, "archive_unavailable", 3)
    assert told(site.head("c")) == (500, "error", "The archive answers 500.")


def test_an_archive_that_is_down_is_not_asked_for_every_file(site, archive, work, monkeypatch):
    archive.files |= dict.fromkeys(range(100, 200), b"x")
    site.post("c", selection(archive, *range(100, 200)))
    archive.always = dict.fromkeys(archive.files, "500")
    work("c", times=1)
    assert len(archive.gets) < 20 * (pull.RESUMES_MAX + 1)


def test_an_unknown_file_fails_the_cart(site, archive, work):
    site.post("c", [*selection(archive), {"id": 99, "path": "x", "hashtype": "sha1", "hashsum": "0" * 40}])
    assert work("c").state == State.ERROR
    assert told(site.head("c")) == (500, "error", "File 99 is not in the archive.")


def test_the_next_attempt_goes_on_where_the_last_one_stood(site, archive, work, monkeypatch):
    monkeypatch.setattr(pull, "RESUMES_MAX", 0)
    archive.files[2] = BIG * 3
    archive.script[2] = ["reset"]
    site.post("c", selection(archive, 2))
    assert work("c", times=1).state == State.STAGING
    (kept,) = site.shelf.staged(site.cart("c").id).spool.iterdir()
    assert kept.stat().st_size == 4 << 20  # whole blocks of the 4.8 MB that came
    assert work("c", times=1).state == State.READY
    assert archive.gets == [(2, ""), (2, f"bytes={4 << 20}-")]
    assert members(site.get("c?filename=data").content) == expected(archive, 2)
    assert not any(site.shelf.staged(site.cart("c").id).spool.iterdir())


def test_what_an_attempt_left_is_believed_only_as_far_as_the_whole_checks(site, archive, work, monkeypatch):
    monkeypatch.setattr(pull, "RESUMES_MAX", 0)
    archive.files[2] = BIG * 3
    archive.script[2] = ["reset"]
    site.post("c", selection(archive, 2))
    work("c", times=1)
    (kept,) = site.shelf.staged(site.cart("c").id).spool.iterdir()
    kept.write_bytes(bytes(kept.stat().st_size))
    assert work("c", times=1).state == State.READY
    assert archive.gets[1:] == [(2, f"bytes={4 << 20}-"), (2, "")]
    assert members(site.get("c?filename=data").content) == expected(archive, 2)


# ---- tape ----------------------------------------------------------------------------------------------------------


@both
def test_files_on_tape_are_asked_for_once_and_polled_with_growing_pauses(site, archive, work):
    archive.on_tape = {2: 4, 4: 2}
    site.post("c", selection(archive))

    def pauses() -> None:
        """Do one pass, and see that the cart waits then for as long as it should: a slow machine has no part in it."""
        begun = orm.clock()
        cart = work("c", times=1)
        least, most = (at + max((at - cart.created) / 4, staging.POLL_MIN_SECONDS) for at in (begun, orm.clock()))
        assert cart.state == State.STAGING
        assert least <= cart.not_before <= most

    pauses()
    assert {row.file_name: row.status for row in File.select()} == {
        1: "staged",
        2: "staging",
        3: "staged",
        4: "staging",
    }
    orm.execute("UPDATE cart SET created = created - 40")
    pauses()
    for _ in range(4):  # more often than a cart may fail
        cart = work("c", times=1)
    assert cart.state == State.READY
    assert archive.staged == {2: 1, 4: 1}
    assert members(site.get("c?filename=data").content) == expected(archive)


def test_a_file_that_stays_on_tape_fails_the_cart_in_the_end(site, archive, work):
    archive.on_tape = {2: 1 << 30}
    site.post("c", selection(archive))
    assert work("c", times=10).state == State.STAGING
    orm.execute("UPDATE cart SET deadline = 1")
    cart = work("c", times=1)
    assert (cart.state, cart.code) == (State.ERROR, "still_on_tape")


# ---- races and ends ------------------------------------------------------------------------------------------------


def test_a_cart_deleted_while_it_is_staged_leaves_nothing(site, archive, work, monkeypatch):
    archive.slowness = 0.02
    site.post("c", selection(archive))
    done = threading.Event()

    def stage():
        work("c", times=1)
        done.set()

    monkeypatch.setattr(staging, "NOTE_SECONDS", 0.05)
    thread = threading.Thread(target=stage)
    thread.start()
    until(lambda: archive.gets or done.is_set(), 30, "the first transfer")
    assert site.delete("c").status_code == 200
    assert done.wait(30)
    thread.join()
    assert site.cart("c").state == State.DELETED
    assert site.head("c").status_code == 404
    tasks.clear_deleted()
    assert not any(path.is_file() for path in site.volume.carts.rglob("*"))


def test_the_folder_of_a_deleted_cart_is_cleared_when_no_worker_writes_to_it_any_more(site, archive, work):
    site.post("c", selection(archive))
    cart = site.cart("c")
    with state.claim(Cart, cart.id, cart.attempt, seconds=60):
        assert site.delete("c").status_code == 200
        kept = site.shelf.staged(cart.id).spool / "late"
        kept.touch()
        tasks.clear_deleted()
        assert not site.cart("c").cleared
    tasks.clear_deleted()
    assert site.cart("c").cleared
    assert not site.shelf.home(cart.id).exists()


def test_what_an_earlier_attempt_pulled_and_did_not_note_is_taken_as_it_is(site, archive, work):
    site.post("c", selection(archive))
    work("c")
    orm.execute("UPDATE file SET status = 'waiting'")
    orm.execute("UPDATE cart SET state = 'STAGING'")
    (site.shelf.staged(site.cart("c").id).spool / "half").write_bytes(b"half")
    before = len(archive.gets)
    assert work("c").state == State.READY
    assert len(archive.gets) == before
    assert not any(site.shelf.staged(site.cart("c").id).spool.iterdir())


def test_a_damaged_copy_is_never_served_and_fixed_by_pulling_it_again(site, archive, work):
    site.post("c", selection(archive))
    work("c")
    row = File.get(File.file_name == 2)
    copy = site.shelf.staged(row.cart).pack_path(pack_name(row.cart, row.id))
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    with pytest.raises(Exception, match=r"IncompleteRead|Connection broken"):
        site.get("c?filename=data")
    assert site.head("c").status_code == 500
    assert File.get(File.file_name == 2).status == "error"
    fix(site.cart("c"), "root")
    assert site.cart("c").state == State.READY
    assert members(site.get("c?filename=data").content) == expected(archive)
    assert not [key for key in _packs._packs if "carts" in key[0].parts], "copies are not kept open"


# ---- room ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(site, monkeypatch):
    """A disk of a size of our choice, filled by what carts hold."""

    class Disk:
        size = 10_000_000

    made = Disk()

    def free(_) -> int:
        files = (p for p in site.volume.carts.rglob("*") if p.is_file() and p.suffix not in (".json", ".plan"))
        return made.size - sum(path.stat().st_size for path in files)

    monkeypatch.setattr(type(site.shelf), "free", free)
    return made


def filled(site, archive, work, count: int) -> None:
    """Make carts of 3.2 MB each, the first unused for longest and none in use."""
    for number in range(count):
        site.post(f"c{number}", selection(archive, 2))
        assert work(f"c{number}").state == State.READY
    for number in range(count):
        orm.execute("UPDATE cart SET updated = ?, read_until = 0 WHERE cart_uid = ?", 1000.0 + number, f"c{number}")
    reading._touched.clear()


def states(site) -> dict[str, str]:
    return {cart.cart_uid: str(cart.state) for cart in Cart.select().order_by(Cart.id)}


@both
def test_the_cart_unused_for_longest_makes_room(site, archive, work, disk):
    filled(site, archive, work, 3)
    site.get("c0/files/d/2")  # now it is used
    site.post("new", selection(archive, 2))
    assert work("new").state == State.READY
    assert states(site) == {"c0": "READY", "c1": "DELETED", "c2": "READY", "new": "READY"}
    assert site.get("c1").status_code == 404
    assert members(site.get("c0?filename=data").content) == expected(archive, 2)


@pytest.mark.parametrize("why", ["off", "buffer", "read", "leased", "too large"])
def test_nothing_is_evicted_that_may_not_be_or_in_vain(site, archive, work, disk, why):
    filled(site, archive, work, 3)
    told_of = {"off": Cartd(lru_purge=False), "buffer": Cartd(lru_buffer_time=1e10)}.get(why, Cartd())
    site.settings = replace(site.settings, cartd=told_of)
    if why == "read":
        orm.execute("UPDATE cart SET read_until = updated + 1e10")
    if why == "leased":
        orm.execute("UPDATE cart SET lease_until = updated + 1e10 WHERE cart_uid <> 'new'")
    if why == "too large":
        archive.files[9] = BIG * 4
    site.post("new", selection(archive, 9 if why == "too large" else 2))
    cart = work("new")
    assert (cart.state, cart.exception) == (State.ERROR, "Not enough space to download file")
    assert states(site) == {"c0": "READY", "c1": "READY", "c2": "READY", "new": "ERROR"}


def test_what_had_come_of_a_cart_that_failed_makes_room(site, archive, work, disk, monkeypatch):
    monkeypatch.setattr(pull, "RESUMES_MAX", 0)
    archive.files[5] = BIG * 3
    archive.script[5], archive.always[5] = ["reset"], "500"
    site.post("failed", selection(archive, 5))
    assert work("failed").state == State.ERROR
    home = site.shelf.staged(site.cart("failed").id)
    assert [path.stat().st_size for path in home.spool.iterdir()] == [4 << 20]
    archive.script[5], archive.always[5] = [], ""
    site.post("new", selection(archive, 5))
    assert work("new").state == State.READY
    assert states(site) == {"failed": "DELETED", "new": "READY"}
    assert not home.root.exists()


def test_to_ask_what_a_deleted_cart_holds_makes_it_no_folder(site, archive, work):
    archive.always[2] = "500"
    site.post("c", selection(archive, 2))
    home = site.shelf.staged(work("c").id)
    site.delete("c")
    assert room_of(home) == 0
    assert not home.root.exists()


@both
def test_room_promised_to_a_cart_that_is_staged_is_not_given_twice(site, archive, work, disk):
    disk.size = 5_000_000
    archive.on_tape = {2: 1}
    site.post("first", selection(archive, 2))
    work("first", times=1)
    orm.execute("UPDATE cart SET pending_bytes = 3200000")
    site.post("second", selection(archive, 2))
    assert work("second").exception == "Not enough space to download file"
    assert site.cart("first").state == State.STAGING
    assert work("first").state == State.READY


def test_a_download_that_begins_while_it_is_chosen_for_eviction_wins(site, archive, work, disk, monkeypatch):
    filled(site, archive, work, 3)
    idle = space._idle

    def begin(*given):
        found = idle(*given)
        site.get("c0?filename=data", headers={"Range": "bytes=0-1"})
        return found

    monkeypatch.setattr(space, "_idle", begin)
    site.post("new", selection(archive, 2))
    assert work("new").state == State.READY
    assert states(site)["c0"] == "READY"
    assert states(site)["c1"] == "DELETED"


def test_a_cart_deleted_while_somebody_downloads_ends_the_download_undisturbed(site, archive, work):
    site.post("c", selection(archive))
    work("c")
    tar = site.get("c?filename=data").content
    answer = site.get("c?filename=data", stream=True)
    begun = next(answer.iter_content(1000))
    assert site.delete("c").status_code == 200
    assert site.get("c?filename=data").status_code == 404
    assert begun + answer.content == tar or begun + b"".join(answer.iter_content(1 << 20)) == tar
    orm.execute("UPDATE cart SET read_until = 0")
    assert tasks.clear_deleted() == 1
    assert not any(path.is_file() for path in site.volume.carts.rglob("*"))


def test_two_downloads_and_an_eviction_at_once(site, archive, work, disk):
    filled(site, archive, work, 3)
    whole = site.get("c1?filename=data").content
    orm.execute("UPDATE cart SET read_until = 0")
    reading._touched.clear()
    answers = {uid: site.get(f"{uid}?filename=data", stream=True) for uid in ("c0", "c1")}
    begun = {uid: next(answer.iter_content(100_000)) for uid, answer in answers.items()}
    site.post("new", selection(archive, 2))
    assert work("new").state == State.READY
    for uid, answer in answers.items():
        assert begun[uid] + b"".join(answer.iter_content(1 << 20)) == whole
    assert states(site) == {"c0": "READY", "c1": "READY", "c2": "DELETED", "new": "READY"}


def test_a_stale_worker_changes_nothing(site, archive, work, monkeypatch):
    site.post("c", selection(archive))
    cart = site.cart("c")
    orm.execute("UPDATE cart SET attempt = attempt + 1")
    with pytest.raises(IllegalMove):
        staging.stage(cart, site.shelf, tasks.archive(), site.settings.cartd, 0)
    assert {row.status for row in File.select()} == {"waiting"}


def test_a_reader_of_copies_works_as_any_reader(site, archive, work):
    site.post("c", selection(archive))
    work("c")
    row = File.get(File.file_name == 4)
    with StagedReader(site.shelf.staged(row.cart), pack_name(row.cart, row.id)) as reader:
        assert b"".join(reader.read(0, 4000)) == archive.files[4]


@pytest.mark.parametrize("url", ["s3://bucket", "file:///elsewhere", "http://"])
def test_an_archive_that_nobody_can_read_is_refused_at_the_start(tmp_path, url):
    told_so = replace(Settings(), archiveinterface=ArchiveInterface(url=url))
    with pytest.raises(BadConfiguration):
        Shelf.of(told_so, Volume(tmp_path, 0)) and remote.RemoteArchive(url, Neighbours())


def test_copies_lie_where_volume_path_says(tmp_path):
    away = ArchiveInterface(url="http://127.0.0.1:1")
    elsewhere = replace(Settings(), archiveinterface=away, cartd=Cartd(volume_path=tmp_path / "big"))
    assert Shelf.of(elsewhere, Volume(tmp_path / "a", 0)).home(5) == tmp_path / "big" / "carts" / "05" / "5"
    usual = replace(Settings(), archiveinterface=away)
    assert Shelf.of(usual, Volume(tmp_path / "a", 0)).home(5) == tmp_path / "a" / "carts" / "05" / "5"
