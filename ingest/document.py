"""The metadata list of a job, as Pacifica's policy and metadata services take it: written once, sent again at will."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from .declared import Bundle
from .orm import Job

MEMORY = 8 << 20  # kept in memory up to here, then in a temporary file: 100,000 files are 30 MB


class Document:
    """The list, in ``file``; ``headers`` are what is sent with it."""

    def __init__(self, file: IO[bytes]) -> None:
        """``file`` stands at its end."""
        self._file = file
        self.headers = {"Content-Type": "application/json", "Content-Length": str(file.tell())}

    def again(self) -> IO[bytes]:
        """Return the file, at its start."""
        self._file.seek(0)
        return self._file


@contextmanager
def document(job: Job, bundle: Bundle) -> Iterator[Document]:
    """Write the list down, and yield it for as long as it is sent."""
    with tempfile.SpooledTemporaryFile(MEMORY) as file:
        start = b"["
        for entry in bundle.document(job.first_id, job.id):
            file.write(start + json.dumps(entry, sort_keys=True).encode())
            start = b", "
        file.write(b"]")
        yield Document(file)
