"""Taking in: what is stored is what was sent, and what is refused is refused by name."""

import gc
import hashlib
import os
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash

from pacifica.datasafe.faults import Refused
from pacifica.datasafe.intake import Limits, take

FILES = {"a.dat": b"data" * 1000, "sub/b.dat": b"\x00" * 70_000, "empty.dat": b"", "a.info": b"info"}
BIG = {"big.dat": bytes(os.urandom(1 << 20)) * 3 + b"tail", "zeros.dat": bytes(9 << 20), "a.info": b"x"}


def code(source: Path, content: Path, limits: Limits = Limits()) -> str:  # noqa: B008
    with pytest.raises(Refused) as caught:
        take(source, content, limits)
    assert caught.value.detail["data"] in (True, False) and caught.value.detail["all"] is False
    return caught.value.faults[0].code


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("files", [FILES, BIG])
def test_every_file_arrives_with_its_digests(
    pack: Callable[..., Path], tmp_path: Path, files: dict[str, bytes], method: int
) -> None:
    deposit = take(pack(files, method=method), tmp_path / "content")
    assert deposit.integrity.sound and {file.name for file in deposit.files} == {*files, "MANIFEST.yaml"}
    for file in deposit.files:
        stored = (tmp_path / "content" / file.name).read_bytes()
        assert stored == files.get(file.name, stored) and file.stored
        assert (file.size, file.crc32) == (len(stored), zlib.crc32(stored))
        assert file.md5 == hashlib.md5(stored, usedforsecurity=False).digest()
        assert file.sha512 == hashlib.sha512(stored).digest()
        blocks = [stored[at : at + (1 << 20)] for at in range(0, len(stored), 1 << 20)]
        assert file.blocks == b"".join(xxhash.xxh3_128_digest(block) for block in blocks)


def test_held_content_is_not_written_again(pack: Callable[..., Path], tmp_path: Path) -> None:
    deposit = take(pack({**FILES, **BIG}), tmp_path / "content", held=lambda taken: taken.name != "a.dat")
    assert [file.name for file in deposit.files if file.stored] == ["a.dat"]
    assert [path.name for path in (tmp_path / "content").rglob("*")] == ["a.dat"]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "..\\x", "C:/x", "a\nb", "x" * 300, "a//b", "/".join("d" * 200)])
def test_a_hostile_name_is_refused_and_nothing_is_written(pack: Callable[..., Path], tmp_path: Path, name: str) -> None:
    assert code(pack({**FILES, name: b"x"}), tmp_path / "content").startswith("name_")
    assert not (tmp_path / "content").exists()


def test_twins_are_refused(pack: Callable[..., Path], tmp_path: Path) -> None:
    assert code(pack({**FILES, "A.DAT": b"x"}), tmp_path / "content") == "name_twin"
    assert code(pack({**FILES, "\u00e4.dat": b"x", "a\u0308.dat": b"y"}), tmp_path / "content") == "name_twin"


def test_both_directions_of_the_manifest_are_checked(pack: Callable[..., Path], tmp_path: Path) -> None:
    listing = zipfile.ZipFile(pack(FILES)).read("MANIFEST.yaml")
    more = {**FILES, "extra.dat": b"x"}
    less = {name: content for name, content in FILES.items() if name != "a.dat"}
    assert code(pack(more, listing), tmp_path / "1") == "file_unlisted"
    assert code(pack(less, listing), tmp_path / "2") == "file_absent"
    assert code(pack(FILES, None), tmp_path / "3") == "manifest_absent"
    assert code(pack(FILES, b"a: ["), tmp_path / "4") == "manifest_bad"
    assert not any((tmp_path / str(number)).exists() for number in range(1, 5))


def test_wrong_checksums_are_told_in_the_words_of_the_original(pack: Callable[..., Path], tmp_path: Path) -> None:
    listing = zipfile.ZipFile(pack(FILES)).read("MANIFEST.yaml")
    with pytest.raises(Refused) as caught:
        take(pack({**FILES, "a.info": b"other"}, listing), tmp_path / "content")
    assert caught.value.status == 422
    assert caught.value.detail["data"] is True and caught.value.detail["all"] is False
    assert caught.value.detail["faults"][0]["code"] == "checksum_mismatch"


def test_an_empty_folder_that_the_manifest_lists_is_passed_over(pack: Callable[..., Path], tmp_path: Path) -> None:
    listing = zipfile.ZipFile(pack(FILES)).read("MANIFEST.yaml").replace(b"    - a.dat", b"    - folder\n    - a.dat")
    assert take(pack({**FILES, "folder/": b""}, listing), tmp_path / "content").integrity.sound


@pytest.mark.parametrize("file", ["a.dat", "big.dat", "zeros.dat"])
def test_a_damaged_member_is_refused(pack: Callable[..., Path], tmp_path: Path, file: str) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        source = pack({**FILES, **BIG}, method=method)
        info = zipfile.ZipFile(source).getinfo(file)
        raw = bytearray(source.read_bytes())
        raw[info.header_offset + 30 + len(file) + info.compress_size // 2] ^= 0x10
        source.write_bytes(raw)
        assert code(source, tmp_path / f"content{method}") == "member_damaged"


@pytest.mark.parametrize("size", [1000, 5 << 20])
def test_a_member_that_inflates_beyond_its_size_is_stopped_there(
    pack: Callable[..., Path], tmp_path: Path, size: int
) -> None:
    source = pack({"bomb.dat": bytes(64 << 20), "a.info": b"x"})
    raw = source.read_bytes()
    source.write_bytes(raw.replace((64 << 20).to_bytes(4, "little"), size.to_bytes(4, "little")))
    assert code(source, tmp_path / "content") == "member_damaged"
    written = [path.stat().st_size for path in (tmp_path / "content").rglob("*") if path.is_file()]
    assert sum(written) <= size


def test_bombs_and_crowds_are_refused_at_once(pack: Callable[..., Path], tmp_path: Path) -> None:
    source = pack({"bomb.dat": bytes(100 << 20), "a.info": b"x"})
    assert code(source, tmp_path / "content") == "ratio"
    assert code(source, tmp_path / "content", Limits(max_bytes=1 << 20)) == "too_many_bytes"
    assert code(pack(FILES), tmp_path / "content", Limits(max_members=3)) == "too_many_members"
    assert not (tmp_path / "content").exists()


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"hello", b"PK\x05\x06", bytes(1000)):
        (tmp_path / "x").write_bytes(content)
        assert code(tmp_path / "x", tmp_path / "content") == "zip_bad"


def test_descriptors_and_threads_are_given_back(pack: Callable[..., Path], tmp_path: Path) -> None:
    good, bad = pack(BIG), pack({**FILES, "../x": b""})
    take(good, tmp_path / "0")
    damaged = pack(BIG, method=zipfile.ZIP_STORED)
    raw = damaged.read_bytes()
    damaged.write_bytes(raw.replace(b"tail", b"tale"))
    gc.collect()
    before, threads, kept = len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), []
    for number in range(1, 4):
        take(good, tmp_path / f"good{number}")
        for source in (bad, damaged):
            with pytest.raises(Refused) as caught:
                take(source, tmp_path / f"bad{number}")
            kept.append(caught.value)  # an error that lives on must not hold the upload open
    assert (len(list(Path("/proc/self/fd").iterdir())), threading.active_count()) == (before, threads)
