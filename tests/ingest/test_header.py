"""Header blocks: what a reader remembers of the last one changes nothing about the next."""

from typing import Any

import pytest

from pacifica.ingest.bundle import BundleError
from pacifica.ingest.header import Headers
from pacifica.tests.ingest.samples import GNU, header, mended


def told(headers: Headers, block: bytes) -> Any:
    """Return what is read in ``block``, or the code of the refusal."""
    try:
        return headers.read(block, 512)
    except BundleError as error:
        return error.code


@pytest.mark.parametrize("mend", [False, True], ids=["damaged", "checksum-mended"])
@pytest.mark.parametrize("usual", [header(b"data/x", 7), header(b"data/x", 7, magic=GNU)], ids=["ustar", "gnu"])
def test_a_header_means_the_same_after_another_as_alone(usual: bytes, mend: bool) -> None:
    for at in range(len(usual)):
        for value in (0x00, 0x20, 0x31, usual[at] ^ 0x01, 0xFF):
            changed = usual[:at] + bytes([value]) + usual[at + 1 :]
            block = mended(changed) if mend else changed
            headers = Headers()
            told(headers, usual), told(headers, usual)
            assert told(headers, block) == told(Headers(), block), (at, value)
            assert told(headers, usual) == (b"data/x", 7, told(Headers(), usual)[2])
