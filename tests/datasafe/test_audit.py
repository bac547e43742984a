"""The audit: whatever rots is found and named, nothing else is, and it goes on where it was stopped."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica.common import ledger, orm
from pacifica.common.archive import LocalArchive
from pacifica.common.interface import Incoming
from pacifica.common.volume import Volume
from pacifica.datasafe import audit, ocfl, packs, report
from pacifica.datasafe.config import Audit, Datasafe
from pacifica.datasafe.dataset import DatasetStore
from pacifica.datasafe.frames import Finding
from pacifica.datasafe.inventory import Author
from pacifica.datasafe.loi import series
from pacifica.datasafe.orm import SCHEMA, suspect
from pacifica.datasafe.pace import Pace, TimeUp
from pacifica.datasafe.safe import Safe
from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.datasets import Files, zipped
from pacifica.tests.system.suite import Suite, until

FAST = 1 << 40
LOI = series("42.1001/ds/exp/sa/42/cwepr").loi(1)
OBJECT = f"datasets/{ocfl.place(LOI)}"


@pytest.fixture(params=["sqlite"])
def safe(request: pytest.FixtureRequest, tmp_path: Path) -> Safe:
    """A dataset of two versions and two archived files, of 2.5 MiB and of 3 bytes."""
    request.getfixturevalue(request.param)
    SCHEMA.sync()
    made = Safe(Volume(tmp_path / "archive", 0), Datasafe())
    assert made.create(LOI.series, "ada") == LOI
    put(made, {"a.dat": b"one" * 1000, "sub/b.dat": b"b" * 3_000_000, "x.info": b"meta"}, first=True)
    put(made, {"a.dat": b"two", "sub/b.dat": b"b" * 3_000_000, "x.info": b"meta"}, first=False)
    for id, content in ((1, bytes(range(256)) * 10_240), (2, b"abc")):
        incoming = Incoming(fill=io.BytesIO(content).readinto, length=None, mtime=1.0, owner="ada")
        LocalArchive(made.volume).put(id, incoming)
    audit.prepare()
    return made


def put(safe: Safe, files: Files, *, first: bool) -> None:
    safe.put(LOI, io.BytesIO(zipped(files)).readinto, None, Author(name="ada"), first=first)


def sweep(safe: Safe) -> dict[str, tuple[Finding, ...]]:
    """Check everything and return what was found, by thing."""
    done = {thing.name: audit.check(safe, thing, Pace(FAST)) for thing in audit.things()}
    return {name: outcome.findings for name, outcome in done.items() if outcome and outcome.findings}


def root(safe: Safe) -> Path:
    return safe.volume.root


def pack_of(safe: Safe, id: int, suffix: str = "") -> Path:
    return safe.volume.pack_path(ledger.find(id).pack).with_suffix(suffix)


def flip(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


def announced() -> list[dict[str, Any]]:
    found = [json.loads(body) for (body,) in orm.rows("SELECT body FROM outbox ORDER BY id")]
    return [event for event in found if event["type"] == "pacifica.dataset.damaged"]


# ---- nothing is wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("safe", ["sqlite", "postgresql"], indirect=True)
def test_what_is_sound_is_said_to_be_sound(safe: Safe) -> None:
    before = report.summary(Audit())
    assert (before["coverage"], before["things"]["dataset"]["unchecked"]) == (0.0, 1)
    assert before["oldest"]["ever_checked"] is False
    assert sweep(safe) == {}
    after = report.summary(Audit())
    assert after["coverage"] == 1.0 and after["findings_count"] == 0 and after["misread"] == 0
    assert {kind: part["sound"] for kind, part in after["things"].items()} == {"pack": 2, "dataset": 1, "volume": 3}
    assert {ledger.find(id).verdict for id in (1, 2)} == {ledger.SOUND}
    assert announced() == [] and audit.things(orm.clock() - 1000) == []


# ---- something is --------------------------------------------------------------------------------------------------

FLIPPED = [
    "v1/content/a.dat", "v1/content/sub/b.dat", "v1/content/MANIFEST.yaml", "v2/content/a.dat", "inventory.json",
    "inventory.json.sha512", "v1/inventory.json", "v2/inventory.json.sha512", "0=ocfl_object_1.1",
    "extensions/pacifica-blocks/v1.txt",
]  # fmt: skip


def dataset_findings(safe: Safe) -> list[tuple[str, str]]:
    """Check the dataset alone."""
    thing = next(thing for thing in audit.things() if thing.kind == "dataset")
    outcome = audit.check(safe, thing, Pace(FAST))
    assert outcome is not None
    return [(finding.kind, finding.path) for finding in outcome.findings]


def test_a_flipped_bit_in_a_dataset_is_found_named_and_announced(safe: Safe) -> None:
    for path in FLIPPED:
        flip(root(safe) / OBJECT / path, 0)
        assert dataset_findings(safe) == [("changed", path)]
        flip(root(safe) / OBJECT / path, 0)
        assert dataset_findings(safe) == []
    told = [(event["subject"], event["data"]["findings"][0]["path"]) for event in announced()]
    assert told == [(f"datasets/{LOI}", path) for path in FLIPPED]


def test_a_missing_file_of_a_dataset_is_found_and_named(safe: Safe, tmp_path: Path) -> None:
    for path in FLIPPED:
        lost = root(safe) / OBJECT / path
        lost.rename(tmp_path / "kept")
        assert ("missing", path) in dataset_findings(safe)
        (tmp_path / "kept").rename(lost)
    assert dataset_findings(safe) == []


def test_every_bad_file_of_every_kind_is_named(safe: Safe) -> None:
    folder = root(safe) / OBJECT
    os.truncate(folder / "v1/content/sub/b.dat", 2_000_000)
    flip(folder / "v2/content/a.dat")
    (folder / "v1/content/a.dat").unlink()
    (folder / "v1/content/more").write_bytes(b"")
    found = {finding.path: (finding.kind, finding.files) for finding in sweep(safe)[str(LOI)]}
    assert found == {
        "v1/content/sub/b.dat": ("short", ("v1 sub/b.dat", "v2 sub/b.dat")),
        "v2/content/a.dat": ("changed", ("v2 a.dat",)),
        "v1/content/a.dat": ("missing", ("v1 a.dat",)),
        "v1/content/more": ("unexpected", ()),
    }


def test_a_dataset_that_is_gone_is_missing(safe: Safe) -> None:
    shutil.rmtree(root(safe) / OBJECT)
    assert [(finding.kind, finding.path) for finding in sweep(safe)[str(LOI)]] == [("missing", OBJECT)]


@pytest.mark.parametrize("at", [0, (1 << 20) - 1, 1 << 20, 2_600_000])
def test_a_flipped_bit_in_a_pack_is_found_and_its_file_named(safe: Safe, at: int) -> None:
    flip(pack_of(safe, 1), at)
    found = sweep(safe)
    assert [*found] == [ledger.find(1).pack]
    (finding,) = found[ledger.find(1).pack]
    assert (finding.kind, finding.files) == ("changed", ("1",)) and finding.path.endswith(ledger.find(1).pack)
    assert (ledger.find(1).verdict, ledger.find(2).verdict) == (ledger.DAMAGED, ledger.SOUND)
    (event,) = announced()
    assert event["subject"] == f"packs/{ledger.find(1).pack}" and event["data"]["files"] == [1]
    assert event["data"]["owner"] == "ada"


@pytest.mark.parametrize(
    ("spoil", "kind", "suffix"),
    [
        (Path.unlink, "missing", ""),
        (lambda path: os.truncate(path, 1_500_000), "short", ""),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "changed", ""),
        (Path.unlink, "missing", ".json"),
        (lambda path: flip(path, 60), "changed", ".json"),
    ],
)
def test_what_else_can_become_of_a_pack_is_told(
    safe: Safe, spoil: Callable[[Path], object], kind: str, suffix: str
) -> None:
    path = pack_of(safe, 1, suffix)
    path.chmod(0o600)
    spoil(path)
    findings = sweep(safe)[ledger.find(1).pack]
    assert (findings[0].kind, findings[0].path) == (kind, str(path.relative_to(root(safe))))
    assert ledger.find(1).verdict == (ledger.DAMAGED if kind in ("missing", "short") and not suffix else ledger.SOUND)


@pytest.mark.parametrize("step", ["verify", "_locked"])
def test_a_dataset_that_is_deleted_as_its_check_begins_is_no_finding(
    safe: Safe, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    (thing,) = (thing for thing in audit.things() if thing.kind == "dataset")
    with monkeypatch.context() as patched:

        def meanwhile(self: DatasetStore, *given: Any) -> Any:
            patched.undo()
            safe.delete(LOI, "root", "meanwhile")
            return getattr(self, step)(*given)

        patched.setattr(DatasetStore, step, meanwhile)
        assert audit.check(safe, thing, Pace(FAST)) is None
    assert report.findings() == []


def test_what_belongs_to_nothing_is_unexpected(safe: Safe) -> None:
    name = "ab" * 16
    strays = [safe.volume.packs / "ab/ab" / name, safe.volume.packs / "stray", safe.store.root / "stray"]
    strays.append(safe.store.root / ocfl.place(LOI.series.loi(7)))
    for path in strays[:3]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    shutil.copytree(root(safe) / OBJECT, strays[3])
    (safe.volume.packs / ".being-written").write_bytes(b"")
    found = [finding for findings in sweep(safe).values() for finding in findings]
    assert {finding.path for finding in found} == {str(path.relative_to(root(safe))) for path in strays}
    assert {finding.kind for finding in found} == {"unexpected"}


def test_the_register_and_the_root_are_looked_at_too(safe: Safe) -> None:
    entries = root(safe) / "datasets" / safe.register.path(LOI.series)
    flip(entries, 40)
    flip(safe.store.root / "ocfl_layout.json")
    found = [(finding.kind, finding.path) for findings in sweep(safe).values() for finding in findings]
    assert sorted(found) == [
        ("changed", f"datasets/{safe.register.path(LOI.series)}"),
        ("changed", "datasets/ocfl_layout.json"),
    ]


# ---- fairness ------------------------------------------------------------------------------------------------------


def test_a_first_read_that_a_second_does_not_confirm_accuses_nobody(
    safe: Safe, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, lied = packs._Reading.block, []

    def block(self: Any, number: int) -> bytes:
        data = honest(self, number)
        if number not in lied and data:
            lied.append(number)
            return bytes(len(data))
        return data

    monkeypatch.setattr(packs._Reading, "block", block)
    assert sweep(safe) == {}
    assert lied and report.summary(Audit())["misread"] >= 1


def test_damage_is_announced_once_and_forgotten_when_it_is_healed(safe: Safe) -> None:
    path = pack_of(safe, 2)
    flip(path)
    assert sweep(safe)
    since = report.findings()[0]["since"]
    assert sweep(safe)
    assert len(announced()) == 1 and report.findings()[0]["since"] == since
    flip(path)
    assert sweep(safe) == {} and report.findings() == []
    assert ledger.find(2).verdict == ledger.SOUND


def test_findings_are_told_to_whom_they_concern(safe: Safe) -> None:
    flip(pack_of(safe, 2))
    sweep(safe)

    class Viewer:
        administrator = service = False

        def __init__(self, name: str) -> None:
            self.name = name

    assert len(report.findings(Viewer("ada"))) == 1 and report.findings(Viewer("bob")) == []


# ---- pace ----------------------------------------------------------------------------------------------------------


def test_it_reads_no_faster_than_allowed() -> None:
    pace = Pace(1_000_000)
    begun = time.monotonic()
    for _ in range(30):
        pace(10_000)
    assert time.monotonic() - begun > 0.25


def test_an_audit_that_was_stopped_goes_on_with_the_oldest(safe: Safe) -> None:
    first = audit.things()[:2]
    for thing in first:
        audit.check(safe, thing, Pace(FAST))
    big = next(thing for thing in audit.things() if thing.kind == "dataset" or thing.size > 1000)
    with pytest.raises(TimeUp):
        audit.check(safe, big, Pace(FAST, seconds=0.0))
    later = audit.things()
    assert {thing.name for thing in later[-2:]} == {thing.name for thing in first}
    assert next(thing for thing in later if thing.name == big.name).since == big.since


def test_what_a_reader_suspects_is_checked_first(safe: Safe) -> None:
    suspect("dataset", str(LOI), "ada")
    due = audit.things(0.0)
    assert due[0].name == str(LOI)
    flip(root(safe) / OBJECT / "v1/content/sub/b.dat")
    assert audit.advance(safe, 86400.0, FAST, 5.0, {}) > 0
    assert [finding["name"] for finding in report.findings()] == [str(LOI)] and audit.things(1.0) == []


# ---- as users run it -----------------------------------------------------------------------------------------------


def command(suite: Suite, *words: str) -> "subprocess.CompletedProcess[str]":
    code = "import sys; from pacifica.datasafe.__main__ import cmd; sys.exit(cmd())"
    environment = os.environ | {
        "PACIFICA_DATABASE_PEEWEE_URL": f"sqlite:///{suite.data}/pacifica.db",
        "PACIFICA_ARCHIVE_PATH": str(suite.archive),
        "PACIFICA_AUDIT_RATE": "1 TB",
    }
    return subprocess.run(
        [sys.executable, "-c", code, "audit", *words], capture_output=True, text=True, env=environment, timeout=60
    )


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Suite]:
    """A suite of the test's own, in one process."""
    suite = Suite(tmp_path / "data")
    try:
        yield suite.start()
    finally:
        suite.kill()


def test_the_command_says_by_its_exit_code_how_it_ended(embedded: Suite) -> None:
    archived = embedded.upload(bundle({"run/a.dat": b"a" * 10_000, "b": b"b" * 2_000_000}))
    assert embedded.finished(archived["job_id"])["state"] == "OK"
    api = embedded.urls["datasets"]
    loi = requests.post(f"{api}/42.1001/ds/exp/sa/42/cwepr", timeout=60).text
    requests.put(f"{api}/{loi}", zipped({"a.dat": b"one", "x.info": b""}), timeout=60).raise_for_status()
    whole = command(embedded, "--json")
    told = json.loads(whole.stdout)
    assert (whole.returncode, told["sound"], told["left"]) == (0, 5, 0), whole.stderr
    assert told["bytes"] > 2_010_000
    assert command(embedded, "--loi", loi).stdout == "1 sound, 0 damaged, 0 unreadable, 0 left\n"
    part = json.loads(command(embedded, "--subset", "5%", "--json").stdout)
    assert 0 < part["sound"] < 5
    stopped = command(embedded, "--max-duration", "0")
    assert stopped.returncode == 4 and "time is up" in stopped.stdout
    (pack,) = embedded.packs()
    flip(embedded.archive / "packs" / pack[:2] / pack[2:4] / pack, 600)  # in the first member
    bad = command(embedded)
    assert bad.returncode == 3 and "run/a.dat" in bad.stdout, bad.stdout
    with pytest.raises(AssertionError, match="damaged"):
        embedded.content(embedded.files(archived["job_id"])[0]["_id"])


def test_the_worker_audits_by_itself_and_a_reader_that_meets_damage_hastens_it(own_suite: Suite) -> None:
    own_suite.start()
    api = own_suite.urls["datasets"]
    audited = f"{own_suite.urls['datasafe']}/audit"
    loi = requests.post(f"{api}/42.1001/ds/exp/sa/42/cwepr", timeout=60).text
    files = {"a.dat": bytes(range(256)) * 9000, "x.info": b"meta"}
    requests.put(f"{api}/{loi}", zipped(files), timeout=60).raise_for_status()
    assert requests.get(f"{api}/{loi}", timeout=60).headers["X-Pacifica-Integrity"] == "unchecked"
    (content,) = (own_suite.archive / "datasets").rglob("v1/content/a.dat")
    flip(content)
    broken = requests.get(f"{api}/{loi}", params={"file": "a.dat"}, timeout=60, stream=True)
    with pytest.raises(requests.exceptions.RequestException):
        assert len(broken.content) < len(files["a.dat"])
    found = until(lambda: requests.get(audited, timeout=60).json()["findings"], 30, "the finding")
    assert [(one["name"], one["kind"], one["path"]) for one in found] == [(loi, "changed", "v1/content/a.dat")]
    assert requests.get(f"{api}/{loi}", params={"file": "x.info"}, timeout=60).content == b"meta"
    early = requests.get(f"{api}/{loi}", timeout=60)
    assert (early.status_code, early.json()["code"]) == (500, "damaged")
    assert early.json()["files"] == ["a.dat"]


def test_the_worker_reads_everything_again_within_the_period(own_suite: Suite) -> None:
    own_suite.environment["PACIFICA_AUDIT_PERIOD_DAYS"] = "0.00002"
    own_suite.start()
    archived = own_suite.upload(bundle({"run/a.dat": b"a" * 10_000}))
    assert own_suite.finished(archived["job_id"])["state"] == "OK"
    audited = f"{own_suite.urls['datasafe']}/audit"

    def verdicts() -> dict[str, int]:
        return dict(requests.get(audited, timeout=60).json()["things"]["pack"])

    until(lambda: verdicts()["sound"] == 1, 30, "the first check")
    (pack,) = own_suite.packs()
    flip(own_suite.archive / "packs" / pack[:2] / pack[2:4] / pack, 600)
    until(lambda: verdicts()["damaged"] == 1, 30, "the next check")
