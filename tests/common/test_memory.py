"""What the collector looks at."""

import gc

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
