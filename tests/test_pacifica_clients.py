"""Pacifica's published uploader, downloader and cli, unmodified, against the suite alone: everything there and back."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pacifica.tests.system.originals import Originals
from pacifica.tests.system.suite import Suite

pytestmark = pytest.mark.timeout(600)

CLI = "import sys; from pacifica.common.cli import main; sys.exit(main())"
CATALOGUE = {
    "users": [
        {"_id": 10, "network_id": "dmlb2001", "first_name": "David", "last_name": "Brown", "email_address": "d@x.org"},
        {"_id": 11, "network_id": "other", "first_name": "Ann", "last_name": "Other"},
    ],
    "projects": [{"_id": "1234a", "title": "Pacifica Development"}, {"_id": "1235b", "title": "Somebody else's"}],
    "instruments": [{"_id": 54, "name": "nmr", "display_name": "NMR 750", "name_short": "nmr750", "active": True}],
    "project_user": [{"project": "1234a", "user": 10}, {"project": "1235b", "user": 11}],
    "project_instrument": [{"project": "1234a", "instrument": 54}],
    "instrument_user": [{"instrument": 54, "user": 10}],
}
FILES = {"run/a.txt": b"alpha\n", "run/deep/b.bin": bytes(range(256)) * 300, "run/ü.txt": "größe".encode()}


@pytest.fixture(scope="module", params=["open", "catalog"])
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """The suite with a policy of either kind; with the catalogue loaded where it counts."""
    folder = tmp_path_factory.mktemp("clients")
    suite = Suite(folder / "data", {"PACIFICA_POLICY_MODE": request.param})
    try:
        suite.start()
        if request.param == "catalog":
            document = folder / "catalogue.json"
            document.write_text(json.dumps(CATALOGUE))
            command = [sys.executable, "-c", CLI, "catalog", "load", document, "--data", suite.data]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
            assert done.stdout.startswith("users: 2\n"), done.stderr
        yield suite
    finally:
        suite.stop()


@pytest.fixture
def originals(suite: Suite, tmp_path: Path) -> Originals:
    """The published clients, told where the suite's services are by Pacifica's own variables."""
    urls = suite.urls
    return Originals(
        tmp_path / "home",
        INGEST_UPLOAD_URL=f"{urls['ingest']}/upload",
        INGEST_STATUS_URL=f"{urls['ingest']}/get_state",
        POLICY_UPLOADER_URL=f"{urls['policy']}/uploader",
        POLICY_INGEST_URL=f"{urls['policy']}/ingest",
        CARTD_CART_API_URL=urls["cartd"],
        UPLOAD_URL=f"{urls['ingest']}/upload",
        UPLOAD_STATUS_URL=f"{urls['ingest']}/get_state",
        UPLOAD_POLICY_URL=f"{urls['policy']}/uploader",
        UPLOAD_VALIDATION_URL=f"{urls['policy']}/ingest",
        DOWNLOAD_URL=urls["cartd"],
        DOWNLOAD_POLICY_URL=f"{urls['policy']}/status/transactions/by_id",
    )


def written(folder: Path) -> Path:
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def read(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


UPLOAD = """
import json, sys, time, os
from pacifica.uploader import Uploader
from pacifica.uploader.bundler import Bundler
from pacifica.uploader.metadata import MetaData, MetaObj
from pacifica.uploader.metadata.policyquery import PolicyQuery
folder, bundle = sys.argv[1:]
meta = MetaData([
    MetaObj(destinationTable="Transactions.submitter", value=10),
    MetaObj(destinationTable="Transactions.project", value="1234a"),
    MetaObj(destinationTable="Transactions.instrument", value=54),
    MetaObj(destinationTable="TransactionKeyValue", key="Tag", value="Blah"),
])
asked = PolicyQuery(user="dmlb2001", columns=["_id"], from_table="users", where={"network_id": "dmlb2001"})
assert asked.get_results(), asked.get_results()
assert asked.valid_metadata(meta) == {"status": "success"}, asked.valid_metadata(meta)
files = []
for root, _, names in os.walk(folder):
    for name in names:
        path = os.path.join(root, name)
        found = os.stat(path)
        files.append({"name": "data/" + os.path.relpath(path, folder), "size": found.st_size, "mtime": found.st_mtime,
                      "fileobj": open(path, "rb")})
with open(bundle, "wb") as out:
    Bundler(meta, files).stream(out)
up = Uploader()
with open(bundle, "rb") as body:
    job = up.upload(body)
for _ in range(600):
    state = up.getstate(job)
    if state["state"] != "OK" or (state["task"] == "ingest metadata" and int(float(state["task_percent"])) == 100):
        break
    time.sleep(0.1)
print(json.dumps(state))
"""

DOWNLOAD = """
import json, sys
import requests
from pacifica.downloader import Downloader
where, source, url = sys.argv[1:]
info = requests.get(url).json()
if source == "transaction":
    Downloader().transactioninfo(where, info)
else:
    files = [dict(each, destinationTable="Files") for each in info["files"].values()]
    Downloader().cloudevent(where, {"data": files})
print(json.dumps(info))
"""


def test_the_uploader_library_uploads_and_the_downloader_library_fetches(
    suite: Suite, originals: Originals, tmp_path: Path
):
    state = originals.python(UPLOAD, written(tmp_path / "source"), tmp_path / "bundle.tar")
    assert (state["state"], state["task"], state["task_percent"]) == ("OK", "ingest metadata", "100.00000"), state
    url = f"{suite.urls['policy']}/status/transactions/by_id/{state['job_id']}"
    for source in ("transaction", "event"):
        info = originals.python(DOWNLOAD, tmp_path / source, source, url)
        assert read(tmp_path / source / "data") == FILES
        assert (info["submitter"], info["project"], info["instrument"]) == (10, "1234a", 54)
        assert info["key_values"] == {"Tag": "Blah"}


def form(**fixed: Any) -> list[dict[str, Any]]:
    """Return the form that Pacifica's cli is shipped with, with some of its fields filled in."""
    person = ["first_name", "last_name", "_id"]
    fields = [
        ("logon", "Transactions.submitter", "users", {}, "{_id} - {first_name} {last_name}", person),
        ("project", "Transactions.project", "projects", {"instrument_id": "instrument"}, "{_id} - {title}",
         ["_id", "title"]),
        ("instrument", "Transactions.instrument", "instruments", {}, "{_id} {name_short} - {display_name}",
         ["_id", "name_short", "display_name"]),
        ("user-of-record", "TransactionKeyValue", "users", {"project_id": "project"},
         "{_id} - {first_name} {last_name}", person),
        ("directory-project", "NothingReally", "projects", {"_id": "project"}, "Project {_id}", ["_id"]),
    ]  # fmt: skip
    made = []
    for meta_id, table, source, depends, shown, columns in fields:
        field = {
            "destinationTable": table, "displayFormat": shown, "displayTitle": meta_id, "displayType": "select",
            "metaID": meta_id, "queryDependency": depends, "queryFields": columns, "sourceTable": source,
            "value": fixed.get(meta_id, ""), "valueField": "_id",
        }  # fmt: skip
        if meta_id == "user-of-record":
            field["key"] = "User of Record"
        if meta_id == "directory-project":
            field["directoryOrder"] = 0
        made.append(field)
    return made


def test_the_cli_uploads_and_downloads(suite: Suite, originals: Originals, tmp_path: Path):
    config = tmp_path / "uploader.json"
    config.write_text(json.dumps(form()))
    chosen = ["--project", "1234a", "--instrument", "54"] if "open" in suite.environment.values() else []
    printed = originals.run(
        "python", "-m", "pacifica.cli", "upload", f"--config={config}", *chosen, "run", cwd=written(tmp_path / "source")
    ).stdout
    state = json.loads(printed[printed.rindex("{") :])
    assert (state["state"], state["task"]) == ("OK", "ingest metadata"), state
    where = tmp_path / "out"
    where.mkdir()
    originals.run(
        "python", "-m", "pacifica.cli", "download", "--transaction-id", state["job_id"], "--destination", where
    )  # fmt: skip
    assert read(where / "data" / "Project 1234a") == FILES
