"""How this process's allocator keeps what was freed: glibc's habits suit few threads and few large buffers."""

import ctypes

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
