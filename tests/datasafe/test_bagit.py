"""Bags, judged by the Library of Congress's bagit."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pacifica.common.errors import Damaged
from pacifica.datasafe import bagit, ocfl
from pacifica.datasafe.dataset import DatasetStore
from pacifica.datasafe.loi import Loi
from pacifica.datasafe.snapshot import Snapshot

FILES = {"a.dat": b"data", "sub/b c.dat": b"more", "ä.info": b"meta", "empty.dat": b""}


def test_a_bag_is_valid_and_has_every_byte(
    store: DatasetStore, loi: Loi, put: Callable[..., Snapshot], judge: Callable[..., str], tmp_path: Path
) -> None:
    snapshot = put(store, loi, FILES)
    bagit.export(snapshot, tmp_path / "bag")
    program = "import bagit, sys; b = bagit.Bag(sys.argv[1]); b.validate(); print(b.info['External-Identifier'])"
    assert judge("-c", program, tmp_path / "bag").strip() == str(loi)
    for name in snapshot.names:
        assert (tmp_path / "bag" / "data" / name).read_bytes() == snapshot.whole(name)


def test_percent_signs_are_escaped_as_the_rfc_says(store: DatasetStore, loi: Loi, put: Callable[..., Snapshot]) -> None:
    tags = bagit.tag_files(put(store, loi, {"100%.dat": b"", "x.info": b""}))
    assert b"  data/100%25.dat\n" in tags["manifest-sha512.txt"]  # bagit 1.9.0 does not decode this: RFC 8493 §2.1.3


def test_an_export_is_whole_or_absent(
    store: DatasetStore, loi: Loi, put: Callable[..., Snapshot], tmp_path: Path
) -> None:
    snapshot = put(store, loi, FILES)
    (store.root / ocfl.place(loi) / "v1/content/ä.info").unlink()
    with pytest.raises(Damaged):
        bagit.export(snapshot, tmp_path / "out" / "bag")
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "out" / "taken").mkdir()
    with pytest.raises(FileExistsError):
        bagit.export(put(store, loi, FILES), tmp_path / "out" / "taken")
