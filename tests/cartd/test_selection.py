"""A posted selection: what it holds, however its document is written, and what it costs."""

import json
import tracemalloc

import pytest

from pacifica.cartd.selection import BadSelection, Selection

SUM = "0" * 40


def entry(number, path=None):
    return {"id": number, "path": path or f"d/{number:06d}", "hashtype": "sha1", "hashsum": SUM}


def test_the_entries_are_the_list_s_own_whatever_stands_before_and_between_them():
    one, two = entry(1), entry(2)
    text = json.dumps(one)
    document = (
        f'{{"other": [{text}, 1], "x": "{{", "fileids" : [ {text} ,\n\t{json.dumps(two, indent=2)}\n] , "y": {text}}}'
    )
    assert [(wanted.id, wanted.path) for wanted in Selection(document.encode(), 10)] == [
        (1, "d/000001"),
        (2, "d/000002"),
    ]
    for bad in (1, True, None, [], "x"):
        with pytest.raises(BadSelection) as caught:
            Selection(json.dumps({"a": bad, "fileids": [one, bad, two, bad]}).encode(), 10)
        assert [fault["position"] for fault in caught.value.detail["faults"]] == [1, 3]


def test_each_entry_whose_path_came_before_is_told_in_the_order_of_the_document():
    paths = ["b", "a", "b", "a/x", "b", "c"]
    document = json.dumps({"fileids": [*(entry(n + 1, path) for n, path in enumerate(paths)), 5]}).encode()
    with pytest.raises(BadSelection) as caught:
        Selection(document, 10)
    told = [(fault.get("position"), fault["message"]) for fault in caught.value.detail["faults"]]
    again = "the path is in the selection twice"
    assert told[:2] == [(2, again), (4, again)]
    assert told[2][0] == 6
    assert told[3:] == [(None, "the path is a file and a folder")]


def test_a_selection_costs_little_beside_its_document():
    document = json.dumps({"fileids": [entry(number + 1) for number in range(20_000)]}).encode()
    tracemalloc.start()
    selection = Selection(document, 20_000)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(selection) == 20_000
    assert held < 20 * 20_000
    assert peak < 130 * 20_000
