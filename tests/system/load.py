"""Clients at work in threads of their own while something else happens."""

import threading
from collections.abc import Callable


class Load:
    """Runs each of ``work`` in a thread while a block runs; who works looks at ``ended`` between two jobs."""

    def __init__(self, *work: Callable[[], None]) -> None:
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=each) for each in work]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()
