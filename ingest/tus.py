"""tus 1.0 at ``/files/``: creation, creation-with-upload, checksum, expiration, termination (docs/ingest.md#tus).

What the protocol says of headers and statuses stands here, what an upload is in ``resumable``.
"""

import hashlib
import re
from contextlib import suppress
from email.utils import formatdate
from typing import Any

import cherrypy

from ..common import rest, trace
from ..common.errors import (
    BadRequest,
    ChecksumMismatch,
    Conflict,
    Gone,
    LengthRequired,
    MethodNotAllowed,
    NotFound,
    PreconditionFailed,
    ServiceError,
    TooLarge,
    UnsupportedType,
)
from ..common.idempotency import parse
from ..common.integrity import Declared, Integrity, declared, decode
from ..common.streams import Body
from ..common.volume import Volume
from .config import Settings
from .idempotency import Request, once
from .orm import Upload, UploadState
from .resumable import Receiver, create, find, taken_over, terminate

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,checksum,expiration,termination"
ALGORITHMS = ("sha1", "sha256", "sha512", "md5")
CONTENT_TYPE = "application/offset+octet-stream"
MAX_METADATA_BYTES = 8 << 10

_ID = re.compile(r"[0-9a-f]{32}")
_PAIR = re.compile(r"[!-+\--~]+(?: (?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)?")


class UnknownVersion(PreconditionFailed):
    """This version of tus is not spoken here."""

    code = "unknown_tus_version"


class WrongOffset(Conflict):
    """The upload does not stand at this offset."""

    code = "wrong_offset"


class UploadChecksumMismatch(ChecksumMismatch):
    """The bytes received do not hash to the Upload-Checksum; none of them counts."""

    status = 460
    code = "upload_checksum_mismatch"


class Files:
    """``/files/``: opens uploads; ``/files/<id>``: one of them."""

    exposed = True

    def __init__(self, settings: Settings, volume: Volume) -> None:
        self.settings, self.volume = settings, volume

    def OPTIONS(self, id: str = "") -> None:
        """Say what is spoken here."""
        _say(Tus_Version=VERSION, Tus_Extension=EXTENSIONS, Tus_Checksum_Algorithm=",".join(ALGORITHMS))
        _say(Tus_Max_Size=self.settings.ingest.max_bytes, Tus_Resumable=VERSION)
        _no_content()

    def POST(self, id: str = "") -> None:
        """Open an upload, and append the body to it where there is one."""
        if _header("X-HTTP-Method-Override"):
            self._override(id)
        elif id:
            raise MethodNotAllowed("Allowed here: DELETE, HEAD, OPTIONS, PATCH")
        else:
            self._create()

    def HEAD(self, id: str) -> None:
        """Tell how much of an upload is on disk; an older request for it ends."""
        _require_version()
        with taken_over(self._find(id), self.volume, self.settings.ingest) as receiver:
            _tell(receiver.upload, receiver.offset)
            _say(Upload_Length=receiver.upload.length)
            if receiver.upload.metadata:
                _say(Upload_Metadata=receiver.upload.metadata)
        cherrypy.response.headers.pop("Content-Type", None)

    def PATCH(self, id: str) -> None:
        """Append the body at Upload-Offset; the last byte makes a job."""
        _require_version()
        upload = self._find(id)
        if _media_type() != CONTENT_TYPE:
            raise UnsupportedType(f"Expected a body of content type {CONTENT_TYPE}")
        offset, sent = _number("Upload-Offset"), _sent()
        with taken_over(upload, self.volume, self.settings.ingest) as receiver:
            if offset != receiver.offset:
                _tell(receiver.upload, receiver.offset)
                error = WrongOffset(offset=receiver.offset)
                if receiver.upload.job is not None:
                    error.detail["job_id"] = receiver.upload.job
                raise error
            body = self._body(receiver.upload.length - offset, required=True)
            if body is not None:
                self._append(receiver, body, sent)
            _tell(receiver.upload, receiver.offset)
        if receiver.upload.job is not None:
            _say(Location=f"../jobs/{receiver.upload.job}")
        _no_content()

    def DELETE(self, id: str) -> None:
        """Give an upload up; its room is free at once."""
        _require_version()
        terminate(self._find(id), self.volume)
        _no_content()

    def _create(self) -> None:
        _require_version()
        length, metadata = _length(self.settings.ingest.max_bytes), _metadata()
        body, sent = self._body(length), _sent()
        key, owner = parse(_header("Idempotency-Key")), rest.principal().name
        told = hashlib.sha256(f"{length} {metadata}".encode()).hexdigest()
        request = Request(kind="files", digests={"request": told})
        with once(owner, key, request, self.settings.worker.lease_seconds) as (claim, begun):
            if begun is not None:
                with suppress(NotFound, Gone, Conflict):
                    terminate(find(begun, None), self.volume)
            upload = create(owner, length, metadata, self.volume, self.settings.ingest, claim, trace.current())
        _say(Location=upload.id if cherrypy.request.path_info.endswith("/") else f"files/{upload.id}")
        if body is None and length and claim.same is None:
            _tell(upload, 0)  # no more is written: a database without room for it would leave what nobody hears of
        else:
            self._begin(upload, body if claim.same is None else None, sent, heard=claim.given)
        cherrypy.response.status = 201
        cherrypy.response.headers.pop("Content-Type", None)

    def _begin(self, upload: Upload, body: Body | None, sent: Integrity, *, heard: bool) -> None:
        """Append what came with the request; where that fails a new upload ends, unless it may be ``heard`` of."""
        with taken_over(upload, self.volume, self.settings.ingest) as receiver:
            if body is not None:
                try:
                    self._append(receiver, body, sent)
                except ServiceError:
                    if not heard:
                        terminate(receiver.upload, self.volume)
                    raise
            _tell(receiver.upload, receiver.offset)

    def _find(self, id: str) -> Upload:
        if not _ID.fullmatch(id):
            raise NotFound("There is no such upload.")
        return find(id, rest.principal())

    def _body(self, room: int, required: bool = False) -> Body | None:
        """Return the request's body of at most ``room`` bytes; None where there is none."""
        try:
            body = Body.of_request(room, self.settings.server)
        except LengthRequired:
            if required:
                raise
            return None
        if body.finished:
            return None
        if not required and _media_type() != CONTENT_TYPE:
            raise UnsupportedType(f"Expected no body, or one of content type {CONTENT_TYPE}")
        return body

    def _append(self, receiver: Receiver, body: Body, sent: Integrity) -> None:
        try:
            receiver.append(body, sent, self.volume)
        except ChecksumMismatch as error:
            _tell(receiver.upload, receiver.offset)
            if error.detail.get("header") == "Upload-Checksum":
                raise UploadChecksumMismatch(**error.detail) from error
            raise

    def _override(self, id: str) -> None:
        """Do what X-HTTP-Method-Override says, for clients that can send nothing but POST."""
        method = _header("X-HTTP-Method-Override")
        if not id or method not in ("DELETE", "HEAD", "PATCH"):
            raise MethodNotAllowed("X-HTTP-Method-Override: expected DELETE, HEAD or PATCH of an upload")
        getattr(self, method)(id)


def _require_version() -> None:
    """Raise UnknownVersion unless the client speaks ours; ours is said in every answer from here on."""
    _say(Tus_Resumable=VERSION)
    if _header("Tus-Resumable") != VERSION:
        error = UnknownVersion()
        error.headers["Tus-Version"] = VERSION
        raise error


def _tell(upload: Upload, offset: int) -> None:
    """Say where the upload stands: also with an error, since a client goes on from there."""
    _say(Upload_Offset=offset)
    if upload.job is not None:
        _say(X_Pacifica_Job_Id=upload.job)
    elif upload.state == UploadState.OPENED and upload.deadline is not None:
        _say(Upload_Expires=formatdate(upload.deadline, usegmt=True))


def _length(max_bytes: int) -> int:
    """Return Upload-Length, or raise BadRequest, or TooLarge."""
    if _header("Upload-Defer-Length") is not None:
        raise BadRequest("An upload of unknown length is not taken: room has to be kept for it.")
    length = _number("Upload-Length")
    if length > max_bytes:
        raise TooLarge(max_bytes=max_bytes, upload_length=length)
    return length


def _metadata() -> str:
    """Return Upload-Metadata as it was sent, or raise BadRequest."""
    text = (_header("Upload-Metadata") or "").strip()
    if len(text) > MAX_METADATA_BYTES:
        raise BadRequest(f"Upload-Metadata: {len(text)} bytes are more than the {MAX_METADATA_BYTES} that are kept.")
    pairs = [pair.strip() for pair in text.split(",")] if text else []
    if not all(_PAIR.fullmatch(pair) for pair in pairs):
        raise BadRequest("Upload-Metadata: expected pairs of a key and a value in base64, parted by commas.")
    keys = [pair.partition(" ")[0] for pair in pairs]
    if len(set(keys)) < len(keys):
        raise BadRequest("Upload-Metadata: a key was given twice.")
    return ",".join(pairs)


def _sent() -> Integrity:
    """Return what was declared of the body: Upload-Checksum, and the digests that any POST may carry."""
    others = declared(cherrypy.request.headers).declared
    text = _header("Upload-Checksum")
    if text is None:
        return Integrity(others)
    algorithm, _, digest = text.strip().partition(" ")
    if algorithm not in ALGORITHMS:
        raise BadRequest(f"Upload-Checksum: expected one of {', '.join(ALGORITHMS)}.")
    own = Declared("Upload-Checksum", algorithm, decode("Upload-Checksum", algorithm, digest.strip()))
    return Integrity([own, *others])


def _number(name: str) -> int:
    text = _header(name)
    if text is None or not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise BadRequest(f"{name}: expected a whole number of bytes.")
    return int(text)


def _media_type() -> str:
    return (_header("Content-Type") or "").partition(";")[0].strip().lower()


def _header(name: str) -> str | None:
    return cherrypy.request.headers.get(name)


def _say(**headers: Any) -> None:
    for name, value in headers.items():
        cherrypy.response.headers[name.replace("_", "-")] = str(value)


def _no_content() -> None:
    cherrypy.response.status = 204
    cherrypy.response.headers.pop("Content-Type", None)
