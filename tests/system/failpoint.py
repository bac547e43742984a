"""Kills the process that it is loaded into at a chosen step, as a power cut would; loaded by ``Suite.start(code=...)``.

The process looks into the file ``armed`` at each step, so that it can be started first and armed later.  What stands
there: ``call <module>:<function> before|after <n>`` dies around the n-th call of a function that was named at the
start; ``event <n>`` dies before the n-th thing done that lasts: a statement that writes, a commit, a name made, moved
or removed, an fsync.  ``count`` dies at none and writes their number beside the file instead.  Where the file
``armed.parent`` stands beside it, the process that forked this one dies too.
"""

import functools
import importlib
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DONE = "done"
WRITES = ("INSERT", "UPDATE", "DELETE", "BEGIN", "COMMIT")
NAMES = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.truncate"}
OTHERS = ("pacifica-sweeper", "MainThread")  # threads whose steps are no part of a job


def install(armed: Path, calls: Iterable[str] = ()) -> None:
    """Watch for what ``armed`` says; ``calls`` are the functions that it may name."""
    death = _Death(armed)
    for each in calls:
        death.watch(each)
    sys.addaudithook(death.audit)
    sync, connect = os.fsync, sqlite3.connect

    def fsync(descriptor: int) -> None:
        death.event("os.fsync")
        sync(descriptor)

    def traced(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(death.statement)
        return connection

    os.fsync, sqlite3.connect = fsync, traced  # type: ignore[assignment]


def arm(armed: Path, what: str) -> None:
    """Have ``what`` stand in ``armed`` at once and whole: who looks into it may be in the midst of anything."""
    new = armed.with_name(f"{armed.name}.new")
    new.write_text(what)
    new.replace(armed)


def victim(armed: Path) -> int:
    """Return the process that died, or is about to, of what ``armed`` said; 0 while none has."""
    first, second, *_ = armed.read_text().split()
    return int(second) if first == DONE else 0


class _Death:
    def __init__(self, armed: Path) -> None:
        self.armed = armed
        self.installed_in = os.getpid()
        self.seen = 0
        self.lock = threading.Lock()

    def watch(self, call: str) -> None:
        module, _, path = call.partition(":")
        *parents, name = path.split(".")
        owner: Any = functools.reduce(getattr, parents, importlib.import_module(module))
        function = getattr(owner, name)

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._step("call", call, "before")
            result = function(*args, **kwargs)
            self._step("call", call, "after")
            return result

        setattr(owner, name, watched)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in NAMES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT):
            self.event(event)

    def event(self, what: str) -> None:
        if not threading.current_thread().name.startswith(OTHERS):
            self._step("event", what=what)

    def statement(self, sql: str) -> None:
        if sql.lstrip().upper().startswith(WRITES):
            self.event(sql[:60])

    def _step(self, *kind: str, what: str = "") -> None:
        try:
            descriptor = os.open(self.armed, os.O_RDONLY)  # below what the hook looks at
        except FileNotFoundError:
            return
        try:
            words = os.read(descriptor, 1000).decode().split()
        finally:
            os.close(descriptor)
        with self.lock:
            if words[0] == "count" and kind == ("event",):
                self.seen += 1
                self._write(f"{self.seen} {what}\n")
            elif words[:-1] == list(kind):
                self.seen += 1
                if self.seen >= int(words[-1]):
                    self._die()

    def _die(self) -> None:
        """Die once: other processes, and those that are started in this one's place, find the step done.

        By whom stands beside it: who waits for a death must wait until that process is gone.
        """
        descriptor = os.open(self.armed, os.O_WRONLY)  # as above
        os.write(descriptor, f"{DONE} {os.getpid()} ".encode())
        os.close(descriptor)
        if os.getpid() != self.installed_in and os.access(f"{self.armed}.parent", os.F_OK):
            os.kill(os.getppid(), signal.SIGKILL)
        os._exit(137)

    def _write(self, line: str) -> None:
        descriptor = os.open(f"{self.armed}.count", os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, line.encode())
        os.close(descriptor)
