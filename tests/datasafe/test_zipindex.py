"""Reading a zip's index: as the standard library does where it is sound, refused where two readers could differ."""

import io
import struct
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacifica.datasafe import zipindex
from pacifica.datasafe.faults import Refused
from pacifica.datasafe.members import Entry


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, streamed: bool = False) -> bytes:
    class Pipe(io.BytesIO):
        """What cannot seek gets data descriptors."""

        def seekable(self) -> bool:
            return not streamed

        def seek(self, *_: int) -> int:
            if streamed:
                raise io.UnsupportedOperation
            return super().seek(*_)

        def tell(self) -> int:
            if streamed:
                raise io.UnsupportedOperation
            return super().tell()

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return pipe.getvalue()


def read(raw: bytes) -> list[Entry]:
    return list(zipindex.read(memoryview(raw), 100))


def code(raw: bytes) -> str:
    with pytest.raises(Refused) as caught:
        read(raw)
    return caught.value.faults[0].code


FILES = {"a.dat": b"a" * 100, "sub/": b"", "sub/ä.dat": bytes(range(256)), "empty": b""}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_sound_archive_reads_as_the_standard_library_reads_it(method: int, streamed: bool) -> None:
    raw = zipped(FILES, method, streamed)
    entries = read(raw)
    known = zipfile.ZipFile(io.BytesIO(raw)).infolist()
    assert [(e.name + "/" * e.folder, e.size, e.packed, e.crc32, e.method) for e in entries] == [
        (i.filename, i.file_size, i.compress_size, i.CRC, i.compress_type) for i in known
    ]


def test_zip64_fields_are_read() -> None:
    pipe = io.BytesIO()
    with zipfile.ZipFile(pipe, "w") as archive, archive.open("a", "w", force_zip64=True) as member:
        member.write(b"hello")
    assert [(e.name, e.size) for e in read(pipe.getvalue())] == [("a", 5)]


def test_every_truncation_is_refused() -> None:
    raw = zipped(FILES)
    for length in range(len(raw)):
        assert code(raw[:length]).startswith("zip_")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_damage_raises_anything_but_a_refusal(data: st.DataObject) -> None:
    raw = bytearray(zipped(FILES, streamed=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        entries = read(bytes(raw))
    except Refused:
        return
    assert all(0 <= e.start <= e.start + e.packed <= len(raw) for e in entries)


def central(change: Callable[[bytearray, int], None], files: dict[str, bytes] | None = None) -> bytes:
    """Change the first record of the central directory."""
    raw = bytearray(zipped(files or {"a": b"hello", "b": b"world"}, zipfile.ZIP_STORED))
    change(raw, raw.index(b"PK\x01\x02"))
    return bytes(raw)


def put(at: int, form: str, value: int, local: int | None = None) -> Callable[[bytearray, int], None]:
    def change(raw: bytearray, record: int) -> None:
        struct.pack_into(form, raw, record + at, value)
        if local is not None:
            struct.pack_into(form, raw, local, value)

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (put(8, "<H", 1, 6), "zip_encrypted"), (put(10, "<H", 12, 8), "zip_method"), (put(10, "<H", 8), "zip_mismatch"),
        (put(16, "<L", 7), "zip_mismatch"), (put(24, "<L", 4), "zip_mismatch"), (put(20, "<L", 6), "zip_overlap"),
        (put(42, "<L", 36), "zip_gap"), (put(42, "<L", 1 << 30), "zip_gap"), (put(46, "<B", 99), "zip_mismatch"),
        (put(38, "<L", 0o120777 << 16), "zip_special"), (put(38, "<L", 0o020666 << 16), "zip_special"),
        (put(34, "<H", 3), "zip_bad"), (put(38, "<L", 0x10), "zip_special"),
    ],
)  # fmt: skip
def test_a_lying_directory_is_refused(change: Callable[[bytearray, int], None], expected: str) -> None:
    assert code(central(change)) == expected


def test_overlapping_entries_are_refused() -> None:
    raw = bytearray(zipped({"a": b"x" * 50, "b": b"x" * 50}, zipfile.ZIP_STORED))
    second = raw.rindex(b"PK\x01\x02")
    struct.pack_into("<L", raw, second + 42, 0)  # both records point to the first member
    assert code(bytes(raw)) in ("zip_overlap", "zip_gap")


def test_bytes_that_belong_to_nothing_are_refused() -> None:
    raw = zipped(FILES)
    assert code(b"#!/bin/sh\n" + raw) == "zip_gap"
    assert code(raw + b"x") == "zip_bad"
    comment = bytearray(raw)
    comment[-2:] = struct.pack("<H", 22)
    assert code(bytes(comment) + raw[-22:]) == "zip_ambiguous"


def test_too_many_members_are_refused_before_the_records_are_read() -> None:
    assert code(zipped({f"f{at}": b"" for at in range(101)})) == "too_many_members"


def test_names_are_utf8_or_code_page_437() -> None:
    raw = zipped({"x.dat": b""}, zipfile.ZIP_STORED)
    assert read(raw.replace(b"x.dat", b"\x84.dat"))[0].name == "ä.dat"
    assert read(raw.replace(b"x.dat", "ä".encode() + b"dat"))[0].name == "ädat"


def test_an_archive_of_nothing_is_read_and_one_of_noise_is_refused() -> None:
    nothing = b"PK\x05\x06" + bytes(18)
    assert not len(zipindex.read(memoryview(nothing), 10))
    with pytest.raises(Refused):
        zipindex.read(memoryview(b"noise" + nothing[:16] + b"\x05\0\0\0\0\0"), 10)
