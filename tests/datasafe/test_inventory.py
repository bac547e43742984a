"""The inventory as it is written: in pieces, and to the byte as it always was."""

import msgspec
import pytest

from pacifica.datasafe import inventory
from pacifica.datasafe.inventory import Inventory, Version


def version(files: int, **said: object) -> Version:
    return Version("2026-11-21T00:00:00Z", {f"d{at}": [f"n{at}\n", f'ü{at}"'] for at in range(files)}, **said)  # type: ignore[arg-type]


@pytest.mark.parametrize("files", [0, 1, inventory.PIECE, 2 * inventory.PIECE + 1])
def test_pieces_are_the_whole(files: int) -> None:
    versions = {"v1": version(files, message="a\nb", user={"name": "ü"}), "v2": version(1), "v3": version(0)}
    held = {f"d{at}": [f"v1/content/{at}", "v2"] for at in range(files)}
    for fixity in ({}, {"md5": held}):
        made = Inventory("loi:42.1/x", "t", "sha512", "v3", held, versions, fixity)
        whole = msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n"
        raw, sidecar = inventory.write(made)
        assert raw == whole and inventory.matches(raw, sidecar) and inventory.read(raw) == made
