"""The OpenAPI document of each service: it is one, it tells of the routes that there are, and they keep to it."""

import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
import yaml

from pacifica.common.openapi import document, operations, page
from pacifica.datasafe.criteria import _KNOWN, _PAGING
from pacifica.flow.lists import DATA_FIELDS, PROCESS_FIELDS, TRIGGER_FIELDS
from pacifica.flow.query import ALWAYS
from pacifica.tests.system import apart
from pacifica.tests.system.flows import PROCESSES
from pacifica.tests.system.people import walked
from pacifica.tests.system.suite import SERVICES, Suite

_LISTS = {"/api/data": DATA_FIELDS, "/api/process": PROCESS_FIELDS, "/api/trigger": TRIGGER_FIELDS}
NAMED_BY_NO_SIGNATURE = {  # what handlers with **parameters take
    ("datasafe", "/catalog"): {*_KNOWN, *_PAGING},
    **{("flow", path): {*fields, *ALWAYS} for path, fields in _LISTS.items()},
    ("flow", "/api/storage"): {"fields", "format"},
}
ENDLESS = r"/events$"  # streams of a minute each
SERIALIZER = 'import schemathesis\nschemathesis.serializer.alias("{}", "application/octet-stream")\n'
_FOUND = """
import inspect, json, sys
from pathlib import Path
from pacifica.common.config import embed
from pacifica.common.dispatch import find
from pacifica.common.openapi import document, operations, parameters
from pacifica.common.service import services
embed(Path(sys.argv[1]))
for service in services():
    service.connect(create=True)
    service.schema.sync()
    root, whole = service.application().root, document(service.name)
    for path, method, operation in operations(whole):
        node, left = find(root, path)
        signature = inspect.signature(getattr(node, method))
        bound = signature.bind_partial(*left).arguments
        named = [name for name, one in signature.parameters.items() if not one.kind.name.startswith("VAR_")]
        parts = [part for part in path.split("/") if part]
        others = [] if getattr(node, "exposed", False) else ["{name}"]
        route = "/" + "/".join(parts[: len(parts) - len(left)] + others)
        asked = [one["name"] for one in parameters(whole, path, operation) if one["in"] == "query"]
        print(json.dumps([service.name, route, method, path, asked, named, [name for name in named if name in bound]]))
    if service.name == "flow":
        parts = [["GET", name] for name in root.api.data._asked] + [["POST", name] for name in root.api.data._done]
        print(json.dumps(parts), file=sys.stderr)
"""


class Found(NamedTuple):
    """Where an operation of a document leads, and the query that it tells of."""

    service: str
    route: str
    method: str
    path: str
    asked: list[str]
    named: list[str]  # parameters of the handler
    bound: list[str]  # those of them that are parts of the path


@pytest.fixture(scope="module")
def led(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Found], list[list[str]]]:
    """Where each operation of the documents leads in the trees; and the parts of a data object, with their methods."""
    command = [sys.executable, "-c", _FOUND, tmp_path_factory.mktemp("found")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [Found(*json.loads(line)) for line in done.stdout.splitlines()], json.loads(done.stderr.splitlines()[-1])


def test_every_route_is_documented_and_no_document_tells_of_one_that_is_not_there(led: Any, tmp_path: Path) -> None:
    routes = {(service, path, method) for service, path, method, _ in walked(tmp_path)}
    assert {(one.service, one.route, one.method) for one in led[0]} == routes


def test_every_parameter_of_a_query_is_documented_and_no_other(led: Any) -> None:
    told: dict[tuple[str, str, str], set[str]] = {}
    taken: dict[tuple[str, str, str], set[str]] = {}
    for one in led[0]:
        of_no_signature = NAMED_BY_NO_SIGNATURE.get((one.service, one.route), set())
        assert set(one.asked) <= {*one.named, *of_no_signature} - {*one.bound}, one
        told.setdefault(one[:3], set()).update(one.asked, one.bound)
        taken.setdefault(one[:3], set()).update(one.named, of_no_signature if one.method == "GET" else ())
    assert {key: names ^ taken[key] for key, names in told.items() if names != taken[key]} == {}


def test_every_part_of_a_data_object_is_documented_and_no_other(led: Any) -> None:
    told = {(method, path.split("/")[4]) for _, _, method, path, *_ in led[0] if path.startswith("/api/data/{id}/")}
    assert told == {tuple(part) for part in led[1]}


@pytest.mark.parametrize("service", SERVICES)
def test_a_document_is_openapi_3_1(service: str, tmp_path: Path) -> None:
    (tmp_path / "openapi.yaml").write_text(yaml.safe_dump(document(service)))
    validate = [apart.programs("judges") / "openapi-spec-validator", "--schema", "3.1", tmp_path / "openapi.yaml"]
    done = subprocess.run(validate, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.text = set[str](), ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        assert {name for name, _ in attrs} <= {"lang", "charset", "href"}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_tells_of_every_operation_and_runs_nothing() -> None:
    for service in SERVICES:
        whole = document(service)
        whole["info"]["description"] += " <script>alert(1)</script>"
        told = _Page(page(whole))
        assert told.tags <= {"html", "head", "meta", "title", "body", "h1", "h2", "p", "a", "code", "table", "caption",
                             "tr", "td"}  # fmt: skip
        for path, method, operation in operations(whole):
            assert f"{method} {path}\n{operation['summary']}." in told.text


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A suite that takes no large bodies, so that no number a stranger makes up keeps the disk from others."""
    most = {f"PACIFICA_{service}_MAX_BYTES": str(1 << 20) for service in ("INGEST", "DATASAFE")}
    found = Suite(tmp_path_factory.mktemp("openapi") / "data", most | {"PACIFICA_FLOW_EXECUTOR": "null"})
    try:
        found.start().register(PROCESSES)
        yield found
    finally:
        found.kill()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_answers_made_up_requests_as_its_document_says(suite: Suite, service: str, tmp_path: Path) -> None:
    url = suite.urls[service]
    answer = requests.get(f"{url}/openapi.yaml", timeout=10)
    assert (answer.headers["Content-Type"], yaml.safe_load(answer.content)) == ("application/yaml", document(service))
    assert requests.get(f"{url}/docs", timeout=10).text == page(document(service))
    (tmp_path / "tus.py").write_text(SERIALIZER.format("application/offset+octet-stream"))
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    options = ["--max-examples", "15", "--no-shrink", "--continue-on-failure", "--request-timeout", "20"]
    options += ["--phases", "examples,coverage,fuzzing", "--suppress-health-check", "all", "--warnings", "off"]
    options += ["--seed", "1", "--generation-deterministic"]
    done = subprocess.run(
        [apart.programs("judges") / "schemathesis", "run", f"{url}/openapi.yaml", "--checks", checks, *options,
         "--exclude-path-regex", ENDLESS],
        cwd=tmp_path, env=os.environ | {"SCHEMATHESIS_HOOKS": "tus", "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
