"""Processes and data objects as JSON, in the original's keys."""

import json
from datetime import UTC, datetime
from typing import Any

from .orm import Data, Process, State


def process(row: Process) -> dict[str, Any]:
    """Return a process with its definition."""
    definition = row.definition.document
    run = definition.pop("run")
    facts = {
        "id": row.id,
        "is_active": row.is_active,
        "contributor": row.contributor,
        "created": _time(row.created),
        "modified": _time(row.modified),
        "digest": row.digest,
        "input_schema": definition.pop("input"),
        "output_schema": definition.pop("output"),
        "run": run,
    }
    return definition | facts


def data(row: Data, held: Process) -> dict[str, Any]:
    """Return a data object with its outputs and the process it is a run of, in short."""
    definition = held.definition
    return {
        "id": row.id,
        "slug": row.slug,
        "name": row.name,
        "status": State.PR if row.state == State.FO else str(row.state),
        "type": row.type,
        "process": {
            "id": held.id,
            "slug": held.slug,
            "name": held.name,
            "version": held.version,
            "type": held.type,
            "category": held.category,
            "input_schema": definition.input,
            "output_schema": definition.output,
        },
        "input": json.loads(row.input),
        "output": json.loads(row.output),
        "tags": json.loads(row.tags),
        "contributor": row.owner,
        "created": _time(row.created),
        "modified": _time(row.updated),
        "started": _time(row.started),
        "finished": _time(row.finished),
        "process_progress": row.process_progress,
        "process_rc": row.process_rc,
        "process_info": json.loads(row.process_info),
        "process_warning": json.loads(row.process_warning),
        "process_error": json.loads(row.process_error),
        "run": json.loads(row.run),
        "size": row.size,
        "checksum": row.checksum,
        "reused_from": row.origin,
        "attempt": row.attempt,
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
