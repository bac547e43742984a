"""The tar made of sources: readable by tarfile, and broken off when a source is not what it was."""

import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from pacifica.common.source import open_source
from pacifica.common.volume import Volume
from pacifica.ingest import gathering
from pacifica.ingest.gathering import BadSource
from pacifica.ingest.spooled import Spooled


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "volume").mkdir()
    return tmp_path / "root"


def tar_of(root, contents):
    """Return the tar that is made of files with ``contents``, which are written first."""
    record = io.StringIO()
    for name, content in contents.items():
        (root / name).write_bytes(content)
        source = open_source(str(root / name), [str(root)], root.parent / "volume")
        source.close()
        record.write(json.dumps([f"data/{name}", str(root / name), *source.identity]) + "\n")
    sections = gathering._sections(record, memoryview(b"[]"), [str(root)], root.parent / "volume")
    return gathering._Tar(sections)


def read(tar, size=1000):
    found, buffer = bytearray(), memoryview(bytearray(size))
    while count := tar.readinto(buffer):
        found += buffer[:count]
    return bytes(found)


@pytest.mark.parametrize("size", [1, 7, 512, 100_000])
def test_what_is_gathered_is_a_tar_whatever_the_pieces(root, size):
    contents = {"a": b"alpha", "empty": b"", "block": b"b" * 512, "n" * 120: bytes(range(256)) * 10}
    with tarfile.open(fileobj=io.BytesIO(read(tar_of(root, contents), size))) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
    assert found == {f"data/{name}": content for name, content in contents.items()} | {"metadata.txt": b"[]"}


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 5000])
def test_a_source_that_changed_since_it_was_looked_at_breaks_it_off(root, content):
    tar = tar_of(root, {"a": b"x" * 3000})
    (root / "a").write_bytes(content)
    with pytest.raises(BadSource) as caught:
        read(tar)
    assert caught.value.detail["faults"][0]["code"] == "source_changed"


@pytest.mark.parametrize("content", [b"", b"y" * 3000, b"x" * 5000])
def test_a_source_that_changes_while_it_is_read_breaks_it_off(root, content):
    tar = tar_of(root, {"a": b"x" * 3000})
    buffer = memoryview(bytearray(512))
    for _ in range(3):
        tar.readinto(buffer)
    (root / "a").write_bytes(content)
    with pytest.raises(BadSource) as caught:
        read(tar)
    assert caught.value.detail["faults"][0]["file"] == "data/a"


def test_sources_whose_record_goes_meanwhile_are_removed_by_another(root, monkeypatch):
    volume, opens = Volume(root.parent / "volume", 0), Path.open
    spooled = Spooled(volume, "0" * 32)
    spooled.sources.touch()

    def late(path, *given, **more):
        path.unlink()
        return opens(path, *given, **more)

    monkeypatch.setattr(Path, "open", late)
    gathering.take_away(SimpleNamespace(id=1), spooled, volume, [str(root)])
