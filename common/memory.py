"""How this process's allocator keeps what was freed: glibc's habits suit few threads and few large buffers.

And what its collector looks at: the program itself is never garbage.
"""

import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h


def restrain() -> None:
    """Give memory back that a large request took; without effect where the C library is not glibc.

    By default each thread gets a pool of its own, and a buffer of up to 32 MiB, once freed, is kept in it: sixteen
    threads that each saw one list of 100,000 files held it sixteen times.  Blocks of 1 MiB, which every stream takes,
    stay below the thresholds: to map each anew would cost more than to fill it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, 2)
        mallopt(_MMAP_THRESHOLD, 4 << 20)
        mallopt(_TRIM_THRESHOLD, 4 << 20)  # of each of the two pools


def trim() -> None:
    """Give back what was freed between other things too: after work whose memory grows with what it is done on."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def settle() -> None:
    """Leave what is in memory now, once everything is loaded, out of every later search for garbage.

    Such a search takes 20 to 40 ms, and begins in the middle of whatever makes many objects: opening a dataset of 5,000
    files took 25 ms, or 65.  What is garbage already stays; to search for it now would give a forked process a copy of
    every page that it shares with its parent.
    """
    gc.freeze()
