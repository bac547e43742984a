"""A fork in a process with threads: the child must not wait for a lock that only the parent can give back."""

import os
import signal
import threading

import pytest

from pacifica.common import fork, volume
from pacifica.common.volume import Volume

forked = threading.Event()
os.register_at_fork(before=forked.set)  # hooks run in reverse order: this one before the gates are closed


@pytest.fixture(autouse=True)
def unforked():
    forked.clear()


def exit_code(work):
    """Run ``work`` in a forked child, and return its exit code; a child that hangs is killed by a signal of its own."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        code = 3
        try:
            code = int(not work())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def at_work(gate, lock, until):
    """Start a thread that holds ``lock`` within ``gate`` until ``until`` is set."""
    ready = threading.Event()

    def run():
        with gate, lock:
            ready.set()
            assert until.wait(60)

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(60)
    return thread


def test_a_fork_waits_until_the_thread_behind_a_gate_holds_no_lock(monkeypatch):
    monkeypatch.setattr(fork, "QUIET_SECONDS", 60.0)  # a busy machine may let the thread wait for its turn
    gate, lock = fork.Gate(), threading.Lock()
    thread = at_work(gate, lock, forked)
    assert exit_code(lambda: lock.acquire(timeout=10)) == 0
    thread.join(60)
    with gate, lock:  # which the fork has opened again
        assert not thread.is_alive()


def test_a_thread_that_does_not_come_out_holds_no_fork_up_for_ever(monkeypatch):
    monkeypatch.setattr(fork, "QUIET_SECONDS", 0.05)
    busy, other, lock, free = fork.Gate(), fork.Gate(), threading.Lock(), threading.Event()
    thread = at_work(busy, lock, free)
    try:
        assert exit_code(lambda: not lock.acquire(timeout=0.01)) == 0  # the control: this is what a gate is for
        with other:
            assert thread.is_alive()
    finally:
        free.set()
        thread.join(60)


def test_a_thread_behind_a_gate_may_fork_and_so_may_its_child():
    with fork.Gate():
        assert exit_code(lambda: exit_code(lambda: True) == 0) == 0


def test_a_child_finds_a_volume_although_the_parent_was_looking_for_one(tmp_path, monkeypatch):
    looking, make_directory = threading.Event(), volume.make_directory

    def slow(path, *mode):
        if path.parent.name == "slow":
            looking.set()
            assert forked.wait(60)
        return make_directory(path, *mode)

    monkeypatch.setattr(volume, "make_directory", slow)
    thread = threading.Thread(target=lambda: Volume(tmp_path / "slow", 0).work)
    thread.start()
    assert looking.wait(60)
    assert exit_code(lambda: Volume(tmp_path / "other", 0).work.is_dir()) == 0
    thread.join(60)
