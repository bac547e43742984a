"""``/uniqueid``, ``/policy`` and ``/metadata``: what Pacifica's services of these names answer to its clients, and to a
stock ingest (docs/ingest-neighbours.md).
"""

from collections.abc import Iterator
from json import dumps
from typing import Any

from ..common import rest
from ..common.archive import LocalArchive
from ..common.batch import batches
from ..common.catalog import files_of, readable_transactions
from ..common.counter import allocate
from ..common.errors import BadRequest
from ..common.policy import admit, select
from ..common.streams import Body, json_body
from .config import Settings
from .registration import about, parse, register
from .transaction import PAGE, by_id, listed

DOCUMENT_BYTES = 64 << 20  # a metadata list of 200,000 files
QUERY_BYTES = 1 << 20
RANGE = 10_000_000  # ids of one request: a client cannot use up what a column holds


class RestUniqueId:
    """``/uniqueid``."""

    exposed = True

    def __init__(self) -> None:
        self.getid = RestGetId()


class RestGetId:
    """``GET /uniqueid/getid?range=N&mode=M``."""

    exposed = True

    def GET(self, range: str = "-1", mode: str = "-1") -> dict[str, int]:
        """Take ``range`` ids of ``mode``, that nobody else ever gets; -1 where the range is none."""
        try:
            count = int(range)
        except ValueError:
            raise BadRequest("range must be a whole number.") from None
        if count < 1 or not mode:
            return {"startIndex": -1, "endIndex": -3}  # as the original computes it
        if count > RANGE or len(mode) > 64:
            raise BadRequest(f"A range has at most {RANGE} ids, a mode at most 64 characters.")
        first = allocate(mode, count)
        return {"startIndex": first, "endIndex": first + count - 1}


class RestPolicy:
    """``/policy``."""

    exposed = True

    def __init__(self, settings: Settings) -> None:
        self.ingest = RestPolicyIngest(settings)
        self.uploader = RestUploader(settings)
        self.status = RestStatus()


class RestPolicyIngest:
    """``POST /policy/ingest``."""

    exposed = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def POST(self) -> dict[str, str]:
        """Say whether the metadata list in the body may come in: success, or 412."""
        body = Body.of_request(DOCUMENT_BYTES, self.settings.server).read_all(DOCUMENT_BYTES)
        admit(self.settings.policy.mode, about(body))
        return {"status": "success"}


class RestUploader:
    """``POST /policy/uploader``."""

    exposed = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def POST(self) -> list[dict[str, Any]]:
        """Answer what an uploader may choose from."""
        return select(self.settings.policy.mode, json_body(QUERY_BYTES, self.settings.server))


class RestStatus:
    """``/policy/status``."""

    exposed = True

    def __init__(self) -> None:
        self.transactions = RestStatusTransactions()


class RestStatusTransactions:
    """``/policy/status/transactions``."""

    exposed = True

    def __init__(self) -> None:
        self.by_id = RestById()


class RestById:
    """``GET /policy/status/transactions/by_id/<id>``."""

    exposed = True

    def GET(self, transaction_id: str = "") -> Iterator[bytes]:
        """Answer the transaction with its files; 404 for one that is unknown or not yours."""
        return by_id(_number(transaction_id, "Provide an appropriate transaction_id value"), rest.principal())


class RestMetadata:
    """``/metadata``: the catalogue in the words of Pacifica's metadata service."""

    exposed = True

    def __init__(self, archive: LocalArchive, settings: Settings) -> None:
        self.files = RestFiles()
        self.transactions = RestTransactions()
        self.ingest = RestMetadataIngest(archive, settings)


class RestMetadataIngest:
    """``PUT /metadata/ingest``."""

    exposed = True

    def __init__(self, archive: LocalArchive, settings: Settings) -> None:
        self.archive, self.settings = archive, settings

    def PUT(self) -> dict[str, str]:
        """Enter a transaction, whole or not at all, for files that the archive holds."""
        body = Body.of_request(DOCUMENT_BYTES, self.settings.server).read_all(DOCUMENT_BYTES)
        who = rest.principal()
        register(parse(body), who.name, who.administrator or who.service, self.archive.open)
        return {"status": "success"}


class RestFiles:
    """``GET /metadata/files?transaction=N``."""

    exposed = True

    def GET(self, *, transaction: str) -> Iterator[bytes]:
        """Answer the files of a transaction, in the order of their ids; none for one that is unknown or not yours."""
        number = _number(transaction, "transaction must be a whole number.")
        return _array(files_of(number) if readable_transactions(rest.principal(), [number]) else iter(()))


class RestTransactions:
    """``GET /metadata/transactions``."""

    exposed = True

    def GET(self, _id: str = "", page_number: str = "1", items_per_page: str = str(PAGE)) -> list[dict[str, Any]]:
        """Answer the transactions that one may read, or the one of an id."""
        page = max(1, _number(page_number, "page_number must be a whole number."))
        count = min(PAGE, max(1, _number(items_per_page, "items_per_page must be a whole number.")))
        return listed(rest.principal(), _number(_id, "_id must be a whole number.") if _id else None, page, count)


def _array(items: Iterator[Any]) -> Iterator[bytes]:
    """Yield a JSON list in pieces."""
    start = "["
    for batch in batches(items, 500):
        yield (start + ", ".join(map(dumps, batch))).encode()
        start = ", "
    yield b"]" if start != "[" else b"[]"


def _number(text: str, refusal: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise BadRequest(refusal)
    return int(text)
