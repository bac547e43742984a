"""Choose the executor that the settings name."""

from .bubblewrap import BubblewrapExecutor
from .executor import Executor, ExecutorFailed
from .local import LocalExecutor
from .null import NullExecutor

NAMES = ("bubblewrap", "local", "null")


def choose(name: str) -> Executor:
    """Return the executor ``name``.  Never another in its place: a sandbox that is not there is an ExecutorFailed."""
    makers = {"bubblewrap": BubblewrapExecutor, "local": LocalExecutor, "null": NullExecutor}
    if name not in makers:
        raise ExecutorFailed(f"There is no executor {name!r}; choose one of {', '.join(NAMES)}")
    executor: Executor = makers[name]()
    return executor
