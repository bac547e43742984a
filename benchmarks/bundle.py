"""The bundles that are measured: made anew for each run, always with the same bytes."""

import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import IO

BLOCK, RECORD, PIECE = 512, 10_240, 1 << 20
MTIME = 1_795_000_000
TIME = "2026-11-18T11:06:40"  # MTIME in words


@dataclass(frozen=True)
class Load:
    """A bundle to be posted: ``count`` files of ``size`` bytes."""

    name: str
    count: int
    size: int


ONE = Load("1 x 1 GiB", 1, 1 << 30)
MANY = Load("10,000 x 4 KiB", 10_000, 4096)
MOST = Load("100,000 x 4 KiB", 100_000, 4096)
SMALL = Load("100 x 1 KiB", 100, 1024)


def make(load: Load, path: Path, seed: int = 1) -> Path:
    """Write the bundle of ``load`` to ``path`` in plain ustar, as Pacifica's uploader does, metadata.txt last."""
    source = random.Random(seed)
    entries = [
        {"destinationTable": f"Transactions.{key}", "value": value}
        for key, value in (("submitter", 10), ("project", "1234a"), ("instrument", 54))
    ]
    with path.open("wb") as file:
        for number in range(load.count):
            subdir, name = f"d{number // 1000}", f"f{number:06d}.dat"
            digest = hashlib.sha1()
            file.write(_header(f"data/{subdir}/{name}", load.size))
            left = load.size
            while left:
                data = source.randbytes(min(left, PIECE))
                digest.update(data)
                file.write(data)
                left -= len(data)
            _pad(file, load.size)
            entries.append(
                {
                    "destinationTable": "Files",
                    "name": name,
                    "subdir": subdir,
                    "size": load.size,
                    "mimetype": "application/octet-stream",
                    "hashtype": "sha1",
                    "hashsum": digest.hexdigest(),
                    "ctime": TIME,
                    "mtime": TIME,
                }
            )
        text = json.dumps(entries).encode()
        file.write(_header("metadata.txt", len(text)) + text)
        _pad(file, len(text))
        file.write(bytes(2 * BLOCK))
        file.write(bytes(-file.tell() % RECORD))
    return path


def _header(name: str, size: int) -> bytes:
    fields = b"0000644\0" + b"0000000\0" * 2 + b"%011o\0%011o\0" % (size, MTIME)
    block = name.encode().ljust(100, b"\0") + fields + b" " * 8 + b"0" + bytes(100) + b"ustar\x0000" + bytes(247)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _pad(file: IO[bytes], size: int) -> None:
    file.write(bytes(-size % BLOCK))
