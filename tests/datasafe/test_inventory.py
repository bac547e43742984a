"""The inventory is read and written in parts, to the byte as the whole would be; one of another program is read too."""

import io
import json
from typing import Any

import msgspec
import pytest

from pacifica.common.errors import Damaged
from pacifica.datasafe import inventory
from pacifica.datasafe.inventory import Inventory
from pacifica.datasafe.spelling import CHUNK, pieces


def document(files: int) -> dict[str, Any]:
    state = {f"d{at}": [f"n{at}\n", f'ü{at}"', ' ],\n"}'] for at in range(files)}
    said = {"message": 'a\nb": {', "user": {"name": "ü", "address": "b"}}
    versions = {
        "v1": {"created": "2026-11-21T00:00:00Z", "state": state, **said},
        "v2": {"created": "y", "state": {}, "message": "m"},
        "v3": {"created": "z", "state": state},
    }
    held = {f"d{at}": [f"v1/content/{at}", *(["v3/content/x"] if at % 2 else [])] for at in range(files)}
    top = {"id": "loi:42.1/x", "type": "t", "digestAlgorithm": "sha512", "head": "v3"}
    return {**top, "manifest": held, "versions": versions, "fixity": {"md5": held, "sha1": {}}}


def spelt(tree: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(tree), indent=1) + b"\n"


@pytest.mark.parametrize("files", [0, 1, inventory.PIECE, CHUNK // 20])
def test_parts_are_the_whole(files: int) -> None:
    whole = spelt(document(files))
    found = Inventory(io.BytesIO(whole))
    assert b"".join(pieces(found.parts())) == whole
    assert dict(found.lists("versions", "v1", "state")) == document(files)["versions"]["v1"]["state"]
    assert max((len(part.entries) for part in found.parts()), default=0) <= 10_000


@pytest.mark.parametrize("indent", [None, 1, 2])
def test_what_another_program_has_spelt_is_read_too(indent: int | None) -> None:
    ours, theirs = (Inventory(io.BytesIO(raw)) for raw in (
        spelt(document(9)), json.dumps(document(9), indent=indent).encode()
    ))  # fmt: skip
    assert list(pieces(ours.parts())) == list(pieces(theirs.parts()))
    assert ours.head().versions == theirs.head().versions and ours.head().name == "v3"
    told = ours.head().versions[0].author
    assert (told.name, told.address, told.message) == ("ü", "b", 'a\nb": {')


@pytest.mark.parametrize("last", ["manifest", "state"])
def test_a_list_may_end_with_an_entry_of_nothing(last: str) -> None:
    tree = document(9)
    lists = {"manifest": tree["manifest"], "state": tree["versions"]["v1"]["state"]}
    lists[last] = lists[last] | {"d9": []}
    tree["manifest"], tree["versions"]["v1"]["state"] = lists["manifest"], lists["state"]
    found = Inventory(io.BytesIO(spelt(tree)))
    assert found.head().name == "v3"
    assert dict(found.lists("manifest")) == lists["manifest"]
    assert dict(found.lists("versions", "v1", "state")) == lists["state"]


@pytest.mark.parametrize("raw", [b"", b"{", b"{}", b"[]", b"{\n}\n", b'{"id": 1}', b"\xff", spelt(document(3))[:-40]])
def test_what_is_no_inventory_is_damaged(raw: bytes) -> None:
    with pytest.raises(Damaged):
        Inventory(io.BytesIO(raw)).head()


def test_an_earlier_inventory_comes_of_a_later_one() -> None:
    tree = document(5)
    tree |= {"head": "v2", "versions": {name: tree["versions"][name] for name in ("v1", "v2")}}
    tree["manifest"] = tree["fixity"]["md5"] = {f"d{at}": [f"v1/content/{at}"] for at in range(5)}
    made = inventory.as_of(Inventory(io.BytesIO(spelt(document(5)))), 2)
    assert b"".join(pieces(made)) == spelt(tree)
