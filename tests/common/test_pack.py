"""Packs and sidecars: no byte leaves unchecked."""

import hashlib
import json
import os
import random
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from pacifica.common import pack as module
from pacifica.common.errors import Damaged
from pacifica.common.pack import PackReader, discard
from pacifica.common.sidecar import Sidecar, sidecar_path
from pacifica.common.spool import receive
from pacifica.common.volume import BLOCK, Volume, keep, new_name

SIZE = 3 * BLOCK + 12_345
DATA = random.Random(11).randbytes(SIZE)


@pytest.fixture
def volume(tmp_path):
    return Volume(tmp_path, 0)


def store(volume, data=DATA, **fields):
    """Archive ``data`` as a pack; return its name."""
    rest = memoryview(data)

    def fill(view):
        nonlocal rest
        count = min(len(view), len(rest))
        view[:count], rest = rest[:count], rest[count:]
        return count

    name = new_name()
    received = receive(fill, volume.spool / name)
    about = {"kind": "file", "job": 5, "owner": "ann", "first_id": 1, "count": 1, "created": 1.5} | fields
    Sidecar(pack=name, size=received.size, blocks=received.blocks, **about).write(volume)
    keep(volume.spool / name, volume.pack_path(name))
    return name


def flip(path, offset, bit):
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))


def read(volume, name, offset=0, size=SIZE):
    with PackReader(volume, name) as reader:
        return b"".join(reader.read(offset, size))


def test_a_sidecar_comes_back_as_it_was(volume):
    sidecar = Sidecar(
        pack=new_name(), kind="bundle", job=7, owner="änn", first_id=10, count=3, size=9, created=1795246992.715929,
        blocks=bytes(range(16)), order=[2, 0, 1], extra={"file": {"name": "x"}},
    )  # fmt: skip
    sidecar.write(volume)
    assert Sidecar.read(volume, sidecar.pack) == sidecar
    fields = json.loads(sidecar_path(volume, sidecar.pack).read_text())
    assert fields["format"] == 1
    assert fields["blocks"] == bytes(range(16)).hex()


def test_a_bit_flipped_anywhere_in_a_sidecar_is_noticed(volume):
    name = store(volume, b"abc")
    path = sidecar_path(volume, name)
    size = path.stat().st_size
    for offset in range(size - 1):  # the last byte is the newline
        flip(path, offset, 1)
        with pytest.raises(Damaged):
            Sidecar.read(volume, name)
        flip(path, offset, 1)
    assert Sidecar.read(volume, name).size == 3


def test_a_bit_turned_anywhere_in_a_sidecar_is_turned_back_and_no_more_than_one(volume):
    name = store(volume, b"abc")
    path, sidecar = sidecar_path(volume, name), Sidecar.read(volume, name)
    size = path.stat().st_size
    for offset in [*range(0, 50, 3), *range(50, size, 23), size - 1]:  # the check, what it is of, the newline
        for bit in (0, 7):
            flip(path, offset, bit)
            assert Sidecar.mended(volume, name) == sidecar, offset
            flip(path, offset, bit)
    for one, other in ((60, 61), (20, 80), (3, 20), (20, 21)):
        flip(path, one, 1), flip(path, other, 2)
        with pytest.raises(Damaged):
            Sidecar.mended(volume, name)
        flip(path, one, 1), flip(path, other, 2)
    assert Sidecar.mended(volume, name) == sidecar
    os.truncate(path, size - 2)
    with pytest.raises(Damaged):
        Sidecar.mended(volume, name)


def test_a_sidecar_of_another_pack_or_cut_short_is_refused(volume):
    one, two = store(volume, b"abc"), store(volume, b"abd")
    sidecar_path(volume, one).write_bytes(sidecar_path(volume, two).read_bytes())
    with pytest.raises(Damaged):
        PackReader(volume, one)
    os.truncate(sidecar_path(volume, two), 20)
    with pytest.raises(Damaged):
        PackReader(volume, two)
    sidecar_path(volume, two).write_bytes(b"[]")
    with pytest.raises(Damaged):
        PackReader(volume, two)


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, SIZE), (0, 0), (SIZE, 0), (1, SIZE - 1), (BLOCK - 1, 2), (BLOCK, BLOCK), (SIZE - 1, 1), (5, 2 * BLOCK + 1)],
)
def test_any_range_is_read_as_it_was_written(volume, offset, size):
    with PackReader(volume, store(volume)) as reader:
        pieces = list(reader.read(offset, size))
    assert b"".join(pieces) == DATA[offset : offset + size]
    assert all(isinstance(piece, bytes) and 0 < len(piece) <= BLOCK for piece in pieces)


def test_an_empty_pack_is_read(volume):
    assert read(volume, store(volume, b""), 0, 0) == b""


def test_neighbouring_small_reads_cost_one_block(volume, monkeypatch):
    name = store(volume)
    reads = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda *args: reads.append(args) or real(*args))
    with PackReader(volume, name) as reader:
        for offset in range(0, BLOCK, 4096):
            assert b"".join(reader.read(offset, 4096)) == DATA[offset : offset + 4096]
    assert len(reads) == 1


def test_a_bit_flipped_in_a_served_block_stops_the_read_before_that_block(volume):
    name = store(volume)
    for offset in (0, 4095, BLOCK - 1, BLOCK, 2 * BLOCK + 77, SIZE - 1):
        for bit in (0, 7):
            flip(volume.pack_path(name), offset, bit)
            with PackReader(volume, name) as reader:
                served = []
                with pytest.raises(Damaged) as caught:
                    served.extend(reader.read(0, SIZE))
            assert caught.value.detail == {"pack": name, "block": offset // BLOCK}
            assert b"".join(served) == DATA[: offset // BLOCK * BLOCK]
            flip(volume.pack_path(name), offset, bit)
    assert read(volume, name) == DATA


def test_the_check_is_what_stops_it(volume, monkeypatch):
    """The test above must fail when the check is taken out."""
    name = store(volume)
    flip(volume.pack_path(name), BLOCK + 5, 3)
    monkeypatch.setattr(module, "xxh3_128_digest", lambda block: next(good))
    good = iter([Sidecar.read(volume, name).blocks[start : start + 16] for start in range(0, 64, 16)])
    assert read(volume, name) != DATA


def test_a_small_member_is_checked_by_its_own_digest(volume):
    name = store(volume)
    hashsum = hashlib.sha256(DATA[700:900]).hexdigest()
    flip(volume.pack_path(name), 100, 1)  # a neighbour's byte, in the same block
    with PackReader(volume, name) as reader:
        assert reader.read_small(700, 200, "sha256", hashsum) == DATA[700:900]
        assert reader.hash(700, 200, "sha256") == hashsum
        for offset in (700, 800, 899):
            flip(volume.pack_path(name), offset, 0)
            with pytest.raises(Damaged):
                reader.read_small(700, 200, "sha256", hashsum)
            flip(volume.pack_path(name), offset, 0)


def test_any_hash_of_hashlib_will_do(volume):
    with PackReader(volume, store(volume)) as reader:
        for hashtype in ("sha1", "md5", "sha512_256", "blake2b"):
            hashsum = hashlib.new(hashtype, DATA).hexdigest()
            assert reader.hash(0, SIZE, hashtype) == hashsum
            assert reader.read_small(0, SIZE, hashtype, hashsum) == DATA


@pytest.mark.parametrize("size", [0, 1, BLOCK, SIZE - 1, SIZE + 1])
def test_a_pack_of_another_length_is_refused(volume, size):
    name = store(volume)
    os.truncate(volume.pack_path(name), size)
    with pytest.raises(Damaged):
        PackReader(volume, name)


def test_a_pack_that_shrinks_while_it_is_open_is_noticed(volume):
    name = store(volume)
    with PackReader(volume, name) as reader:
        os.truncate(volume.pack_path(name), 2 * BLOCK + 5)
        with pytest.raises(Damaged):
            b"".join(reader.read(0, SIZE))
        with pytest.raises(Damaged):
            reader.hash(0, SIZE, "sha1")
        with pytest.raises(Damaged):
            reader.read_small(SIZE - 10, 10, "sha1", hashlib.sha1(b"").hexdigest())


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (0, SIZE + 1), (SIZE + 1, 0), (5, -1)])
def test_bytes_outside_the_pack_are_refused(volume, offset, size):
    with PackReader(volume, store(volume)) as reader, pytest.raises(Damaged):
        list(reader.read(offset, size))


def test_a_missing_pack_is_damage(volume):
    name = store(volume)
    volume.pack_path(name).unlink()
    with pytest.raises(Damaged):
        PackReader(volume, name)
    with pytest.raises(Damaged):
        PackReader(volume, new_name())


def test_a_link_planted_in_the_store_is_refused(volume, tmp_path):
    for part in ("pack", "sidecar", "directory"):
        name = store(volume)
        path = {
            "pack": volume.pack_path(name),
            "sidecar": sidecar_path(volume, name),
            "directory": volume.pack_path(name).parent,
        }[part]
        path.rename(tmp_path / part)
        path.symlink_to(tmp_path / part)
        with pytest.raises(Damaged):
            PackReader(volume, name)


def test_a_pipe_planted_in_the_store_does_not_hold_the_reader(volume):
    name = store(volume)
    volume.pack_path(name).unlink()
    os.mkfifo(volume.pack_path(name))
    with pytest.raises(Damaged):
        PackReader(volume, name)


def open_descriptors(name):
    count = 0
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own descriptor is closed by now
            count += path.readlink().name.startswith(name)
    return count


def test_an_evicted_pack_stays_open_under_its_user(volume, monkeypatch):
    monkeypatch.setattr(module._packs, "capacity", 2)
    names = [store(volume) for _ in range(5)]
    with PackReader(volume, names[0]) as reader:
        for name in names[1:]:
            assert read(volume, name) == DATA
        assert open_descriptors(names[0]) == 1
        assert b"".join(reader.read(0, SIZE)) == DATA
        with PackReader(volume, names[0]) as second:  # opened anew
            assert open_descriptors(names[0]) == 2
            assert b"".join(second.read(0, SIZE)) == DATA
    assert sum(open_descriptors(name) for name in names) == 2


def test_a_closed_reader_reads_no_more_and_closes_once(volume):
    name = store(volume)
    reader = PackReader(volume, name)
    other = PackReader(volume, name)
    reader.close()
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        next(reader.read(0, 1))
    assert b"".join(other.read(0, SIZE)) == DATA
    other.close()
    discard(volume, name)
    assert open_descriptors(name) == 0


def test_discarding_leaves_nothing_and_lets_readers_end(volume):
    name = store(volume)
    with PackReader(volume, name) as reader:
        discard(volume, name)
        assert b"".join(reader.read(0, SIZE)) == DATA
        assert open_descriptors(name) == 1
    assert open_descriptors(name) == 0
    assert list(volume.pack_path(name).parent.iterdir()) == []
    discard(volume, name)
    with pytest.raises(Damaged):
        PackReader(volume, name)


def test_many_threads_share_few_open_packs(volume, monkeypatch):
    monkeypatch.setattr(module._packs, "capacity", 3)
    packs = {store(volume, data): data for data in (DATA[i * 1000 : i * 1000 + 70_000] for i in range(8))}
    wrong = []

    def work(seed):
        chance = random.Random(seed)
        for _ in range(60):
            name = chance.choice(list(packs))
            try:
                if read(volume, name, 3, 60_000) != packs[name][3:60_003]:
                    wrong.append(name)
            except Exception as error:  # noqa: BLE001 - told below
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sum(open_descriptors(name) for name in packs) <= 3
