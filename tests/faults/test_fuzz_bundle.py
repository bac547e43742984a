"""The reader of bundles under fuzzing: it refuses by a code, or finds what tarfile and GNU tar find; it never breaks.

What breaks it is kept as ``tests/data/bad/broken-<digest>.tar``, where another test goes on failing by it until it is
mended and the sample has the name of the code that it must raise.
"""

import hashlib
import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from pacifica.ingest.bundle import BundleError, Limits, Scanner
from pacifica.ingest.declared import check
from pacifica.tests.ingest.samples import BAD_METADATA, BAD_TARS, END, GOOD, GOOD_MEMBERS, META, by_tarfile, found
from pacifica.tests.system.fuzz import mutated

SECONDS = float(os.environ.get("PACIFICA_FUZZ_SECONDS", "45"))
MOST = 200_000  # bundles of one run, should they be quicker than that
EXTRACTED = 300  # of the bundles that were taken, held against GNU tar as well: each is a process
SEEDS = [GOOD, *(each + META + END for each in GOOD_MEMBERS.values()), *BAD_TARS.values(), *BAD_METADATA.values()]
SAMPLES = Path(__file__).parents[1] / "data" / "bad"


def read(data: bytes, step: int) -> tuple[str, list[tuple[str, bytes]]]:
    """Return the code by which ``data`` is refused, or no code and what it holds; anything else is raised."""
    scanner = Scanner(Limits(), "sha1", length=len(data))
    try:
        for at in range(0, len(data), step):
            scanner.feed(memoryview(data)[at : at + step])
        index = scanner.close()
    except BundleError as error:
        return error.code, []
    files = found(index, data)
    try:
        check(index, lambda offset, size: iter([data[offset : offset + size]]))
    except BundleError as error:
        return error.code, files
    return "", files


def by_gnu_tar(data: bytes, folder: Path) -> list[tuple[str, bytes]]:
    """Return what GNU tar extracts."""
    folder.mkdir()
    # its exit status is not looked at: it speaks of owners and attributes as well, which count for nothing here
    subprocess.run(["tar", "-xf", "-", "-C", folder, "--no-same-owner"], input=data, capture_output=True, check=False)
    files = [path for path in folder.rglob("*") if path.is_file() and path != folder / "metadata.txt"]
    return [(str(path.relative_to(folder)), path.read_bytes()) for path in files]


@pytest.mark.timeout(600)
def test_whatever_is_bent_is_refused_by_a_code_or_read_as_others_read_it(tmp_path: Path) -> None:
    seed = int(os.environ.get("PACIFICA_FUZZ_SEED") or random.SystemRandom().getrandbits(32))
    chance, corpus, reached, compared, extracted = random.Random(seed), list(SEEDS), set[tuple[str, int]](), 0, 0
    end, count = time.monotonic() + SECONDS, 0
    while time.monotonic() < end and count < MOST:
        count += 1
        data = mutated(chance.choice(corpus), corpus, chance)
        try:
            code, files = read(data, 1 << 20)
            assert read(data, chance.randint(1, 1500)) == (code, files)
            if files:
                compared += 1
                assert files == by_tarfile(data)
            if files and extracted < EXTRACTED and chance.random() < 0.2:
                extracted += 1
                assert sorted(by_gnu_tar(data, tmp_path / str(extracted))) == sorted(files)
        except Exception as error:
            SAMPLES.mkdir(parents=True, exist_ok=True)
            sample = SAMPLES / f"broken-{hashlib.sha256(data).hexdigest()[:12]}.tar"
            sample.write_bytes(data)
            raise AssertionError(f"seed {seed}, bundle {count}: see {sample}") from error
        if (new := (code, len(files))) not in reached and len(corpus) < 2000:  # what is new leads on to more
            reached.add(new)
            corpus.append(data)
    codes = {code for code, _ in reached}
    assert compared > count / 100, f"of {count} bundles {compared} are tars: the mutations are too hard"
    assert len(codes) > 25, f"of {count} bundles none got beyond {codes}: the mutations are too soft"
    assert extracted, f"of {count} bundles GNU tar saw none"
