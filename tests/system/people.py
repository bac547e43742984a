"""People behind the trusted proxy of a suite, and the routes that there are for them to ask."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.suite import Suite, until, wanted

PROXY = "127.0.0.2"  # a peer: the whole of 127/8 is this machine
_WALK = """
import json, sys
from pathlib import Path
from pacifica.common.config import embed
from pacifica.common.rest import walk
from pacifica.common.service import services
embed(Path(sys.argv[1]))
for service in services():
    service.connect(create=True)
    service.schema.sync()
    for route in walk(service.application().root):
        print(json.dumps([service.name, *route]))
"""


def walked(folder: Path) -> list[tuple[str, str, str, bool]]:
    """Return (service, path, method, public) of every route of the suite; ``folder`` is a new one."""
    done = subprocess.run([sys.executable, "-c", _WALK, folder], capture_output=True, text=True, timeout=60, check=True)
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


class From(HTTPAdapter):
    """Sends requests from another of this machine's addresses."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, source_address=(self.address, 0))


def session(peer: str, user: str | None = None) -> requests.Session:
    """Return a client at ``peer``, which says that it acts for ``user``."""
    made = requests.Session()
    made.mount("http://", From(peer))
    if user is not None:
        made.headers["X-Http-Authed-User"] = user
    return made


class Person:
    """A client of the suite behind the trusted proxy."""

    def __init__(self, suite: Suite, name: str) -> None:
        self.suite, self.name, self.http = suite, name, session(PROXY, name)

    def upload(self, contents: dict[str, bytes]) -> int:
        """Upload, and return the id of the job, which has ended well."""
        answer = self.http.post(f"{self.suite.urls['ingest']}/upload", data=bundle(contents), timeout=30)
        assert answer.status_code == 200, answer.text
        job = int(answer.json()["job_id"])
        until(lambda: self.state(job).json()["complete"], 30, "the end of the job")
        assert self.state(job).json()["state"] == "OK"
        return job

    def state(self, job: int) -> requests.Response:
        return self.http.get(f"{self.suite.urls['ingest']}/get_state", params={"job_id": job}, timeout=10)

    def files(self, transaction: int) -> list[dict[str, Any]]:
        url = f"{self.suite.urls['metadata']}/files"
        return list(self.http.get(url, params={"transaction": transaction}, timeout=10).json())

    def file(self, method: str, id: int) -> requests.Response:
        return self.http.request(method, f"{self.suite.urls['archive']}/{id}", timeout=10)

    def cart(self, method: str, uid: str, path: str = "", **options: Any) -> requests.Response:
        return self.http.request(method, self.suite.cart(uid) + path, timeout=10, **options)

    def fill(self, uid: str, files: list[dict[str, Any]]) -> None:
        answer = self.cart("POST", uid, json={"fileids": wanted(files)})
        assert answer.status_code == 201, answer.text
