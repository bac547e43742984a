"""How fast the audit may read, and for how long."""

import time

CREDIT_SECONDS = 0.5  # of reading that was slower than allowed and may be made up for
STEP_SECONDS = 0.01  # shorter waits are saved up


class TimeUp(Exception):
    """The time that was given is over; nothing is wrong."""


class Pace:
    """Told of each read in bytes, waits so that there are no more than ``rate`` a second.

    Raises TimeUp once ``seconds`` have passed since it was made (None: never).
    """

    def __init__(self, rate: int, seconds: float | None = None) -> None:
        """Start the clock."""
        self._rate = rate
        self._end = None if seconds is None else time.monotonic() + seconds
        self._due = time.monotonic()  # when all that was read so far may have been read
        self.bytes = 0

    def __call__(self, count: int) -> None:
        """Account for ``count`` bytes."""
        self.bytes += count
        now = time.monotonic()
        self._due = max(self._due, now - CREDIT_SECONDS) + count / self._rate
        self.check()
        if self._due - now > STEP_SECONDS:
            left = self._due - now if self._end is None else min(self._due - now, max(0.0, self._end - now))
            time.sleep(left)

    def check(self) -> None:
        """Raise TimeUp when it is."""
        if self._end is not None and time.monotonic() >= self._end:
            raise TimeUp
