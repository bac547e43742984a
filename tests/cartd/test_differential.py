"""Whatever may be selected, the tar that comes is the one that Python's tarfile makes, and every reader takes it."""

import hashlib
import io
import os
import subprocess
import tarfile
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pacifica.common import counter
from pacifica.common.archive import LocalArchive
from pacifica.common.interface import Incoming

PART = st.text(
    st.characters(exclude_characters="/\x7f\u2028\u2029", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60
).filter(lambda part: part not in (".", "..") and len(part.encode()) <= 255)
LONG = st.sampled_from(["n" * 255, "ü" * 127, "p" * 99, "q" * 100, "r" * 101])
PATHS = st.lists(PART | LONG, min_size=1, max_size=7).map("/".join)
SIZES = st.sampled_from([0, 1, 511, 512, 513, 1023, 1024, 4096, 70_000]) | st.integers(0, 3000)
MTIMES = st.sampled_from([0.0, 1_795_000_000.75, -1.0, -0.5, 8**11 - 1.0, 8.0**11]) | st.integers(0, 2**34).map(float)
FILES = st.lists(st.tuples(SIZES, MTIMES, st.sampled_from(["sha1", "md5", "sha256", "sha512"])), min_size=1, max_size=8)
# which file lies at which path: the same one may be there more than once
CARTS = st.tuples(FILES, st.lists(st.tuples(PATHS, st.integers(0, 7)), min_size=1, max_size=16))
NUMBERS = count()
READERS = (["tar", "-xOf", "-"], ["bsdtar", "-xOf", "-"])
ENVIRONMENT = os.environ | {"LC_ALL": "C.UTF-8", "TZ": "UTC"}


def archived(site: Any, files: list[tuple[int, float, str]]) -> list[tuple[int, bytes, float, str]]:
    """Archive a file for each (size, mtime, hash type); return id, content, mtime, hash type."""
    first, made = counter.allocate("file", len(files)), []
    for id, (size, mtime, hashtype) in enumerate(files, first):
        content = hashlib.shake_128(b"%d" % id).digest(size)
        facts = {"length": size, "mtime": mtime, "owner": "root", "hashtype": hashtype}
        LocalArchive(site.volume).put(id, Incoming(fill=io.BytesIO(content).readinto, **facts))
        made.append((id, content, mtime, hashtype))
    return made


def chosen(paths: list[tuple[str, int]]) -> dict[str, int]:
    """Leave out what a selection may not have: a path twice, or one that is a file and a folder."""
    files: dict[str, int] = {}
    for path, index in paths:
        parents = {path[:at] for at, character in enumerate(path) if character == "/"}
        if (
            path not in files
            and not parents & files.keys()
            and not any(known.startswith(f"{path}/") for known in files)
        ):
            files[path] = index
    return files


def made_by_tarfile(members: list[tuple[str, bytes, float]]) -> bytes:
    """Return the tar of (path, content, mtime) below ``d`` as tarfile makes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content, mtime in members:
            member = tarfile.TarInfo(f"d/{path}")
            member.size, member.mtime = len(content), int(mtime // 1)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def told(tar: bytes) -> list[tuple[Any, ...]]:
    """Return all that a stream reader learns of each member, and its bytes."""
    names = ("name", "size", "mtime", "mode", "uid", "gid", "uname", "gname", "type", "linkname")
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r|", encoding="utf-8", errors="strict") as reader:
        return [(*(getattr(m, name) for name in names), reader.extractfile(m).read()) for m in reader]  # type: ignore[union-attr]


@settings(max_examples=40, deadline=None, suppress_health_check=[*HealthCheck])
@given(CARTS)
@example(([(0, 0.0, "sha1")], [("same/1", 0), ("same/2", 0), ("ü", 0)]))
def test_a_cart_is_member_by_member_the_tar_that_tarfile_makes_and_all_read_it(site, tmp_path, cart):
    made = archived(site, cart[0])
    members = {path: made[index % len(made)] for path, index in chosen(cart[1]).items()}
    uid = f"c{next(NUMBERS)}"
    entries = [
        {"id": id, "path": path, "hashtype": hashtype, "hashsum": hashlib.new(hashtype, content).hexdigest()}
        for path, (id, content, _, hashtype) in members.items()
    ]
    answer = site.post(uid, entries)
    assert (answer.status_code, answer.headers["X-Pacifica-Status"]) == (201, "ready")
    tar = site.get(f"{uid}?filename=d.tar").content
    contents = [(path, content, mtime) for path, (_, content, mtime, _) in members.items()]
    assert told(tar) == told(made_by_tarfile(contents))
    data = b"".join(content for _, content, _ in contents)
    for command in READERS:
        done = subprocess.run(command, input=tar, capture_output=True, env=ENVIRONMENT, timeout=30, check=False)
        assert (done.returncode, done.stderr, done.stdout) == (0, b"", data), command
    file = Path(tmp_path, "cart.tar")
    file.write_bytes(tar)
    done = subprocess.run(["7z", "x", "-so", file], capture_output=True, env=ENVIRONMENT, timeout=30, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", data)
