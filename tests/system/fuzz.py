"""Bundles bent at random: by bytes, by blocks, by fields of headers that are mended, by words of their metadata."""

import random

from pacifica.tests.ingest.samples import BLOCK, END, GNU, POSIX, V7, header, long_name, mended, padded, pax

MOST_BYTES = 64 << 10
FIELDS = [(0, 100), (100, 108), (124, 136), (136, 148), (148, 156), (156, 157), (157, 257), (257, 265), (345, 500)]
NUMBERS = [
    b"0",
    b"7" * 11,
    b"-1",
    b" 12 \0",
    b"\x80" + bytes(11),
    b"\xff" * 12,
    b"00000001000\0",
    b"8\0",
    b"0x10\0",
    b"",
]
NAMES = [
    b"data/x",
    b"metadata.txt",
    b"data",
    b"data/",
    b"/data/x",
    b"data/../x",
    b"./data/x",
    b"data//x",
    b"d\xff",
    b"\0x",
]
KEYS = [
    b"path",
    b"size",
    b"mtime",
    b"linkpath",
    b"GNU.sparse.realsize",
    b"SCHILY.xattr.user.a",
    b"hdrcharset",
    b"comment",
]
WORDS = [
    b"null",
    b"{",
    b"]",
    b"-1",
    b"1e999",
    b'"\\ud800"',
    b'"../x"',
    b'"data/a.txt"',
    b"\xff",
    b'"Files"',
    b"NaN",
    b"true",
]


def mutated(base: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Return ``base`` after one to five mutations, some of which borrow from ``others``."""
    data = bytearray(base)
    for _ in range(chance.randint(1, 5)):
        if not data:
            break
        at = chance.randrange(len(data))
        chance.choice(MUTATIONS)(data, at - at % BLOCK, at, chance, others)
    return bytes(data[:MOST_BYTES])


def _byte(data, block, at, chance, others):  # type: ignore[no-untyped-def]
    data[at] = chance.choice((0, 255, chance.randrange(256), data[at] ^ 1 << chance.randrange(8)))
    if chance.random() < 0.7:
        _mend(data, block)


def _field(data, block, at, chance, others):  # type: ignore[no-untyped-def]
    start, end = chance.choice(FIELDS)
    word = chance.choice(
        [*NUMBERS, *NAMES, GNU, POSIX, V7, bytes([chance.randrange(256)]), chance.randbytes(end - start)]
    )
    if block + BLOCK <= len(data):
        data[block + start : block + end] = word[: end - start].ljust(end - start, b"\0")
        _mend(data, block)


def _blocks(data, block, at, chance, others):  # type: ignore[no-untyped-def]
    end = block + BLOCK * chance.randint(1, 3)
    act = chance.randrange(5)
    if act == 0:
        del data[block:end]
    elif act == 1:
        data[block:block] = data[block:end]
    elif act == 2:
        data[block:end] = bytes(len(data[block:end]))
    elif act == 3:
        other = chance.choice(others)
        start = chance.randrange(0, len(other) + 1, BLOCK)
        data[block:block] = other[start : start + BLOCK * chance.randint(1, 4)]
    else:
        data[block:block] = END[: BLOCK * chance.randint(1, 2)]


def _insert(data, block, at, chance, others):  # type: ignore[no-untyped-def]
    word = chance.choice(
        [*NAMES, *NUMBERS, chance.randbytes(chance.randrange(40)), b"data/" + b"n" * chance.randrange(300)]
    )
    data[block:block] = chance.choice(
        (
            lambda: pax(
                (chance.choice(KEYS), word),
                (chance.choice(KEYS), chance.choice(NUMBERS)),
                flag=chance.choice((b"x", b"g")),
            ),
            lambda: header(b"PaxHeaders", len(word), flag=b"x") + padded(word),
            lambda: long_name(word),
            lambda: header(word, chance.choice((0, 1, 512, 10**9)), flag=bytes([chance.choice(b"0\x00157xgLKSVMN")])),
        )
    )()


def _cut(data, block, at, chance, others):  # type: ignore[no-untyped-def]
    del data[chance.choice((at, block)) :]


def _word(data, block, at, chance, others):  # type: ignore[no-untyped-def]
    """Change a word of the metadata, in place or with a change of its length that the header is told of."""
    start = data.rfind(b"[{")
    end = data.rfind(b"}]") + 2
    head = start - BLOCK
    if start < BLOCK or end <= start or data[head : head + 8] != b"metadata":
        return
    text = data[start:end]
    where = chance.randrange(len(text))
    text[where : where + chance.randrange(12)] = chance.choice(WORDS)
    size = b"%011o\0" % len(text)
    data[head:] = mended(data[head : head + 124] + size + data[head + 136 : head + BLOCK]) + padded(bytes(text)) + END


def _mend(data, block):  # type: ignore[no-untyped-def]
    if block + BLOCK <= len(data):
        data[block : block + BLOCK] = mended(data[block : block + BLOCK])


MUTATIONS = (_byte, _byte, _field, _field, _blocks, _blocks, _insert, _cut, _word, _word)
