"""A stock Pacifica ingest 0.4.1 and cartd 0.7.0, unmodified, with the suite's datasafe as all of their neighbours."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pacifica.tests.system.bundles import TRANSACTION, bundle, entry
from pacifica.tests.system.originals import Originals
from pacifica.tests.system.suite import Suite

pytestmark = pytest.mark.timeout(600)

FILES = {"a.txt": b"alpha\n", "run/b.bin": bytes(range(256)) * 5000, "run/empty": b""}

INGEST = """
import json, sys
from pacifica.ingest.orm import DB, IngestState, IngestStateSystem, read_state
from pacifica.ingest.tasks import ingest
from pacifica.ingest.utils import create_state_response, get_unique_id
DB.create_tables([IngestState, IngestStateSystem])  # their dbsync speaks PostgreSQL only
IngestStateSystem.get_or_create_version()
states = []
for path in sys.argv[1:]:
    job = get_unique_id(1, "upload_job")
    ingest(job, path, "dmlb2001")
    states.append(create_state_response(read_state(job)))
print(json.dumps(states))
"""

CART = """
import json, sys, time
from celery.contrib.testing.worker import start_worker
from pacifica.cartd import tasks
from pacifica.cartd.orm import DB, Cart, CartTasks, File
DB.create_tables([Cart, File, CartTasks])
Cart.database_connect()
cart = Cart(cart_uid="stock", status="staging")
cart.save()
Cart.database_close()
with start_worker(tasks.CART_APP, pool="solo", perform_ping_check=False):
    tasks.stage_files.delay(json.loads(sys.argv[1]), cart.id)
    end = time.monotonic() + 60
    while Cart.get(Cart.id == cart.id).status == "staging" and time.monotonic() < end:
        time.sleep(0.05)
cart = Cart.get(Cart.id == cart.id)
print(json.dumps([cart.status, cart.error, [each.status for each in File.select()]]))
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    suite = Suite(tmp_path_factory.mktemp("stock") / "data")
    try:
        yield suite.start()
    finally:
        suite.stop()


@pytest.fixture
def stock(suite: Suite, tmp_path: Path) -> Originals:
    """The originals, told by their own variables that datasafe is all of their neighbours."""
    urls = suite.urls
    return Originals(
        tmp_path / "home",
        UNIQUEID_URL=urls["uniqueid"],
        POLICY_INGEST_URL=f"{urls['policy']}/ingest",
        METADATA_INGEST_URL=f"{urls['metadata']}/ingest",
        ARCHIVEINTERFACE_URL=urls["archive"],
        ARCHIVE_INTERFACE_URL=urls["archive"] + "/",
        VOLUME_PATH=f"{tmp_path}/",
        PEEWEE_URL=f"sqlite:///{tmp_path}/stock.db",
        BROKER_URL="memory://",
        BACKEND_URL="cache+memory://",
    )


def test_a_stock_ingest_archives_and_registers_at_datasafe_and_a_stock_cartd_stages_from_it(
    suite: Suite, stock: Originals, tmp_path: Path
):
    good, foreign = tmp_path / "good.tar", tmp_path / "foreign.tar"
    metadata = [
        *TRANSACTION,
        {"destinationTable": "TransactionKeyValue", "key": "Tag", "value": "Blah"},
        *(entry(path, content) for path, content in FILES.items()),
    ]
    good.write_bytes(bundle(FILES, metadata))
    named = {"destinationTable": "FileKeyValue", "key": "k", "value": "v", "file_id": 1}
    foreign.write_bytes(bundle({"c.txt": b"c"}, [*TRANSACTION, entry("c.txt", b"c"), named]))
    first, second = stock.python(INGEST, good, foreign)
    assert (first["state"], first["task"], first["complete"]) == ("OK", "ingest metadata", True), first
    assert (second["state"], second["task"]) == ("FAILED", "ingest metadata"), second

    files = suite.files(first["job_id"])
    assert {f"{file['subdir']}/{file['name']}".lstrip("/"): suite.content(file["_id"]) for file in files} == FILES
    assert suite.files(second["job_id"]) == []
    info = requests.get(f"{suite.urls['policy']}/status/transactions/by_id/{first['job_id']}", timeout=10).json()
    assert info["key_values"] == {"Tag": "Blah"}
    assert info["file_ids"] == [file["_id"] for file in files]

    selection = [
        {
            "id": str(file["_id"]),
            "path": f"{file['subdir']}/{file['name']}".lstrip("/"),
            "hashtype": file["hashtype"],
            "hashsum": file["hashsum"],
        }
        for file in files
    ]
    status, error, each = stock.python(CART, json.dumps(selection))
    assert (status, set(each)) == ("ready", {"staged"}), error
    staged = {path.name: path.read_bytes() for path in tmp_path.glob("*/stock/**/*") if path.is_file()}
    assert staged == {path.rpartition("/")[2]: content for path, content in FILES.items()}


def test_ids_of_the_suite_and_of_a_stock_ingest_never_meet(suite: Suite):
    archive, uniqueid = suite.urls["archive"], suite.urls["uniqueid"]
    chosen = requests.get(f"{uniqueid}/getid?range=1&mode=file", timeout=10).json()["startIndex"] + 5000
    answer = requests.put(f"{archive}/{chosen}", data=b"chosen", timeout=10)
    assert (answer.status_code, answer.json()) == (201, {"message": "File added to archive", "total_bytes": 6})
    assert requests.get(f"{uniqueid}/getid?range=1&mode=file", timeout=10).json()["startIndex"] > chosen
    job = suite.finished(suite.upload(bundle({"x": b"x"}))["job_id"])
    assert suite.files(job["job_id"])[0]["_id"] > chosen
    held = requests.put(f"{archive}/{suite.files(job['job_id'])[0]['_id']}", data=b"other", timeout=10)
    assert held.status_code == 409
    assert suite.content(suite.files(job["job_id"])[0]["_id"]) == b"x"


def test_the_archive_answers_as_the_original_does(suite: Suite, tmp_path: Path):
    url = f"{suite.urls['archive']}/{90001}"
    assert requests.get(url, timeout=10).status_code == 404
    assert requests.head(url, timeout=10).status_code == 404
    sent = requests.put(url, data=b"0123456789", headers={"Last-Modified": "Sat Nov 21 07:37:08 2026"}, timeout=10)
    assert sent.status_code == 201
    head = requests.head(url, timeout=10)
    assert head.status_code == 204
    assert head.headers["X-Pacifica-Messsage"] == "File was found"
    assert head.headers["X-Content-Length"] == "10"
    assert head.headers["X-Pacifica-File-Storage-Media"] == "disk"
    assert head.headers["X-Pacifica-Bytes-Per-Level"] == "(10,)"
    assert float(head.headers["Last-Modified"]) > 1.79e9
    staged = requests.post(url, timeout=10)
    assert (staged.status_code, staged.json()) == (200, {"message": "File was staged", "file": "90001"})
    assert requests.get(f"{url}?byte_range=2-5", timeout=10).content == b"234"
    assert requests.get(f"{url}?byte_range=8-50", timeout=10).content == b"89"
    assert requests.get(f"{url}?byte_range=x", timeout=10).status_code == 400
    assert requests.patch(url, json={"path": "/etc/hostname"}, timeout=10).status_code == 403
    assert requests.get(url, timeout=10).content == b"0123456789"
    assert requests.delete(url, timeout=10).status_code == 200
    assert requests.get(url, timeout=10).status_code == 404
    assert requests.put(url, data=b"again", timeout=10).status_code == 201
    assert hashlib.sha1(suite.content(90001)).digest() == hashlib.sha1(b"again").digest()
