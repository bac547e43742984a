"""What a child process must not share with the parent that it was forked from: each room registers what it replaces.

Python tells of its own forks.  uWSGI forks in C and tells Python nothing, unless it is asked to by an option; without
``lazy-apps`` its workers would all speak through the connections that the application opened while it was loaded.
"""

import os
from collections.abc import Callable

try:
    import uwsgi  # exists only inside uWSGI
except ImportError:
    uwsgi = None

_hooks: list[Callable[[], None]] = []


def in_child(hook: Callable[[], None]) -> Callable[[], None]:
    """Run ``hook`` first thing in every forked child, in the order of registration; a decorator.

    It must bear being run twice, and may take no lock: who held it is in the parent.
    """
    _hooks.append(hook)
    return hook


def _begin() -> None:
    for hook in _hooks:
        hook()


os.register_at_fork(after_in_child=_begin)

if uwsgi is not None:
    _earlier = getattr(uwsgi, "post_fork_hook", None)  # of whoever else was loaded before us

    def _begin_worker() -> None:
        _begin()
        if _earlier is not None:
            _earlier()

    uwsgi.post_fork_hook = _begin_worker
