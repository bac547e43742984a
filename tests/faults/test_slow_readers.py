"""Fifty who read slowly do not make others wait for their turn; what they cost in time, the benchmarks tell."""

import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.crowd import slow_readers
from pacifica.tests.system.suite import SERVICES, Suite, wanted

SIZE = 48 << 20


def test_fifty_slow_readers_leave_no_other_without_an_answer(own_suite: Suite) -> None:
    own_suite.services = SERVICES
    own_suite.start()
    job = own_suite.upload(bundle({"f": bytes(SIZE)}))
    assert own_suite.finished(job["job_id"], 60)["state"] == "OK"
    url = own_suite.cart(own_suite.fill_cart(wanted(own_suite.files(job["job_id"]))))
    with slow_readers(url) as connections:
        for _ in range(3):
            assert requests.head(url, timeout=30).status_code == 204
            assert len(requests.get(url, timeout=60).content) > SIZE
        for connection in connections:
            assert connection.recv(1024), "a slow reader is no reason to hang up"
