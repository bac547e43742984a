"""The pipes between a program and its host."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .channel import Call

FIRST_DESCRIPTOR = 60


@contextlib.contextmanager
def memory_file(content: bytes) -> Iterator[int]:
    """Yield the descriptor, closed on exec, of an anonymous file that holds ``content``."""
    descriptor = os.memfd_create("program", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass
class Pipes:
    """The descriptors of one run; ``handed`` are the program's ends.  ``folder`` is where its FIFOs will be."""

    owner: int
    folder: Path
    fifos: int = field(init=False)
    _open: set[int] = field(default_factory=set)
    stdout: tuple[int, int] = field(init=False)
    messages: tuple[int, int] = field(init=False)
    answers: tuple[int, int] = field(init=False)
    info: tuple[int, int] = field(init=False)

    def __enter__(self) -> "Pipes":
        self.stdout, self.messages, self.answers, self.info = (_pipe() for _ in range(4))
        self.fifos = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._open = {self.fifos, *self.stdout, *self.messages, *self.answers, *self.info}
        for ends in (self.stdout, self.messages, self.answers):
            for end in ends:
                if os.geteuid() == 0:
                    os.fchown(end, self.owner, -1)  # so that /dev/stdout and /proc/<pid>/fd/N open for the program
        for ours in (self.stdout[0], self.messages[0], self.info[0], self.answers[1]):
            os.set_blocking(ours, False)
        return self

    def __exit__(self, *exc: object) -> None:
        self.close(*self._open)

    def close(self, *ends: int) -> None:
        """Close ``ends``, each once only: a number that is closed belongs to another run's thread the next moment."""
        for end in ends:
            if end in self._open:
                self._open.remove(end)
                os.close(end)

    @property
    def handed(self) -> tuple[int, int]:
        """Messages and answers, as the program's shell uses them."""
        return self.messages[1], self.answers[0]

    def answer(self, call: Call) -> None:
        """Let the shell that waits go on; a program that made something else of its FIFO waits in vain."""
        with contextlib.suppress(OSError):
            if not call.fifo:
                os.write(self.answers[1], call.answer)
                return
            end = os.open(call.fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fifos)
            try:
                if stat.S_ISFIFO(os.fstat(end).st_mode):
                    os.write(end, call.answer)
            finally:
                os.close(end)


def _pipe() -> tuple[int, int]:
    """Make a pipe whose numbers are not those (3 to 9) that scripts open by hand."""
    low = os.pipe()
    try:
        read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR) for end in low)
        return read, write
    finally:
        for end in low:
            os.close(end)
