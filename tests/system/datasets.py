"""Datasets for tests: a zip of files and the manifest that lists them."""

import hashlib
import io
import zipfile
from collections.abc import Mapping

from pacifica.datasafe import manifest

Files = Mapping[str, bytes]


def manifest_of(files: Files, loi: str = "") -> bytes:
    """Write the manifest of ``files``; those named *.info are metadata."""
    md5 = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in files.items()}
    data = [name for name in files if not name.endswith(".info")]
    metadata = [(name, "cwEPR Info file", "0.1.4") for name in files if name.endswith(".info")]
    return manifest.write(manifest.create(loi, data, metadata, md5))


def zipped(files: Files, listing: bytes | None = None) -> bytes:
    """Return the zip of ``files`` and of ``listing``, or what describes them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(manifest.NAME, listing or manifest_of(files))
    return buffer.getvalue()


def unzipped(content: bytes) -> dict[str, bytes]:
    """Return the files of a zip, without the manifest, which must be there."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    assert found.pop(manifest.NAME)
    return found
