"""The verbs of datasets, each kept twice: in process on the storage host, and over HTTP."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from pacifica.common import config, orm
from pacifica.common.errors import ServiceError
from pacifica.datasafe import manifest
from pacifica.datasafe.client import Client
from pacifica.datasafe.faults import Refused
from pacifica.datasafe.local import connect
from pacifica.datasafe.remote import HttpClient
from pacifica.tests.system.datasets import manifest_of, zipped
from pacifica.tests.system.suite import Suite

SERIES = "42.1001/ds/exp/sa/42/cwepr"
FILES = {"a.dat": b"data", "sub/b c.dat": b"more" * 500_000, "ä.info": b"cwEPR Info file - v. 0.1.4 (2020-01-21)",
         "empty.dat": b""}  # fmt: skip


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite at work, whose default user is an administrator."""
    suite = Suite(tmp_path_factory.mktemp("clients") / "data", {"PACIFICA_AUTH_ADMINISTRATORS": "root"})
    try:
        yield suite.start()
    finally:
        suite.kill()


@pytest.fixture(params=["local", "remote"])
def client(request: pytest.FixtureRequest, suite: Suite) -> Iterator[Client]:
    if request.param == "remote":
        with HttpClient(suite.urls["datasafe"]) as client:
            yield client
        return
    orm.disconnect()
    try:
        yield connect(suite.data, username="root")
    finally:
        orm.disconnect()
        config.embed(None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "measured", FILES)


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(call: Callable[[], object]) -> list[tuple[str, str | None]]:
    with pytest.raises(Refused) as caught:
        call()
    return [(fault.code, fault.file) for fault in caught.value.faults]


def failed(call: Callable[[], object]) -> str:
    with pytest.raises(ServiceError) as caught:
        call()
    return caught.value.code


def test_a_folder_comes_back_as_it_was(client: Client, folder: Path, tmp_path: Path) -> None:
    loi = client.create(SERIES)
    sent = client.upload(loi, folder, message="measured")
    assert (sent.version, sent.files, sent.data, sent.all, sent.left) == (1, 5, True, True, ())
    assert content(folder) == FILES  # nothing was written there
    fetched = client.download(loi, tmp_path / "back")
    found = content(tmp_path / "back")
    listed = manifest.read(found.pop(manifest.NAME))
    assert found == FILES and fetched.bytes == sent.bytes
    assert (listed.loi, listed.metadata, set(listed.data)) == (loi, ("ä.info",), set(FILES) - {"ä.info"})
    assert listed.document["files"]["metadata"][0]["format"] == "cwEPR Info file"
    assert list(tmp_path.glob(".*")) == []
    assert client.verify(loi, tmp_path / "back").findings == client.verify(loi).findings == ()


def test_versions_stay_and_are_listed(client: Client, folder: Path, tmp_path: Path) -> None:
    loi = client.create(SERIES)
    client.upload(loi, folder)
    (folder / "a.dat").write_bytes(b"calibrated")
    assert client.update(loi, folder, message="calibrated").version == 2
    client.download(loi, tmp_path / "one", 1)
    assert (tmp_path / "one" / "a.dat").read_bytes() == b"data"
    told = client.versions(loi)
    said = [(one["version"], one["author"], one["message"]) for one in told]
    assert said == [(1, "root", "Stored."), (2, "root", "calibrated")]
    files = {one["name"]: one["size"] for one in client.files(loi)}
    assert files["a.dat"] == 10 and manifest.NAME in files
    (listed,) = client.ls(loi)
    assert (listed.loi, listed.version, listed.files, listed.owner) == (loi, 2, 5, "root") and listed.stored


def test_a_folder_that_differs_is_told_file_by_file(client: Client, folder: Path, tmp_path: Path) -> None:
    loi = client.create(SERIES)
    client.upload(loi, folder)
    client.download(loi, tmp_path / "back")
    (tmp_path / "back" / "a.dat").write_bytes(b"dato")
    (tmp_path / "back" / "empty.dat").unlink()
    (tmp_path / "back" / "sub" / "new").symlink_to("/etc/hostname")
    found = {(one.kind, one.file) for one in client.verify(loi, tmp_path / "back").findings}
    assert found == {("changed", "a.dat"), ("missing", "empty.dat"), ("unexpected", "sub/new")}


def test_what_cannot_be_is_refused_and_changes_nothing(client: Client, folder: Path, tmp_path: Path) -> None:
    loi = client.create(SERIES)
    assert failed(lambda: client.update(loi, folder)) == "dataset_empty"
    assert failed(lambda: client.download(loi, tmp_path / "back")) == "no_version"
    assert failed(lambda: client.upload(f"{SERIES}/999999", folder)) == "no_such_dataset"
    assert failed(lambda: client.upload(f"{SERIES}/007", folder)) == "invalid_loi"
    assert failed(lambda: client.create("42.1001/ds/calc/geo")) == "not_experiment_loi"
    client.upload(loi, folder)
    assert failed(lambda: client.upload(loi, folder)) == "dataset_exists"
    assert failed(lambda: client.download(loi, tmp_path / "back", 7)) == "no_such_version"
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError):
        client.download(loi, tmp_path / "there")
    with pytest.raises(FileNotFoundError):
        client.update(loi, tmp_path / "absent")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["measured", "there"]
    assert len(client.versions(loi)) == 1


def test_the_manifest_of_the_folder_is_kept_byte_for_byte_and_must_fit(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    listing = b"# by hand\n" + manifest_of(FILES)
    written(folder, {manifest.NAME: listing, "notes.txt": b"not listed", ".hidden": b""})
    loi = client.create(SERIES)
    assert client.upload(loi, folder).left == (".hidden", "notes.txt")
    client.download(loi, tmp_path / "back")
    assert content(tmp_path / "back") == FILES | {manifest.NAME: listing}
    (folder / "a.dat").write_bytes(b"rotten")
    assert refused(lambda: client.update(loi, folder)) == [("checksum_mismatch", manifest.NAME)]
    (folder / "a.dat").unlink()
    assert refused(lambda: client.update(loi, folder)) == [("file_absent", "a.dat")]
    assert len(client.versions(loi)) == 1 and (folder / manifest.NAME).read_bytes() == listing


def test_a_folder_that_is_no_dataset_is_refused_before_anything_is_sent(client: Client, tmp_path: Path) -> None:
    loi = client.create(SERIES)
    only = written(tmp_path / "only", {"a.dat": b""})
    assert refused(lambda: client.upload(loi, only)) == [("manifest_incomplete", None)]
    written(only, {"a.info": b"", "A.dat": b"", "b\\c": b""})
    (only / "link.dat").symlink_to("/etc/hostname")
    assert set(refused(lambda: client.upload(loi, only))) == {("name_backslash", "b\\c"), ("zip_special", "link.dat")}
    (only / "link.dat").unlink()
    (only / "b\\c").unlink()
    assert refused(lambda: client.upload(loi, only)) == [("name_twin", "a.dat")]
    assert failed(lambda: client.download(loi, tmp_path / "back")) == "no_version"


def test_a_pattern_takes_one_measurement_of_many_in_a_folder(client: Client, tmp_path: Path) -> None:
    files = {f"{name}.{kind}": name.encode() for name in ("one", "two") for kind in ("DSC", "DTA", "info")}
    folder = written(tmp_path / "day", files | {manifest.NAME: b"of another", ".one.info": b""})
    loi = client.create(SERIES)
    sent = client.upload(loi, folder, pattern="two")
    assert (sent.files, sent.left) == (4, (".one.info", "one.DSC", "one.DTA", "one.info"))
    client.download(loi, tmp_path / "back")
    assert manifest.read((tmp_path / "back" / manifest.NAME).read_bytes()).data_format == "Bruker BES3T"


def test_a_version_is_exported_as_a_valid_bag(
    client: Client, folder: Path, tmp_path: Path, judge: Callable[..., str]
) -> None:
    loi = client.create(SERIES)
    client.upload(loi, folder, message="why")
    client.export(loi, tmp_path / "bag")
    program = "import bagit, sys; b = bagit.Bag(sys.argv[1]); b.validate(); print(b.info['External-Identifier'])"
    assert judge("-c", program, tmp_path / "bag").strip() == loi
    assert {name: (tmp_path / "bag" / "data" / name).read_bytes() for name in FILES} == FILES
    assert "Internal-Sender-Description: why" in (tmp_path / "bag" / "bag-info.txt").read_text()


def test_a_labinform_tree_is_taken_over_twice(client: Client, tmp_path: Path) -> None:
    issuer = {"LocalClient": "2001", "HttpClient": "2002"}[type(client).__name__]
    place = tmp_path / "safe" / "exp" / "sa" / "7" / "cwepr"
    for number, files in ((1, FILES), (2, {})):
        (place / str(number)).mkdir(parents=True)
        written(place / str(number), files | ({manifest.NAME: manifest_of(files)} if files else {}))
    shutil.copytree(place / "1", place / "3")
    (place / "3" / "a.dat").write_bytes(b"rot!")

    def taken() -> list[str]:
        return [outcome.state for outcome in client.take_over(tmp_path / "safe", issuer, "ada")]

    assert taken() == ["taken", "reserved", "damaged"] and taken() == ["known", "reserved", "damaged"]
    assert {one.owner for one in client.ls(f"42.{issuer}/")} == {"ada"}
    (place / "1" / "a.dat").write_bytes(b"other")
    (place / "1" / manifest.NAME).write_bytes(manifest_of(FILES | {"a.dat": b"other"}))
    assert taken() == ["left", "reserved", "damaged"]


def test_a_damaged_dataset_is_told_and_never_written(
    client: Client, folder: Path, tmp_path: Path, suite: Suite
) -> None:
    loi = client.create(SERIES)
    client.upload(loi, folder)
    (stored,) = [path for path in suite.archive.glob("datasets/**/v1/content/a.dat") if loi_of(path) == loi]
    stored.chmod(0o600)
    stored.write_bytes(b"dat!")
    found = [(one.kind, one.file) for one in client.verify(loi).findings]
    assert found in ([("changed", "v1 a.dat")], [("changed", "a.dat")])
    for call in (client.download, client.export):
        assert failed(lambda call=call: call(loi, tmp_path / "back")) == "damaged"
        assert [path.name for path in tmp_path.iterdir()] == ["measured"]


def loi_of(path: Path) -> str:
    return path.parents[2].name.replace("%3a", ":").replace("%2e", ".").replace("%2f", "/").removeprefix("loi:")


def test_a_dataset_of_the_original_rules_is_fetched(client: Client, suite: Suite, tmp_path: Path) -> None:
    loi = client.create(SERIES)
    requests.put(f"{suite.urls['datasets']}/{loi}", zipped(FILES), timeout=60).raise_for_status()
    client.download(loi, tmp_path / "back")
    assert content(tmp_path / "back") == FILES | {manifest.NAME: manifest_of(FILES)}
