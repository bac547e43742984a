"""What a child process must not share with the parent that it was forked from: each room registers what it replaces.

Python tells of its own forks.  uWSGI forks in C and tells Python nothing, unless it is asked to by an option; without
``lazy-apps`` its workers would all speak through the connections that the application opened while it was loaded.

A lock that another thread of the parent holds at that moment is never given back in the child, whoever it belongs to:
us, Python or a library.  So a process that forks while it has threads lets them work behind a ``Gate``.
"""

import os
import threading
import time
import weakref
from collections.abc import Callable
from types import TracebackType

try:
    import uwsgi  # exists only inside uWSGI
except ImportError:
    uwsgi = None

QUIET_SECONDS = 1.0  # what a fork waits for the threads behind gates, at most: one may wait for the database itself

_hooks: list[Callable[[], None]] = []


def in_child(hook: Callable[[], None]) -> Callable[[], None]:
    """Run ``hook`` first thing in every forked child, in the order of registration; a decorator.

    It must bear being run twice, and may take no lock: who held it is in the parent.
    """
    _hooks.append(hook)
    return hook


class Gate:
    """What one thread works within, as a context manager, so that no fork of the process finds it holding a lock.

    A fork waits until the thread is out, ``QUIET_SECONDS`` for all gates together, and keeps it out until it is done.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _gates.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def close(self, seconds: float) -> bool:
        """Keep the thread out, which may take ``seconds``; tell whether it is."""
        return self._lock.acquire(timeout=max(seconds, 0.0))

    def open(self) -> None:
        """Let the thread in again."""
        self._lock.release()


_gates: "weakref.WeakSet[Gate]" = weakref.WeakSet()


class _Fork(threading.local):
    """The gates that the fork of this thread has closed."""

    def __init__(self) -> None:
        self.closed: list[Gate] = []


_fork = _Fork()


def _quiet() -> None:
    deadline = time.monotonic() + QUIET_SECONDS
    _fork.closed = [gate for gate in list(_gates) if gate.close(deadline - time.monotonic())]


def _resume() -> None:
    while _fork.closed:
        _fork.closed.pop().open()


def _begin() -> None:
    _fork.closed.clear()
    _gates.clear()  # their threads stayed in the parent
    for hook in _hooks:
        hook()


os.register_at_fork(before=_quiet, after_in_parent=_resume, after_in_child=_begin)

if uwsgi is not None:
    _earlier = getattr(uwsgi, "post_fork_hook", None)  # of whoever else was loaded before us

    def _begin_worker() -> None:
        _begin()
        if _earlier is not None:
            _earlier()

    uwsgi.post_fork_hook = _begin_worker
