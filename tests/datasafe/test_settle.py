"""Crashes and full disks at every step: the old state whole or the new state whole, and the next upload works."""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pacifica.common.errors import NoSpace, VolumeAway
from pacifica.datasafe import staging
from pacifica.datasafe.dataset import DatasetStore, NoSuchDataset
from pacifica.datasafe.loi import Loi
from pacifica.datasafe.snapshot import Snapshot

OLD = {"a.dat": b"old", "sub/b.dat": b"same" * 10, "x.info": b"meta"}
NEW = {"a.dat": b"new", "sub/b.dat": b"same" * 10, "x.info": b"meta", "c/d/e.dat": b"more"}
STEPS = ("fsync", "fdatasync", "rename", "mkdir", "unlink", "rmdir", "write", "open")
Put = Callable[..., Snapshot]


def counted(fault: Callable[[int], None], patch: Callable[[object, str, object], None], steps: tuple[str, ...]) -> None:
    """Call ``fault`` with a running number before each traced system call."""
    count = 0

    def traced(call: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*arguments: object, **settings: object) -> object:
            nonlocal count
            count += 1
            fault(count)
            return call(*arguments, **settings)

        return wrapper

    for name in steps:
        patch(os, name, traced(getattr(os, name)))
    patch(staging, "syncfs", traced(staging.syncfs))


def killed(step: int, action: Callable[[], object]) -> bool:
    """Run ``action`` in a child that dies before its ``step``-th traced call; False when it came to its end."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 137
    try:
        counted(lambda at: os._exit(137) if at == step else None, setattr, STEPS)
        action()
        os._exit(0)
    finally:
        os._exit(1)


def state(store: DatasetStore, loi: Loi) -> dict[str, bytes] | None:
    """Return the newest version's files; None when there is no dataset."""
    try:
        newest = store.open(loi)
    except NoSuchDataset:
        return None
    return {name: newest.whole(name) for name in newest.names if name != "MANIFEST.yaml"}


def tidy(store: DatasetStore, loi: Loi, expected: dict[str, bytes] | None) -> None:
    """Check that after recovery nothing is left over and the state did not change."""
    store.recover()
    assert state(store, loi) == expected
    assert [path.name for path in store.work.iterdir() if path.name != "locks"] == []
    assert not [path for path in store.root.rglob("*") if path.is_dir() and not any(path.iterdir())]
    if expected is not None:
        verdict = store.verify(loi)
        assert verdict.sound, verdict.findings


@pytest.mark.parametrize("before", [None, OLD])
def test_a_kill_at_any_step_leaves_the_old_or_the_new_state(
    tmp_path: Path, loi: Loi, put: Put, ocfl_judge: Callable[[Path], None], before: dict[str, bytes] | None,
) -> None:  # fmt: skip
    base = tmp_path / "base"
    if before:
        put(DatasetStore(base / "datasets", base / "work"), loi, before)
    else:
        DatasetStore(base / "datasets", base / "work")
    seen, step, here = set(), 0, base
    while True:
        step += 1
        here = tmp_path / f"step{step}"
        shutil.copytree(base, here, symlinks=True)
        store = DatasetStore(here / "datasets", here / "work")
        if not killed(step, lambda store=store: put(store, loi, NEW)):  # type: ignore[misc]
            break
        found = state(store, loi)
        assert found in (before, NEW), f"step {step}"
        seen.add(found is NEW or found == NEW)
        if step % 2:  # with and without the recovery between, by turns
            tidy(store, loi, found)
        put(store, loi, NEW)
        tidy(store, loi, NEW)
        if before:
            old = store.open(loi, 1)
            assert {name: old.whole(name) for name in before} == before
        shutil.rmtree(here)
    assert seen == {True, False} and step > 20
    tidy(store, loi, NEW)
    ocfl_judge(store.root)


@pytest.mark.parametrize("before", [None, OLD])
def test_an_error_at_any_step_leaves_the_old_or_the_new_state(
    tmp_path: Path, loi: Loi, put: Put, before: dict[str, bytes] | None
) -> None:
    base = tmp_path / "base"
    store = DatasetStore(base / "datasets", base / "work")
    if before:
        put(store, loi, before)
    step, failed = 0, 0
    while True:
        step += 1
        number = (errno.ENOSPC, errno.EIO)[step % 2]
        here = tmp_path / f"step{step}"
        shutil.copytree(base, here)
        store = DatasetStore(here / "datasets", here / "work")
        with pytest.MonkeyPatch.context() as patched:
            met = []

            def fault(at: int, step: int = step, met: list[int] = met, number: int = number) -> None:
                if at == step:
                    met.append(at)
                    raise OSError(number, os.strerror(number))

            counted(fault, patched.setattr, ("fsync", "fdatasync", "rename", "mkdir", "write", "open"))
            try:
                put(store, loi, NEW)
            except (NoSpace, VolumeAway) as error:
                failed += 1
                assert isinstance(error, NoSpace) == (number == errno.ENOSPC)
        if not met:
            break
        found = state(store, loi)
        assert found in (before, NEW), f"step {step}"
        tidy(store, loi, found)
        put(store, loi, NEW)
        tidy(store, loi, NEW)
        shutil.rmtree(here)
    assert failed > 15


def test_a_living_stage_is_not_swept(store: DatasetStore, loi: Loi, put: Put) -> None:
    with store.stage() as stage:
        assert store.recover() == 0 and stage.folder.is_dir()
    assert not stage.folder.exists()


def test_a_stage_that_ends_under_a_sweep_disturbs_neither(store: DatasetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    rmtree, opens, swept = shutil.rmtree, os.open, list[int]()

    def remove(path: Path, **options: bool) -> None:
        if path.is_relative_to(store.work):
            swept.append(store.recover())
        rmtree(path, **options)

    monkeypatch.setattr(shutil, "rmtree", remove)
    with store.stage() as stage:
        (stage.folder / "content").mkdir()
    assert swept == [0] and list(store.work.iterdir()) == []

    ending = store.stage()
    ending.__enter__()

    def ended(path: Path, *given: int) -> int:
        monkeypatch.setattr(os, "open", opens)
        ending.__exit__(None, None, None)
        return opens(path, *given)

    monkeypatch.setattr(os, "open", ended)
    assert store.recover() == 0 and os.open is opens and list(store.work.iterdir()) == []


def test_a_sweep_that_waited_with_the_lock_of_a_dead_stage_leaves_a_living_one_of_its_name(
    store: DatasetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, flock = store.work / ("0" * 32), fcntl.flock
    folder.mkdir()
    (folder / "lock").touch()

    def taken(lock: int, how: int) -> None:
        (folder / "lock").unlink()  # another sweep was faster, and met one who had just made the folder
        (folder / "lock").touch()
        (folder / "content").mkdir()
        flock(lock, how)

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", taken)
        assert store.recover() == 0
    assert (folder / "content").is_dir()
    assert store.recover() == 1 and list(store.work.iterdir()) == []


def test_a_version_folder_that_nobody_announced_is_never_removed(store: DatasetStore, loi: Loi, put: Put) -> None:
    folder = store.root
    put(store, loi, OLD)
    foreign = next(folder.rglob("v1")).parent / "v2"
    foreign.mkdir()
    (foreign / "keep").write_bytes(b"x")
    with pytest.raises(OSError):
        put(store, loi, NEW)
    assert (foreign / "keep").exists() and state(store, loi) == OLD
