"""The header of every member: what it says, how long it is, and that everybody's tar reads it."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pacifica.cartd.header import BLOCK, END, NUMBER_MAX, harmless, header, header_size, padding_size

PART = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=70).filter(
    lambda part: part not in (".", "..")
)
PATHS = st.lists(PART, min_size=1, max_size=6).map("/".join)
ASCII_PATHS = st.lists(st.text("abcXYZ019 ._-", min_size=1, max_size=90), min_size=1, max_size=5).map("/".join)
SIZES = st.sampled_from([0, 1, 511, 512, 4096, NUMBER_MAX]) | st.integers(0, NUMBER_MAX)
MTIMES = st.sampled_from([0, 1_790_000_000, -1, NUMBER_MAX + 1]) | st.integers(-(2**40), 2**40)

AWKWARD = [
    ("d/plain", 3, 1_790_000_000),
    ("d/größe/дані/文件.dat", 5, 7),
    ("d/" + "n" * 98, 6, 8),
    ("d/" + "p" * 120 + "/" + "n" * 100, 7, 9),
    ("d/" + "p" * 120 + "/" + "n" * 101, 8, 10),
    ("d/" + "/".join(["ü" * 60] * 8), 512, 11),
    ("d/" + "/".join(["deep"] * 70), 0, 12),
    ("d/last", 513, 13),
]


def tar_of(members: list[tuple[str, int, int]]) -> bytes:
    pieces = [
        header(name.encode(), size, mtime) + b"x" * size + bytes(padding_size(size)) for name, size, mtime in members
    ]
    return b"".join(pieces) + END


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"LC_ALL": "C.UTF-8", "TZ": "UTC"},
    )
    assert done.stderr == ""
    return done.stdout


@settings(max_examples=200, deadline=None)
@given(PATHS | ASCII_PATHS, SIZES | st.integers(NUMBER_MAX, 2**60), MTIMES)
@example("ü" * 50, 1, 1)
@example("a" * 155 + "/" + "b" * 100, 1, 1)
@example("a" * 156 + "/" + "b" * 100, 1, 1)
@example("a" * 4000, NUMBER_MAX + 1, -1)
def test_tarfile_reads_back_what_was_written(name, size, mtime):
    head = header(name.encode(), size, mtime)
    assert len(head) % BLOCK == 0
    assert len(head) == header_size(name.encode(), size, mtime)
    with tarfile.open(fileobj=io.BytesIO(head + END), mode="r|", encoding="utf-8") as tar:
        member = tar.next()
    assert (member.name, member.size, member.mtime, member.mode) == (name, size, mtime, 0o644)
    assert member.isreg() and member.type == tarfile.REGTYPE
    assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")


@settings(max_examples=100, deadline=None)
@given(
    PATHS.filter(lambda name: not name.isascii() and len(name) < 100) | st.text("ab/", max_size=1).map("d/x{}".format),
    SIZES,
    st.integers(0, NUMBER_MAX),
)
def test_it_is_the_header_of_pythons_tarfile_byte_for_byte_so_that_uploaded_bundles_pass_through(name, size, mtime):
    name = name.rstrip("/")
    member = tarfile.TarInfo(name)
    member.size, member.mtime = size, mtime
    assert header(name.encode(), size, mtime) == member.tobuf(tarfile.PAX_FORMAT, "utf-8")


@pytest.mark.parametrize("length", range(85, 110))
def test_the_length_of_a_pax_record_counts_its_own_digits(length):
    name = "ü" + "x" * (length - 2)
    with tarfile.open(fileobj=io.BytesIO(tar_of([(name, 1, 1)])), mode="r|") as tar:
        assert tar.getnames() == [name]


def test_gnu_tar_bsdtar_7z_and_tarfile_read_awkward_members_without_complaint(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_of(AWKWARD))
    names = [name for name, _, _ in AWKWARD]
    assert run("tar", "--quoting-style=literal", "-tf", "a.tar", cwd=tmp_path).splitlines() == names
    assert run("bsdtar", "-tf", "a.tar", cwd=tmp_path).splitlines() == names
    listed = [
        line[7:] for line in run("7z", "l", "-slt", "-ba", "a.tar", cwd=tmp_path).splitlines() if line[:7] == "Path = "
    ]
    assert listed == names
    for number, command in enumerate((["tar", "-xf"], ["bsdtar", "-xf"], ["7z", "x", "-y", "-bso0"])):
        folder = tmp_path / str(number)
        folder.mkdir()
        run(*command, "../a.tar", cwd=folder)
        for name, size, mtime in AWKWARD:
            assert (folder / name).read_bytes() == b"x" * size
            assert (folder / name).stat().st_mtime == mtime
    with tarfile.open(tmp_path / "a.tar", "r|") as tar:
        assert [(m.name, m.size, m.mtime) for m in tar] == AWKWARD


def test_times_that_octal_digits_cannot_say_are_read_by_all(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_of([("d/old", 1, -5), ("d/far", 2, NUMBER_MAX + 1)]))
    for program in ("tar", "bsdtar"):
        listed = run(program, "-tvf", "a.tar", cwd=tmp_path)
        assert "1969" in listed and "2242" in listed
    listed = run("7z", "l", "-slt", "-ba", "a.tar", cwd=tmp_path)
    assert "Modified = 1969-12-31 23:59:55" in listed and "Modified = 2242" in listed


def test_a_member_above_8_gib_is_read_by_all(tmp_path):
    size = 9 << 30
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(header(b"d/big", size, 5))
        file.seek(size, os.SEEK_CUR)  # a hole
        file.write(tar_of([("d/after", 1, 6)]))
    assert [line.split()[2] for line in run("tar", "-tvf", "a.tar", cwd=tmp_path).splitlines()] == [str(size), "1"]
    assert [line.split()[4] for line in run("bsdtar", "-tvf", "a.tar", cwd=tmp_path).splitlines()] == [str(size), "1"]
    listed = run("7z", "l", "-slt", "-ba", "a.tar", cwd=tmp_path).splitlines()
    assert [line for line in listed if line.startswith("Size")] == [f"Size = {size}", "Size = 1"]
    with tarfile.open(tmp_path / "a.tar", "r:") as tar:
        assert [(m.name, m.size) for m in tar] == [("d/big", size), ("d/after", 1)]


def test_another_tar_program_s_header_is_harmless_when_only_owner_and_permissions_differ():
    own = header(b"data/a", 5, 77)
    assert harmless(own, own)
    for format_ in (tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        assert harmless(foreign(format_, mode=0o664, uid=1000, gid=100, uname="joe", gname="users"), own)
        assert not harmless(foreign(format_, mode=0o4755), own)
        assert not harmless(foreign(format_, mode=0o2755), own)
        assert not harmless(foreign(format_, mode=0o000), own)
        assert not harmless(foreign(format_, name="data/b"), own)
        assert not harmless(foreign(format_, size=6), own)
        assert not harmless(foreign(format_, mtime=78), own)
        assert not harmless(foreign(format_, type=tarfile.SYMTYPE, linkname="/etc/passwd"), own)
        assert not harmless(foreign(format_, linkname="x"), own)
        assert not harmless(foreign(format_, uname="\x1b[2J"), own)
        assert not harmless(foreign(format_, gname="größe"), own)


def test_a_damaged_or_foreign_header_is_not_harmless():
    own, source = header(b"data/a", 5, 77), bytearray(foreign(tarfile.GNU_FORMAT, uid=3))
    for position in range(BLOCK):
        for bit in (1, 0x80):
            flipped = source.copy()
            flipped[position] ^= bit
            assert not harmless(bytes(flipped), own), position
    assert not harmless(b"", own)
    assert not harmless(own * 3, own)
    for mode in (b"not oct\0", b"+00644 \0", b"0_0644\0\0", bytes(8)):
        assert not harmless(resealed(own[:100] + mode + own[108:]), own)
    assert harmless(resealed(own[:100] + b"000664 \0" + own[108:]), own)  # as bsdtar has it


def test_a_prefix_is_only_one_in_a_posix_header():
    name = b"data/" + b"p" * 100 + b"/n"
    own = header(name, 5, 77)
    assert not harmless(resealed(own[:257] + b"ustar  \0" + own[265:]), own)


def resealed(head):
    return head[:148] + b"%06o\0 " % (sum(head) - sum(head[148:156]) + 256) + head[156:]


def foreign(format_, **fields):
    member = tarfile.TarInfo("data/a")
    member.size, member.mtime = 5, 77
    for field, value in fields.items():
        setattr(member, field, value)
    return member.tobuf(format_, "utf-8")
