"""What the collector looks at, and what the allocator gives back."""

import gc
import subprocess
import sys

from pacifica.common import memory


def test_what_is_loaded_is_left_out_of_every_later_search_for_garbage():
    before, after = [], []
    memory.settle()
    try:
        after = [[]]
        known = {id(one) for one in gc.get_objects()}
    finally:
        gc.unfreeze()
    assert id(before) not in known
    assert id(after) in known


def test_what_was_freed_between_other_things_is_given_back():
    code = """
import re
from pacifica.common import memory

def size():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) >> 10

memory.restrain()
held = [bytes(5000) for _ in range(20_000)]
kept = held[::20]
full = size()
del held
memory.trim()
print(full - size())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) > 30
