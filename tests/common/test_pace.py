"""Who is quick gets whole blocks, who is slow holds little; and to both no byte goes unchecked."""

import random
import tracemalloc
from types import SimpleNamespace

import pytest

from pacifica.common import pace as module
from pacifica.common.errors import Damaged
from pacifica.common.pace import PART, SLOW_SECONDS, WHOLE_MAX, Pace
from pacifica.common.pack import PackReader
from pacifica.common.volume import BLOCK, Volume
from pacifica.tests.common.test_pack import flip, store

TRIAL = 2 * BLOCK
SIZE = TRIAL + 8 * BLOCK + 12_345
DATA = random.Random(12).randbytes(SIZE)


@pytest.fixture
def clock(monkeypatch):
    """What the time is, for the test to set; the trial is shorter than in earnest."""
    times = [0.0]
    monkeypatch.setattr(module, "TRIAL", TRIAL)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: times[0]))  # not that of other threads
    return times


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    return Volume(tmp_path_factory.mktemp("pace"), 0)


@pytest.fixture(scope="module")
def name(volume):
    return store(volume, DATA)


def taken(reader, clock, seconds, offset=0, size=SIZE):
    """Take what ``reader`` gives, each piece in ``seconds(position)``; return the pieces' sizes."""
    got = []
    for piece in reader.read(offset, size):
        assert piece == DATA[offset : offset + len(piece)]
        offset += len(piece)
        clock[0] += seconds(offset)
        got.append(len(piece))
    return got


def test_a_download_gets_whole_blocks_once_it_has_proven_quick(volume, name, clock):
    with PackReader(volume, name, Pace()) as reader:
        sizes = taken(reader, clock, lambda _: 0.0)
    assert sizes == [PART] * (TRIAL // PART) + [BLOCK] * 8 + [12_345]


def test_who_becomes_slow_gets_parts_again(volume, name, clock):
    halt = TRIAL + 2 * BLOCK
    with PackReader(volume, name, Pace()) as reader:
        sizes = taken(reader, clock, lambda offset: 2 * SLOW_SECONDS * (offset == halt))
    assert sizes == ([PART] * (TRIAL // PART) + [BLOCK] * 2) * 2 + [BLOCK] * 2 + [12_345]


def test_the_pace_goes_on_from_pack_to_pack(volume, name, clock):
    pace = Pace()
    with PackReader(volume, name, pace) as reader:
        taken(reader, clock, lambda _: 0.0, 0, TRIAL)
    with PackReader(volume, name, pace) as reader:
        assert taken(reader, clock, lambda _: 0.0, 0, BLOCK) == [BLOCK]


def test_the_downloads_of_a_process_hold_few_whole_blocks_together(volume, name, clock):
    readers = [PackReader(volume, name, Pace()) for _ in range(WHOLE_MAX + 2)]
    for reader in readers:
        taken(reader, clock, lambda _: 0.0, 0, TRIAL)
    pieces = [reader.read(TRIAL, 2 * BLOCK) for reader in readers]
    assert [len(next(each)) for each in pieces] == [BLOCK] * WHOLE_MAX + [PART] * 2
    pieces[0].close()  # its client goes away
    assert len(next(pieces[-1])) == BLOCK - PART  # the rest of what it has begun
    assert len(next(pieces[1])) == BLOCK
    for each, reader in zip(pieces, readers, strict=True):
        each.close()
        reader.close()
    assert [module._whole.acquire(blocking=False) for _ in range(WHOLE_MAX)] == [True] * WHOLE_MAX
    for _ in range(WHOLE_MAX):
        module._whole.release()


def test_a_bit_flipped_after_its_block_was_checked_stops_the_read_before_that_part(volume):
    own = store(volume, DATA[: 2 * BLOCK])
    with PackReader(volume, own, Pace()) as reader:
        pieces = reader.read(0, 2 * BLOCK)
        assert next(pieces) == DATA[:PART]
        flip(volume.pack_path(own), PART + 7, 3)
        with pytest.raises(Damaged) as caught:
            next(pieces)
    assert caught.value.detail == {"pack": own, "block": 0}


def test_slow_readers_hold_a_part_of_a_block_each(volume, name):
    readers = [PackReader(volume, name, Pace()) for _ in range(20)]
    tracemalloc.start()
    pieces = [reader.read(number * 1000, SIZE - 50_000) for number, reader in enumerate(readers)]
    for each in pieces:
        next(each)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    for each, reader in zip(pieces, readers, strict=True):
        each.close()
        reader.close()
    assert held < len(readers) * 2.2 * PART  # the part, and what is given of it
