"""The storage root and the layout, judged by ocfl-py."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pacifica.datasafe import ocfl
from pacifica.datasafe.dataset import DatasetStore
from pacifica.datasafe.loi import dataset
from pacifica.datasafe.snapshot import Snapshot

LONG = "42.123456789012345678/ds/exp/sa/123456789012345678/trepr/123456789012345678"


def test_an_empty_root_is_valid_and_is_made_once(tmp_path: Path, ocfl_judge: Callable[[Path], None]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: DatasetStore(tmp_path / "datasets", tmp_path / "work"), range(16)))
    names = sorted(path.name for path in (tmp_path / "datasets").iterdir())
    assert names == ["0=ocfl_1.1", "extensions", "ocfl_layout.json"]
    ocfl_judge(tmp_path / "datasets")


def test_a_dataset_that_goes_while_the_tree_is_walked_ends_no_walk(
    store: DatasetStore, put: Callable[..., Snapshot]
) -> None:
    lois = [dataset(f"42.1001/ds/exp/sa/42/cwepr/{number}") for number in range(1, 5)]
    for loi in lois:
        put(store, loi, {"a.dat": b"", "x.info": b""})
    walk, others = store.datasets(), {*lois}
    others.remove(next(walk))
    store.remove(others.pop())
    assert {*walk} == others

    looked = ocfl.foreign(store.root)
    (store.root / "00").touch()
    assert next(looked) == store.root / "00"
    for loi in lois:
        store.remove(loi)
    assert [*looked] == []


def test_places_are_those_of_the_layout_extension(
    store: DatasetStore, put: Callable[..., Snapshot], judge: Callable[..., str]
) -> None:
    program = """
import sys, ocfl
from ocfl.layout_registry import get_layout
root = ocfl.StorageRoot(root=sys.argv[1]); root.open_root_fs(); root.check_root_structure()
print(root.layout.identifier_to_path(sys.argv[2]))
"""
    for text in ("42.1001/ds/exp/2021-11-05/cwepr/1", "42.1001/ds/calc/geo/7", LONG):
        place = ocfl.place(dataset(text))
        assert judge("-c", program, store.root, f"loi:{text}").splitlines()[-1] == place
        put(store, dataset(text), {"a.dat": b"", "x.info": b""})
        assert ocfl.named(store.root / place) == dataset(text)
