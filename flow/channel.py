"""The pipe by which a program talks to its host: records of ``runtime/functions.sh`` put together again.

A record is ``<shell>.<call> <kind><wait> <piece>``, between newlines; see there.  What arrives is a
program's: never trusted.
"""

import json
from dataclasses import dataclass

MAX_MESSAGE = 32 << 20  # bytes of one call
MAX_OPEN = 256  # calls whose last piece has not come
MAX_HELD = 64 << 20  # bytes of all of those together
MAX_RECORD = 64 << 10
UNREADABLE = ""  # the name of a call that made no sense or was too long


@dataclass(frozen=True)
class Call:
    """One call of a re-* command: its name, the directory that it was made in, its arguments.

    Bytes that are no UTF-8 are kept as surrogates (as in ``os.fsdecode``).  ``answer`` is what to write back when
    the effect is done; empty when nobody waits.  It goes to the pipe of answers, or to the FIFO ``fifo``.
    """

    name: str
    directory: str
    arguments: tuple[str, ...]
    answer: bytes = b""
    fifo: str = ""


class Channel:
    """Puts records together; one per run."""

    def __init__(self) -> None:
        """Start with nothing received."""
        self._rest = b""
        self._open: dict[bytes, bytearray | None] = {}  # None: too long, the rest of it is dropped
        self._held = 0  # bytes in it
        self.noise = 0  # records that made no sense

    def feed(self, data: bytes) -> list[Call]:
        """Take what was read from the pipe, in any cut, and return the calls that are now whole, in order."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_RECORD:
            self._rest, self.noise = b"", self.noise + 1
        return [call for line in lines if line and (call := self._record(line))]

    def _record(self, line: bytes) -> Call | None:
        id, _, rest = line.partition(b" ")
        kind, wait, piece = rest[:1], rest[1:2], rest[3:]
        if rest[2:3] != b" " or wait not in (b"?", b"!", b"&") or kind not in (b"=", b"(", b"+", b")") or len(id) > 40:
            self.noise += 1
            return None
        if kind == b"(":
            if len(self._open) >= MAX_OPEN:
                self._take(next(iter(self._open)))  # the oldest is most likely dead
            self._take(id)
            self._open[id] = bytearray()
            self._add(id, piece)
            return None
        if kind == b"+" and id not in self._open:
            self.noise += 1
            return None
        if kind != b"=":
            self._add(id, piece)
            if kind == b"+":
                return None
            piece = self._take(id)
        return self._call(piece, id, wait)

    def _add(self, id: bytes, piece: bytes) -> None:
        """Put ``piece`` to what is there of a call, unless that is too long, or all of them together."""
        held = self._open.get(id)
        if held is None:
            return
        if len(held) + len(piece) > MAX_MESSAGE or self._held + len(piece) > MAX_HELD:
            self._take(id)
            self._open[id] = None
        else:
            held += piece
            self._held += len(piece)

    def _take(self, id: bytes) -> bytes:
        """Forget a call and return what was there of it."""
        held = bytes(self._open.pop(id, None) or b"")
        self._held -= len(held)
        return held

    def _call(self, text: bytes, id: bytes, wait: bytes) -> Call:
        shell = id.partition(b".")[0]
        answer = b"" if wait == b"!" else id + b"\n"
        fifo = f".re.{int(shell)}" if wait == b"&" and shell.isdigit() else ""
        try:
            parts = json.loads(text.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            parts = None
        if not isinstance(parts, list) or len(parts) < 2 or not all(isinstance(part, str) for part in parts):
            self.noise += 1
            return Call(UNREADABLE, "", (), answer, fifo)  # whoever waits must not wait for ever
        return Call(parts[0], parts[1], tuple(parts[2:]), answer, fifo)
