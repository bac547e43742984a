"""How fast somebody takes what is read for him, and so how much of it is held meanwhile.

Whole blocks are quickest, but each is held until its reader has accepted it, and who reads slowly held one for minutes.
So a download begins with parts of blocks, gets whole ones once it has proven quick, and parts again when it is not.
"""

import threading
import time

PART = 256 << 10  # bytes that are held for somebody who is slow
TRIAL = 16 << 20  # bytes that must have gone quickly: more than the buffers between us and the client take in
SLOW_SECONDS = 0.1  # a piece that took longer was taken slowly
WHOLE_MAX = 16  # blocks that the downloads of one process hold together; who comes later gets parts

_whole = threading.BoundedSemaphore(WHOLE_MAX)


class Eager:
    """The pace of a reader of ours, which waits for nobody: whole blocks."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self.last: tuple[object, int, bytes] = (None, 0, b"")  # of which pack, from where on, and checked bytes

    def lift(self) -> bool:
        """Tell whether a whole block may be held until ``put_down``."""
        return True

    def put_down(self, size: int) -> None:
        """Note that ``size`` bytes were taken since ``lift``."""


class Pace(Eager):
    """The pace of one download, of one thread, however many packs it reads."""

    def __init__(self) -> None:
        """Nothing was taken yet."""
        super().__init__()
        self._quick, self._lifted, self._since = 0, False, 0.0

    def lift(self) -> bool:
        """Tell whether a whole block may be held: the client is quick, and not too many others hold one."""
        self._lifted = self._quick >= TRIAL and _whole.acquire(blocking=False)
        self._since = time.monotonic()
        return self._lifted

    def put_down(self, size: int) -> None:
        """Note that ``size`` bytes were taken, and how long it took."""
        if self._lifted:
            self._lifted = False
            _whole.release()
        self._quick = 0 if time.monotonic() - self._since > SLOW_SECONDS else self._quick + size
