"""What clients declare of their bodies, and what becomes of those who cannot say it."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacifica.common.errors import BadRequest, ChecksumMismatch
from pacifica.common.integrity import declared


def sf(data: bytes, algorithm: str = "sha256") -> str:
    return f":{base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}:"


BODY = b"hello"
SHA256, SHA512 = sf(BODY), sf(BODY, "sha512")
MD5 = sf(BODY, "md5").strip(":")


@pytest.mark.parametrize(
    ("headers", "algorithms"),
    [
        ({}, []),
        ({"Content-Digest": f"sha-256={SHA256}"}, ["sha256"]),
        ({"Repr-Digest": f"sha-512={SHA512}"}, ["sha512"]),
        ({"Content-Digest": f"sha-256={SHA256},sha-512={SHA512}"}, ["sha256", "sha512"]),
        ({"Content-Digest": f"  sha-256={SHA256} , sha-512={SHA512};a=1;b "}, ["sha256", "sha512"]),
        ({"Content-MD5": MD5}, ["md5"]),
        ({"Content-Digest": f"sha-256={SHA256}", "Content-MD5": MD5}, ["md5", "sha256"]),
        ({"Content-Digest": f"md5=:AAAA:, crc32c=:AAAAAA==:, sha-256={SHA256}"}, ["sha256"]),
        ({"Content-Digest": 'new="a \\" string", n=1.5, t=token, b=?1, flag, list=(1 "a");x, d=@5'}, []),
        ({"Content-Digest": f"sha-256={sf(b'x')}, sha-256={SHA256}"}, ["sha256"]),  # the last one counts
    ],
)
def test_known_algorithms_are_checked_and_unknown_ones_ignored(headers: dict[str, str], algorithms: list[str]) -> None:
    found = declared(headers)
    found.update(b"hel")
    found.update(memoryview(b"lo"))
    found.check()
    assert sorted(found.known()) == algorithms
    assert bool(found) == bool(algorithms)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Digest": ""},
        {"Content-Digest": "sha-256"},
        {"Content-Digest": "sha-256=abc"},
        {"Content-Digest": "sha-256=:AAAA:"},
        {"Content-Digest": "sha-256=:!!!:"},
        {"Content-Digest": "SHA-256=:AAAA:"},
        {"Repr-Digest": f"sha-256={SHA256},"},
        {"Repr-Digest": f"sha-256={SHA256} sha-512={SHA512}"},
        {"Repr-Digest": f"sha-256={SHA256};=1"},
        {"Repr-Digest": 'x="open'},
        {"Content-MD5": "AAAA"},
        {"Content-MD5": "not base64"},
        {"Content-MD5": f"{MD5}\N{LATIN SMALL LETTER E WITH ACUTE}"},
    ],
)
def test_what_cannot_be_read_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(BadRequest) as caught:
        declared(headers)
    assert caught.value.detail["header"] in headers


@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest", "Content-MD5"])
def test_other_bytes_are_told_with_both_digests(header: str) -> None:
    found = declared({header: MD5 if header == "Content-MD5" else f"sha-256={SHA256}"})
    found.update(b"hellO")
    with pytest.raises(ChecksumMismatch) as caught:
        found.check()
    assert caught.value.detail["header"] == header
    assert caught.value.detail["declared"] != caught.value.detail["received"]


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_no_text_is_more_than_refused(text: str) -> None:
    for header in ("Content-Digest", "Content-MD5"):
        try:
            declared({header: text})
        except BadRequest:
            continue
