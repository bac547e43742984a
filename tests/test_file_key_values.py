"""What a bundle says of its files: by their paths, end to end; nobody else's file can be named."""

from typing import Any

import requests

from pacifica.tests.system.bundles import TRANSACTION, bundle, entry
from pacifica.tests.system.suite import Suite


def said(deployment: Suite, **fields: Any) -> dict[str, Any]:
    metadata = [*TRANSACTION, entry("run/a.txt", b"a"), entry("b.txt", b"b")]
    metadata.append({"destinationTable": "FileKeyValue", "key": "Adjustment", "value": "5.66%", **fields})
    job = deployment.upload(bundle({"run/a.txt": b"a", "b.txt": b"b"}, metadata))["job_id"]
    return deployment.finished(job, 60)


def test_a_value_is_said_of_the_file_that_its_path_names(deployment: Suite):
    state = said(deployment, path="run/a.txt")
    assert state["state"] == "OK", state
    url = f"{deployment.urls['policy']}/status/transactions/by_id/{state['job_id']}"
    files = requests.get(url, timeout=10).json()["files"]
    told = {file["name"]: file["key_values"] for file in files.values()}
    assert told == {"a.txt": [{"key": "Adjustment", "value": "5.66%"}], "b.txt": {}}


def test_a_file_named_by_id_or_by_no_path_of_the_bundle_is_refused(deployment: Suite):
    held = deployment.files(said(deployment, path="b.txt")["job_id"])[0]["_id"]
    for fields, code in (({"file_id": held}, "file_id_given"), ({"path": "x"}, "unknown_path"), ({}, "missing_key")):
        state = said(deployment, **fields)
        assert state["state"] == "FAILED"
        assert code in state["exception"]
