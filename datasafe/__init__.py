"""The archive itself: bytes by file id, datasets by LOI, the catalogue, the audit."""
