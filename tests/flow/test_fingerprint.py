"""What decides whether a result is used again, while somebody changes it."""

from pathlib import Path

import pytest

from pacifica.flow import fingerprint


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    for name in ("align", "sort", "sub/trim"):
        (tmp_path / "tools" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tools" / name).write_text(name)
    return tmp_path / "tools"


def without(tools: Path) -> str:
    """Return the digest of a folder of tools that never had the second one."""
    other = tools.with_name("other")
    for name in ("align", "sub/trim"):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_text(name)
    return fingerprint._folder(other)


@pytest.mark.parametrize("part", ["_bytes", "stat"])
def test_a_tool_that_is_taken_away_while_it_is_looked_at_is_no_more(
    tools: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    whole = fingerprint._folder(tools)
    fingerprint._read.clear()
    owner = fingerprint if part == "_bytes" else Path
    original = getattr(owner, part)

    def look(path: Path, **options: bool) -> object:
        if path == tools / "sort":
            path.unlink(missing_ok=True)
        return original(path, **options)

    monkeypatch.setattr(owner, part, look)
    found = fingerprint._folder(tools)
    monkeypatch.undo()
    assert found == without(tools) != whole
