"""Run one bash program: what an executor takes, gives, and must promise.

``local.py`` runs it as a plain process, ``bubblewrap.py`` in namespaces of its own,
``null.py`` not at all.  All of them are told by ``make`` and speak to the program through
``runtime/functions.sh``.
"""

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from ..common.errors import ServiceError
from ..common.kept import kept
from . import spare
from .channel import Call
from .view import View

MIB = 1 << 20
RUNTIME = Path(__file__).with_name("runtime")
NOBODY = 65534


class ExecutorFailed(ServiceError):
    """The program could not be started; that says nothing about the program."""

    status = 503
    code = "executor_failed"
    retryable = True


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a program may use at most; None means no limit."""

    memory_bytes: int | None = 4096 * MIB
    cpu_seconds: int | None = None
    wall_seconds: float | None = None
    file_bytes: int | None = 10 << 30  # of any one file
    disk_bytes: int | None = 10 << 30  # of all files of the working directory
    disk_files: int | None = 1_000_000
    processes: int | None = 1024  # threads count
    stdout_bytes: int = 64 * MIB  # what comes after is dropped, and a last line says so


@dataclass(frozen=True, kw_only=True)
class Program:
    """One run.

    ``directory`` is a run directory made by ``Workplace.make``.  ``inputs`` maps names (``12/reads.fastq``) below the
    executor's ``input_root`` to files or directories of the host, which the program reads and cannot change; they
    must be readable by all or by the user that programs run as.
    """

    text: str
    workplace: "Workplace"
    inputs: Mapping[str, Path] = field(default_factory=dict)
    tools: tuple[Path, ...] = ()  # folders that come last in PATH
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = Limits()
    network: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended.

    ``returncode`` is bash's (128 + n for signal n).  ``ended`` is ``exited``, or what it was ended by: ``cancelled``,
    ``wall_time``, ``cpu_time``, ``memory``, ``disk``.
    ``not_enforced`` names, for people, each limit that this host or executor could not keep.
    """

    returncode: int
    ended: str = "exited"
    seconds: float = 0.0
    cpu_seconds: float = 0.0  # as sampled: 0 for short runs
    memory_bytes: int = 0  # peak as sampled
    stdout_bytes: int = 0
    stdout_dropped: int = 0
    noise: int = 0  # records on the message pipe that made no sense
    not_enforced: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """The error that a run which was ended by us carries, empty for one that exited."""
        return REASONS.get(self.ended, "")


REASONS = {
    "cancelled": "Processing was cancelled.",
    "wall_time": "The program ran longer than its wall time limit.",
    "cpu_time": "The program used more CPU time than its limit.",
    "memory": "The program used more memory than its limit.",
    "disk": "The program wrote more to its working directory than its limit.",
}


class Executor(Protocol):
    """Runs programs.  Thread-safe: one executor runs many programs at once."""

    name: str

    def view(self, program: Program) -> View:
        """Return what ``program`` may name, as seen from outside; for the rules of the re-* commands."""

    def input_root(self, workplace: "Workplace") -> str:
        """Return the directory, as the program sees it, below which its inputs lie."""

    def run(self, program: Program, on_call: Callable[[Call], None], cancelled: Callable[[], bool]) -> Outcome:
        """Run ``program`` to its end and return how it ended; nothing of it is alive afterwards.

        ``on_call`` is called, in this thread and in order, with each re-* call; who waits for the call goes on when
        it returns.  An exception of it kills the program and is raised.  ``cancelled`` is asked ten times a second.
        Raises ExecutorFailed when the program was not started.
        """


@dataclass(frozen=True)
class Workplace:
    """The run directory: ``work`` is the program's, what lies beside it is ours."""

    path: Path
    owner: int  # uid of the program
    group: int

    @classmethod
    def make(cls, path: Path, owner: int | None = None) -> "Workplace":
        """Make the run directory at ``path`` for programs of uid ``owner`` (None: as ``program_user`` says).

        What is there already is removed: nobody else can have the attempt that it is named by.
        """
        place = cls(path, *program_user(owner))
        try:
            place._lay()
        except FileExistsError:  # of a claim that a database lost in its crash: the same attempt is made again
            place.remove()
            place._lay()
        for log in (place.stdout, place.messages):
            os.close(os.open(log, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            os.link(log, place.work / log.name)  # the program may read it; ours cannot be swapped under us
        return place

    def _lay(self) -> None:
        if spare.take(self.path, self.owner):
            return
        self.path.mkdir(mode=0o755, parents=True)
        for folder in (self.work, self.temporary):
            folder.mkdir(mode=0o700)
            if self.owner != os.geteuid():
                os.chown(folder, self.owner, self.group)

    @kept
    def work(self) -> Path:
        """The program's working directory."""
        return self.path / "work"

    @kept
    def temporary(self) -> Path:
        """The program's folder for temporary files."""
        return self.work / ".tmp"

    @kept
    def stdout(self) -> Path:
        """Standard output and error together."""
        return self.path / "stdout.txt"

    @kept
    def messages(self) -> Path:
        """Each re-* message as a JSON line."""
        return self.path / "jsonout.txt"

    def leave(self) -> None:
        """Give the run directory back: to the next run where nothing was left in it, else it is removed."""
        if not self._spared():
            self.remove()

    def _spared(self) -> bool:
        try:
            for log in (self.stdout, self.messages):
                (self.work / log.name).unlink()
                log.unlink()
            as_made = (
                spare.untouched(self.path, os.geteuid(), 0o755, [self.work.name])
                and spare.untouched(self.work, self.owner, 0o700, [self.temporary.name])
                and spare.untouched(self.temporary, self.owner, 0o700, [])
            )
            return as_made and spare.give(self.path, self.owner)
        except OSError:
            return False

    def remove(self) -> None:
        """Remove the run directory, whatever the program made of it."""
        try:
            shutil.rmtree(self.path)
        except FileNotFoundError:
            return
        except (OSError, RecursionError):  # folders without rights, or nested past what Python walks
            subprocess.run(["chmod", "-R", "u+rwX", "--", self.path], check=False, stderr=subprocess.DEVNULL)
            subprocess.run(["rm", "-rf", "--", self.path], check=True)


def program_user(uid: int | None = None) -> tuple[int, int]:
    """Return uid and gid for programs: ``uid`` or nobody where we are root, else our own; never root."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    chosen = NOBODY if uid is None else uid
    if chosen == 0:
        raise ExecutorFailed("Programs never run as root")
    try:
        return chosen, pwd.getpwuid(chosen).pw_gid
    except KeyError:
        return chosen, chosen


def user_id(name: str) -> int:
    """Return the number of the user ``name``, which may be a number itself.  ExecutorFailed where there is none."""
    try:
        return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except KeyError as error:
        raise ExecutorFailed(f"There is no user {name!r} for programs to run as") from error


def reachable(path: Path, uid: int) -> Path | None:
    """Return the first folder on the way to ``path`` (itself included) that ``uid`` may not enter, else None."""
    return next((folder for folder in _way(path) if not _enters(folder, uid)), None)


@lru_cache(maxsize=64)
def _way(path: Path) -> tuple[Path, ...]:
    """Return the folders on the way to ``path``, itself last, without links."""
    real = path.resolve()
    return (*reversed(real.parents), real)


def _enters(folder: Path, uid: int) -> bool:
    state = folder.stat()
    right = stat.S_IXUSR if state.st_uid == uid else stat.S_IXGRP if state.st_gid == uid else stat.S_IXOTH
    return bool(state.st_mode & right)
