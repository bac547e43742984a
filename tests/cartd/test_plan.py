"""The plan: what it knows of a download, how it is kept, and how its members are to be fetched."""

import hashlib
import random

import pytest

from pacifica.cartd import run
from pacifica.cartd.header import BLOCK, END, header, padding_size
from pacifica.cartd.plan import Member, Plan, build
from pacifica.cartd.run import Kind
from pacifica.cartd.stream import stream
from pacifica.cartd.table import BadPlan
from pacifica.common.errors import Damaged


class Memory:
    """A pack in memory that counts what is read."""

    def __init__(self, content: bytes) -> None:
        self.content, self.taken = content, 0

    def read(self, offset, size):
        for position in range(offset, offset + size, 1 << 20):
            piece = self.content[position : min(position + (1 << 20), offset + size)]
            self.taken += len(piece)
            yield piece

    def read_small(self, offset, size, hashtype, hashsum):
        data = self.content[offset : offset + size]
        assert hashlib.new(hashtype, data).hexdigest() == hashsum
        return data

    def close(self):
        pass


def bundle(count, size=100, own=lambda path, size, mtime: header(path, size, mtime)):
    """Return a pack whose tar has ``count`` members of ``size`` bytes, and its members."""
    content, members = bytearray(), []
    for number in range(count):
        path, data = f"sub/f{number:06d}", bytes([number & 255]) * size
        head = own(b"data/" + path.encode(), size, 1000 + number)
        members.append(
            Member(
                path,
                size,
                1000.75 + number,
                "p",
                len(content) + len(head),
                len(head),
                5 + number,
                "sha1",
                hashlib.sha1(data).hexdigest(),
            )
        )
        content += head + data + bytes(padding_size(size))
    return Memory(bytes(content) + END), members


def joe(path, size, mtime):
    """The header of a tar program that says whose file it was."""
    head = header(path, size, mtime)
    head = head[:108] + b"0001750\0" + head[116:]
    return head[:148] + b"%06o\0 " % (sum(head) - sum(head[148:156]) + 256) + head[156:]


def kinds(plan):
    return [Kind(kind) for kind in plan.table.kinds]


def test_a_plan_gives_back_its_members_in_whole_seconds(tmp_path):
    members = [
        Member("a/ünï", 5, -1.5, "one", 512, 512, 2**62, "sha1", "ab" * 20),
        Member("b", 2**40, 0.0, "two", 0, 0, 7, "sha512", "cd" * 64),
        Member("c" * 200 + "/d", 0, 9.9, "one", 4096, 1536, -3, "md5", "00" * 16),
    ]
    plan = build(iter(members), "folder", tmp_path / "plan")
    assert list(plan.members()) == [member._replace(mtime=member.mtime // 1) for member in members]
    assert len(plan) == 3 and plan.folder == "folder"
    heads = [len(header(b"folder/" + m.path.encode(), m.size, int(m.mtime // 1))) for m in members]
    assert plan.size == sum(heads) + sum(m.size + padding_size(m.size) for m in members) + 1024
    again = Plan.open(tmp_path / "plan")
    assert (again.size, again.etag, list(again.members())) == (plan.size, plan.etag, list(plan.members()))
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]


def test_a_plan_is_found_by_path(tmp_path):
    _, members = bundle(300)
    tricky = [
        member._replace(path="sub/tricky7", hashsum=b"\0sub/f000007\0".ljust(20, b"\0").hex()) for member in members[:1]
    ]
    tricky.append(members[1]._replace(path="x/sub/f000008"))
    plan = build(tricky + members, "data", tmp_path / "plan")
    for member in (*tricky, members[7], members[8], members[299]):
        assert plan.member(plan.find(member.path)) == member._replace(mtime=member.mtime // 1)
    for path in ("", "f000007", "sub/", "sub/f00000", "data/sub", "\0", "sub/f000007\0", "\ud800"):
        assert plan.find(path) is None


def test_an_empty_plan_is_an_empty_tar(tmp_path):
    plan = build([], "data", tmp_path / "plan")
    assert plan.size == 1024 and len(plan) == 0 and plan.find("x") is None
    assert b"".join(stream(plan, lambda name: pytest.fail(name))) == END


def test_the_etag_is_of_the_bytes_and_not_of_where_they_lie(tmp_path):
    _, members = bundle(3)
    etag = build(members, "data", tmp_path / "plan").etag
    assert len(etag) == 64 and int(etag, 16)
    moved = [member._replace(pack="q", offset=member.offset + 512, header=0) for member in members]
    assert build(moved, "data", tmp_path / "plan").etag == etag
    first = members[0]
    changes = [
        {"path": "sub/other"},
        {"size": 101},
        {"mtime": 1.0},
        {"id": 99},
        {"hashsum": "00" * 20},
        {"hashtype": "sha256"},
    ]
    others = {build([first._replace(**change), *members[1:]], "data", tmp_path / "plan").etag for change in changes}
    others |= {build(members, "datb", tmp_path / "plan").etag, build(members[::-1], "data", tmp_path / "plan").etag}
    assert len(others | {etag}) == len(changes) + 3


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a/..", "a\0b"])
def test_an_unsafe_name_makes_no_plan(tmp_path, path):
    _, members = bundle(1)
    with pytest.raises(ValueError):
        build([members[0]._replace(path=path)], "data", tmp_path / "plan")
    with pytest.raises(ValueError):
        build(members, path, tmp_path / "plan")
    with pytest.raises(ValueError):
        build(members, "a/b", tmp_path / "plan")
    assert list(tmp_path.iterdir()) == []


def test_a_torn_or_changed_plan_is_refused(tmp_path):
    _, members = bundle(40)
    target = tmp_path / "plan"
    build(members, "data", target)
    whole = target.read_bytes()
    for position in [*range(96), *range(96, len(whole), 131), len(whole) - 1]:
        changed = bytearray(whole)
        changed[position] ^= 4
        target.write_bytes(changed)
        with pytest.raises(BadPlan):
            Plan.open(target)
    for length in (0, 1, 95, 96, 97, len(whole) // 2, len(whole) - 1):
        target.write_bytes(whole[:length])
        with pytest.raises(BadPlan):
            Plan.open(target)
    target.write_bytes(whole + b"\0")
    with pytest.raises(BadPlan):
        Plan.open(target)
    target.unlink()
    with pytest.raises(FileNotFoundError):
        Plan.open(target)


def test_a_plan_in_use_outlives_its_file(tmp_path):
    pack, members = bundle(40)
    plan = build(members, "data", tmp_path / "plan")
    whole = b"".join(stream(plan, lambda name: pack))
    (tmp_path / "plan").unlink()
    build(members[:2], "data", tmp_path / "plan")
    assert b"".join(stream(plan, lambda name: pack)) == whole


def test_unchanged_members_are_passed_through_and_renamed_ones_swept(tmp_path):
    pack, members = bundle(64, 1000)
    same = build(members, "data", tmp_path / "same", lambda name: pack)
    assert kinds(same) == [Kind.VERBATIM]
    assert b"".join(stream(same, lambda name: pack)) == pack.content
    blind = build(members, "data", tmp_path / "blind")
    assert kinds(blind) == [Kind.SWEEP]
    assert b"".join(stream(blind, lambda name: pack)) == pack.content
    assert blind.etag == same.etag  # a look that finds the very headers that we would make changes nothing
    assert kinds(build(members, "other", tmp_path / "other", lambda name: pack)) == [Kind.SWEEP]


def test_a_renamed_cart_is_found_out_by_its_first_headers(tmp_path):
    pack, members = bundle(1000, 8192)
    build(members, "other", tmp_path / "plan", lambda name: pack)
    assert pack.taken <= 1 << 20


def test_a_cart_of_every_second_member_is_found_out_by_its_first_headers(tmp_path):
    pack, members = bundle(1000, 8192)
    plan = build(members[::2], "data", tmp_path / "plan", lambda name: pack)
    assert pack.taken <= 1 << 20 and kinds(plan) == [Kind.SWEEP]


def test_one_changed_name_does_not_cost_the_others_their_passage(tmp_path):
    pack, members = bundle(100)
    members[50] = members[50]._replace(path="sub/g000050")
    members[90] = members[90]._replace(mtime=4.0)
    plan = build(members, "data", tmp_path / "plan", lambda name: pack)
    assert kinds(plan) == [Kind.VERBATIM, Kind.SMALL, Kind.VERBATIM, Kind.SMALL]
    assert list(plan.table.firsts) == [0, 50, 51, 90, 100]
    swept = build(members, "data", tmp_path / "swept")
    assert b"".join(stream(plan, lambda name: pack)) == b"".join(stream(swept, lambda name: pack))


def test_an_omitted_member_leaves_no_hole(tmp_path):
    pack, members = bundle(100)
    del members[50]
    plan = build(members, "data", tmp_path / "plan", lambda name: pack)
    assert kinds(plan) == [Kind.VERBATIM, Kind.VERBATIM]
    at = 50 * 1024
    assert b"".join(stream(plan, lambda name: pack)) == pack.content[:at] + pack.content[at + 1024 :]


def test_a_harmless_foreign_header_is_adopted_and_told_by_the_etag(tmp_path):
    pack, members = bundle(40, own=joe)
    adopted = build(members, "data", tmp_path / "a", lambda name: pack)
    made = build(members, "data", tmp_path / "b")
    assert kinds(adopted) == [Kind.VERBATIM]
    assert b"".join(stream(adopted, lambda name: pack)) == pack.content
    assert b"".join(stream(made, lambda name: pack)) != pack.content
    assert adopted.etag != made.etag and adopted.size == made.size
    assert build(members, "data", tmp_path / "c", lambda name: pack).etag == adopted.etag


def test_padding_that_is_not_zero_is_not_passed_on(tmp_path):
    pack, members = bundle(40)
    end = members[20].offset + members[20].size
    pack.content = pack.content[:end] + b"secret" + pack.content[end + 6 :]
    plan = build(members, "data", tmp_path / "plan", lambda name: pack)
    assert b"secret" not in b"".join(stream(plan, lambda name: pack))


def test_a_pack_that_is_damaged_when_the_plan_is_made_is_left_for_the_download_to_report(tmp_path):
    class Bad(Memory):
        def read(self, offset, size):
            yield next(super().read(offset, BLOCK))
            raise Damaged(pack="p")

    _, members = bundle(40)
    assert kinds(build(members, "data", tmp_path / "plan", lambda name: Bad(bytes(1 << 20)))) != [Kind.VERBATIM]

    def gone(name):
        raise Damaged(pack=name)

    assert len(build(members, "data", tmp_path / "plan", gone)) == 40


def test_a_ledger_that_lies_about_headers_costs_the_passage_only(tmp_path):
    pack, members = bundle(100, 20_000)
    for at, lie in ((20, 513), (40, 0), (60, 1 << 20), (80, 1 << 40)):
        members[at] = members[at]._replace(header=min(lie, members[at].offset))
    plan = build(members, "data", tmp_path / "plan", lambda name: pack)
    assert [plan.table.run_of(at) for at in (20, 40, 60, 80)] == [1, 3, 5, 7]
    assert b"".join(stream(plan, lambda name: pack)) == pack.content


def test_a_look_at_headers_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "LOOK_MAX", 50 * 1024)
    pack, members = bundle(100)
    assert kinds(build(members, "data", tmp_path / "plan", lambda name: pack)) == [Kind.SWEEP]
    assert pack.taken == 0


def test_scattered_small_members_are_fetched_alone_and_neighbours_by_their_blocks(tmp_path):
    def kinds_of(*places):
        members = [
            Member(f"f{number}", size, 0, pack, offset, 512, number, "md5", "00" * 16)
            for number, (pack, offset, size) in enumerate(places)
        ]
        return kinds(build(members, "data", tmp_path / "plan"))

    mebi = 1 << 20
    assert kinds_of(("p", 512, 4096), ("p", 9 * mebi, 4096), ("q", 512, 4096)) == [Kind.SMALL]
    assert kinds_of(*[("p", 512 + 5120 * number, 4096) for number in range(40)]) == [Kind.SWEEP]
    assert kinds_of(*[("p", 512 + 10240 * number, 4096) for number in range(40)]) == [Kind.SWEEP]  # every second one
    assert kinds_of(*[("p", 512 + 5120 * number, 4096) for number in reversed(range(40))]) == [Kind.SMALL]
    assert kinds_of(("p", 512, mebi), ("p", 3 * mebi, 4096)) == [Kind.SWEEP, Kind.SMALL]
    assert kinds_of(("p", 512, 4096), ("p", 512, 4096)) == [Kind.SMALL]  # one file under two names
    members = [Member("f", 4096, 0, "file pack", 0, 0, 1, "md5", "00" * 16)]
    assert kinds(build(members, "data", tmp_path / "plan")) == [Kind.SWEEP]


def test_any_range_of_100_000_members_begins_within_milliseconds(tmp_path):
    content = bytes(4096)
    digest = hashlib.sha1(content).hexdigest()
    members = (
        Member(f"folder{n // 1000}/file{n:06d}", 4096, n, "p", 512 + 4608 * n, 512, n, "sha1", digest)
        for n in range(100_000)
    )

    class Zeros(Memory):
        def read(self, offset, size):
            while size:
                some = min(size, 1 << 20)
                yield bytes(some)
                size -= some

    target = tmp_path / "plan"
    plan = build(members, "other", target)
    assert plan.size == 100_000 * 4608 + 1024
    assert target.stat().st_size < 140 * 100_000
    for start in random.sample(range(plan.size), 30):
        assert next(stream(Plan.open(target), lambda name: Zeros(b""), start))


def test_a_failed_write_leaves_the_old_plan(tmp_path, monkeypatch):
    _, members = bundle(3)
    target = tmp_path / "plan"
    etag = build(members, "data", target).etag

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError):
        build(members[:1], "data", target)
    assert list(tmp_path.iterdir()) == [target] and Plan.open(target).etag == etag
