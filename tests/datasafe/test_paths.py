"""Names inside a dataset."""

import pytest

from pacifica.datasafe.paths import NameLimits, judge, twins

LIMITS = NameLimits()


@pytest.mark.parametrize(
    "name", ["a", "a.dat", "Ordner/Datei ä.dat", "12:30.dat", "a/b/c", ".hidden", "..a", "-x", "CON"]
)
def test_a_name_that_can_be_written_anywhere_is_taken(name: str) -> None:
    assert judge(name, LIMITS) is None


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", "name_absolute"), ("/etc/hostname", "name_absolute"), ("C:/win.txt", "name_absolute"),
        ("..\\x", "name_backslash"), ("../x", "name_traversal"),
        ("a/../b", "name_traversal"), ("./a", "name_traversal"),
        ("a//b", "name_traversal"), ("a\nb", "name_control"), ("a\x00b", "name_control"), ("a\x85b", "name_control"),
        ("a\u2028b", "name_control"), ("a\udc80b", "name_control"), ("x" * 256, "name_long"), ("ä" * 128, "name_long"),
        ("/".join("abcdefgh" * 20 for _ in range(9)), "name_long"), ("/".join("a" * 33), "name_deep"),
    ],
)  # fmt: skip
def test_other_names_are_refused_by_code(name: str, code: str) -> None:
    fault = judge(name, LIMITS)
    assert fault is not None and fault.code == code


@pytest.mark.parametrize(
    "names",
    [
        ["a", "a"], ["a.DSC", "A.dsc"], ["\u00e4", "a\u0308"], ["\u00c4", "a\u0308"], ["stra\u00dfe", "STRASSE"],
        ["Sub/x", "sub/y"], ["a", "a/b"], ["a/b", "A"], ["x/\u00e4/1", "x/a\u0308/2"],
    ],
)  # fmt: skip
def test_twins_are_found(names: list[str]) -> None:
    assert {fault.code for fault in twins(names)} == {"name_twin"}


def test_different_names_are_no_twins() -> None:
    assert not list(twins(["a", "b/a", "b/c/a", "b/c/b", "sub/ä", "sub/a"]))
