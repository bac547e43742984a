"""Eight uploaders at once: every job has an id of its own and ends, and every byte is what was sent."""

import os
import resource
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.nodes import descendants
from pacifica.tests.system.suite import Suite

UPLOADERS, JOBS, FILES = 8, 200, 5


def memory(suite: Suite) -> dict[int, int]:
    """Return the bytes that each of the suite's processes has in memory, by pid."""
    found = {}
    for root in suite.pids():
        for pid in descendants(root):
            with suppress(FileNotFoundError):  # a child that was just replaced
                found[pid] = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    return found


@pytest.mark.timeout(600)
def test_two_hundred_jobs_of_eight_uploaders_are_distinct_and_whole(own_suite: Suite) -> None:
    own_suite.start()

    def upload(number: int) -> tuple[int, dict[str, bytes]]:
        contents = {f"{number}/{name}": os.urandom(2000 + number) for name in range(FILES)}
        return own_suite.upload(bundle(contents))["job_id"], contents

    def posted(numbers: range) -> dict[int, dict[str, bytes]]:
        with ThreadPoolExecutor(UPLOADERS) as uploaders:
            sent = list(uploaders.map(upload, numbers))
        assert len(dict(sent)) == len(sent)
        for job, _ in sent:
            assert own_suite.finished(job, 120)["state"] == "OK"
        return dict(sent)

    jobs = posted(range(JOBS // 4))
    before = memory(own_suite)
    assert before
    jobs |= posted(range(JOBS // 4, JOBS))
    assert len(jobs) == JOBS
    grown = {pid: now - before[pid] for pid, now in memory(own_suite).items() if pid in before}
    assert len(grown) > len(before) / 2, "most of them were replaced"
    assert max(grown.values()) < 32 << 20, grown
    ids: list[int] = []
    for job, contents in jobs.items():
        files = own_suite.files(job)
        ids += [file["_id"] for file in files]
        found = {f"{file['subdir']}/{file['name']}": own_suite.content(file["_id"]) for file in files}
        assert found == contents
    assert len(ids) == len(set(ids)) == JOBS * FILES
    assert own_suite.query('SELECT count(*) FROM "transaction"') == [(JOBS,)]
