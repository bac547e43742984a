"""The metadata list of a job, as Pacifica's policy and metadata services take it: written once, sent again at will."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from .declared import Bundle
from .orm import Job

MEMORY = 8 << 20  # kept in memory up to here, then in a temporary file: 100,000 files are 30 MB


@contextmanager
def document(job: Job, bundle: Bundle) -> Iterator[IO[bytes]]:
    """Yield the list as a file."""
    with tempfile.SpooledTemporaryFile(MEMORY) as file:
        start = b"["
        for entry in bundle.document(job.first_id, job.id):
            file.write(start + json.dumps(entry, sort_keys=True).encode())
            start = b", "
        file.write(b"]")
        yield file


def again(file: IO[bytes]) -> IO[bytes]:
    """Return ``file`` from its start."""
    file.seek(0)
    return file
