"""Stand beside a running program: carry its messages and output, watch its limits, end it."""

import contextlib
import json
import os
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from .channel import Call, Channel
from .disk import DiskWatch
from .executor import ExecutorFailed, Limits, Outcome, Workplace
from .pipes import Pipes, memory_file
from .preamble import STARTED
from .processes import Usage, tree, usage

TICK_SECONDS = 0.1
AWAKE_SECONDS = 0.0003  # after an answer to who calls so often: to fall asleep and wake takes longer than to answer
READ_BYTES = 1 << 16


@dataclass
class Supervisor:
    """Runs one command to its end.

    ``kill(pid, quiet)`` ends all of it, given the pid of its first process, where that is not the first of a
    namespace; ``quiet`` says that the program ended by itself and that no process holds its message pipe any more.
    """

    workplace: Workplace
    limits: Limits
    on_call: Callable[[Call], None]
    cancelled: Callable[[], bool]
    kill: Callable[[int, bool], None]
    ended: str = "exited"
    started: bool = False
    inner: int | None = None  # pidfd of the first process inside a namespace, once known
    peak: Usage = Usage(0.0, 0, 0)
    written: int = 0
    dropped: int = 0
    answered: float = 0.0
    often: bool = False
    channel: Channel = field(default_factory=Channel)

    def run(
        self,
        command: Sequence[str],
        script: bytes,
        environment: Mapping[str, str],
        pipes: Pipes,
        extra: tuple[int, ...] = (),
    ) -> Outcome:
        """Start ``command`` with ``script`` as standard input and stay until everything of it is gone."""
        begun = time.monotonic()
        # a file, not a pipe: bash reads a pipe byte by byte
        with memory_file(script) as stdin, self.workplace.stdout.open("ab", buffering=0) as log:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=stdin,
                    stdout=pipes.stdout[1],
                    stderr=pipes.stdout[1],
                    env=dict(environment),
                    cwd=self.workplace.work,
                    start_new_session=True,
                    pass_fds=(*pipes.handed, *extra),
                )
            except OSError as error:
                raise ExecutorFailed(f"{command[0]} cannot be started: {error.strerror}") from error
            pipes.close(pipes.stdout[1], pipes.messages[1], pipes.info[1])
            quiet = False
            try:
                self._watch(process, pipes, log, begun)
                quiet = self.ended == "exited" and self._silent(pipes)
            finally:
                self._end(process, quiet)
            self._drain(pipes, log)
        if not self.started and self.ended == "exited":
            raise ExecutorFailed("The program was not started: " + _tail(self.workplace.stdout))
        return self._outcome(process.returncode, time.monotonic() - begun)

    def _watch(self, process: subprocess.Popen[bytes], pipes: Pipes, log: IO[bytes], begun: float) -> None:
        """Carry what comes until the first process has ended or has to."""
        disk = DiskWatch(self.workplace.work, self.limits)
        with selectors.DefaultSelector() as selector, _pidfd(process.pid) as ended:
            selector.register(ended, selectors.EVENT_READ, None)
            selector.register(pipes.stdout[0], selectors.EVENT_READ, lambda: self._carry(pipes.stdout[0], log))
            selector.register(pipes.messages[0], selectors.EVENT_READ, lambda: self._listen(pipes))
            selector.register(pipes.info[0], selectors.EVENT_READ, lambda: self._inform(pipes.info[0]))
            due = begun + TICK_SECONDS
            while True:
                over = False
                for key, _ in self._ready(selector, due):
                    if key.data is None:
                        over = True
                    elif not key.data():
                        selector.unregister(key.fd)
                if over:
                    return
                if time.monotonic() >= due:
                    due = time.monotonic() + TICK_SECONDS
                    self.ended = self._judge(process.pid, begun, disk)
                    if self.ended != "exited":
                        return

    def _ready(self, selector: selectors.BaseSelector, due: float) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait until ``due`` for something to do."""
        while (now := time.monotonic()) < self.answered + AWAKE_SECONDS and self.often:
            if found := selector.select(0):
                return found
        return selector.select(max(due - now, 0))

    def _judge(self, pid: int, begun: float, disk: "DiskWatch") -> str:
        """Return what the program has to be ended by, ``exited`` if by nothing."""
        limits = self.limits
        if self.cancelled():
            return "cancelled"
        if limits.wall_seconds is not None and time.monotonic() - begun > limits.wall_seconds:
            return "wall_time"
        pids = tree(pid)
        now = usage(pids, limits.memory_bytes)
        self.peak = Usage(
            max(now.cpu_seconds, self.peak.cpu_seconds),
            max(now.memory_bytes, self.peak.memory_bytes),
            max(now.processes, self.peak.processes),
        )
        if limits.cpu_seconds is not None and now.cpu_seconds > limits.cpu_seconds:
            return "cpu_time"
        if limits.memory_bytes is not None and now.memory_bytes > limits.memory_bytes:
            return "memory"
        return "disk" if disk.full(pids) else "exited"

    def _carry(self, source: int, log: IO[bytes]) -> bool:
        """Append what has been printed to the log; False at the end."""
        data = _read(source)
        if data:
            room = max(self.limits.stdout_bytes - self.written, 0)
            if room:
                log.write(data[:room])
            self.written += min(room, len(data))
            self.dropped += max(len(data) - room, 0)
        return data != b""

    def _listen(self, pipes: Pipes) -> bool:
        data = _read(pipes.messages[0])
        for call in self.channel.feed(data or b""):
            if call.name == STARTED and not self.started:
                self.started = True
                continue
            self.on_call(call)
            if call.answer:
                pipes.answer(call)
                now = time.monotonic()
                self.often = now - self.answered < 2 * AWAKE_SECONDS
                self.answered = now
        return data != b""

    def _silent(self, pipes: Pipes) -> bool:
        """Read the messages that are there; tell whether the pipe is at its end."""
        while _read_ahead(pipes.messages[0]):
            if not self._listen(pipes):
                return True
        return False

    def _inform(self, source: int) -> bool:
        """Learn from bubblewrap which process is the first inside."""
        data = _read(source)
        if data:
            with contextlib.suppress(ValueError, KeyError, ProcessLookupError):
                self.inner = os.pidfd_open(int(json.loads(data)["child-pid"]))
        return data != b""

    def _end(self, process: subprocess.Popen[bytes], quiet: bool) -> None:
        """Kill all that is left and wait until it is gone."""
        if self.inner is None:
            self.kill(process.pid, quiet)
        else:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.inner, signal.SIGKILL)  # a pid might be another's by now
        process.wait()
        if self.inner is not None:
            with selectors.DefaultSelector() as selector:
                selector.register(self.inner, selectors.EVENT_READ)
                selector.select(10)  # the kernel ends it only after all others in its namespace
            os.close(self.inner)

    def _drain(self, pipes: Pipes, log: IO[bytes]) -> None:
        """Take what is still in the pipes; bounded, for a process that got away could write for ever."""
        for _ in range(64):
            if not _read_ahead(pipes.messages[0]) or not self._listen(pipes):
                break
        for _ in range(64):
            if not _read_ahead(pipes.stdout[0]) or not self._carry(pipes.stdout[0], log):
                break
        if self.dropped:
            log.write(f"\n... {self.dropped} bytes more were printed and not kept\n".encode())

    def _outcome(self, returncode: int, seconds: float) -> Outcome:
        code = returncode if returncode >= 0 else 128 - returncode
        ended = self.ended
        if ended == "exited" and self.limits.cpu_seconds and code == 128 + signal.SIGXCPU:
            ended = "cpu_time"  # the kernel ends one process at its own limit, between two looks of ours
        return Outcome(
            returncode=code if ended == "exited" else 137,
            ended=ended,
            seconds=seconds,
            cpu_seconds=self.peak.cpu_seconds,
            memory_bytes=self.peak.memory_bytes,
            stdout_bytes=self.written,
            stdout_dropped=self.dropped,
            noise=self.channel.noise,
        )


def _read(source: int) -> bytes | None:
    """Return what is there: nothing at the end, None when there is nothing yet."""
    try:
        return os.read(source, READ_BYTES)
    except BlockingIOError:
        return None


def _read_ahead(source: int) -> bool:
    """Tell whether a read would return at once, with data or at the end."""
    return bool(select.select([source], [], [], 0)[0])


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _tail(path: Path) -> str:
    return path.read_bytes()[-500:].decode("utf-8", "replace").strip()
