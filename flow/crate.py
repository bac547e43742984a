"""Provenance of a data object as a Workflow Run RO-Crate: what ran, by whom, when, on what, and what came of it.

Metadata only (RO-Crate 1.1, profiles Process Run Crate and, for a workflow, Workflow Run Crate, 0.5): files are named
by their digest (RFC 6920), since the archive has them and a crate should not hold them twice.
"""

import base64
import json
from collections import deque
from typing import Any

from ..common.auth import Principal
from ..common.batch import batches
from ..common.errors import Conflict
from ..common.moment import zulu
from .fields import Field, leaves
from .orm import Data, DataFile, Dependency, Process, State
from .versions import registered

CONTEXT = ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"]
PROCESS_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
WORKFLOW_PROFILE = "https://w3id.org/ro/wfrun/workflow/0.5"
WORKFLOW_CRATE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
MAX_RUNS = 500
LANGUAGE = "#resolwe-yaml"
Entity = dict[str, Any]


class TooManyRuns(Conflict):
    """The provenance of this object is of more runs than one crate tells."""

    code = "too_many_runs"


def crate(data: Data, principal: Principal) -> Entity:
    """Return ro-crate-metadata.json for ``data``: its run, those of its steps, and those it was made from.

    Conflict when it has not ended, TooManyRuns beyond MAX_RUNS; what ``principal`` may not see is left out.
    """
    if data.state not in Data.FINAL:
        raise Conflict("Only of an object that has ended can be told how it came to be.", id=data.id)
    return _Crate(data, _runs(data, principal)).document()


def _runs(data: Data, principal: Principal) -> list[Data]:
    found: dict[int, Data] = {}
    todo = deque([data.id])
    while todo:
        ids = [id for id in todo if id not in found]
        todo.clear()
        for some in batches(ids, 500):
            for row in Data.select().where(Data.id.in_(some)):
                if principal.owns(row.owner) and row.state in Data.FINAL:
                    found[row.id] = row
            if len(found) > MAX_RUNS:
                raise TooManyRuns(most=MAX_RUNS)
            up = (Dependency.child.in_(some)) & (Dependency.kind == "io") & Dependency.parent.is_null(False)
            down = (Dependency.parent.in_(some)) & (Dependency.kind == "subprocess")
            todo += {link.parent for link in Dependency.select().where(up)}
            todo += {link.child for link in Dependency.select().where(down)}
    return [found[id] for id in sorted(found)]


class _Crate:
    """The entities of one crate, each once."""

    def __init__(self, data: Data, runs: list[Data]) -> None:
        self.data, self.runs = data, {run.id: run for run in runs}
        self.entities: dict[str, Entity] = {}
        self.files: dict[int, list[DataFile]] = {run.id: [] for run in runs}
        for some in batches(self.runs, 500):
            for file in DataFile.select().where(DataFile.data.in_(some)).order_by(DataFile.id):
                self.files[file.data].append(file)

    def document(self) -> Entity:
        """Return the whole of it."""
        process = registered(self.data.process)
        is_workflow = process.definition.language == "workflow"
        actions = [self._action(run) for run in self.runs.values()]
        files = [id for id, entity in self.entities.items() if "File" in entity["@type"]]
        profiles = [PROCESS_PROFILE, WORKFLOW_PROFILE, WORKFLOW_CRATE] if is_workflow else [PROCESS_PROFILE]
        for profile in profiles:
            name = "Workflow RO-Crate" if profile == WORKFLOW_CRATE else "Workflow Run RO-Crate profile"
            self._add(profile, "CreativeWork", name=name, version=profile.rpartition("/")[2])
        name = self.data.name or f"{process.name} {self.data.id}"
        license = self._add(
            "#no-licence", "CreativeWork", name="No licence is stated",
            description="The suite does not know under which licence this may be used: ask its owner.",
        )  # fmt: skip
        root: Entity = {
            "@id": "./",
            "@type": "Dataset",
            "name": name,
            "description": f"How data object {self.data.id} ({process.slug} {process.version}) came to be.",
            "datePublished": zulu(self.data.finished or self.data.updated),
            "license": license,
            "identifier": f"data/{self.data.id}",
            "conformsTo": _to(profiles),
            "hasPart": _to(files),
            "mentions": actions,
        }
        if is_workflow:
            root["mainEntity"] = {"@id": _workflow_id(process)}
        descriptor = {
            "@id": "ro-crate-metadata.json",
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": _to(["https://w3id.org/ro/crate/1.1", *([WORKFLOW_CRATE] if is_workflow else [])]),
        }
        return {"@context": CONTEXT, "@graph": [descriptor, root, *self.entities.values()]}

    def _action(self, run: Data) -> Entity:
        process = registered(run.process)
        is_workflow = process.definition.language == "workflow"
        errors = json.loads(run.process_error)
        facts: Entity = {
            "name": run.name or f"{process.name} {run.id}",
            "identifier": f"data/{run.id}",
            "instrument": self._workflow(process, run) if is_workflow else self._tool(process),
            "agent": self._add(f"#user-{run.owner}", "Person", name=run.owner),
            "object": self._inputs(run, process),
            "result": self._results(run),
            "actionStatus": _status(run),
        }
        facts |= {"startTime": zulu(run.started)} if run.started is not None else {}
        facts |= {"endTime": zulu(run.finished)} if run.finished is not None else {}
        facts |= {"error": "\n".join(errors)} if errors else {}
        if run.origin is not None:
            facts["description"] = f"The result of the equal run data/{run.origin} was used."
        return self._add(f"#data-{run.id}", "CreateAction", **facts)

    def _tool(self, process: Process) -> Entity:
        return self._add(f"#process-{process.id}", "SoftwareApplication", **_about(process))

    def _workflow(self, process: Process, run: Data) -> Entity:
        language = self._add(
            LANGUAGE, "ComputerLanguage", name="Resolwe process definition", alternateName="Resolwe YAML",
            url="https://resolwe.readthedocs.io/",
        )  # fmt: skip
        tools = [registered(step.process) for step in self.runs.values() if step.id in _steps(run)]
        parameters = [self._parameter(process, field, path) for field, path in _given(run, process)]
        kinds = ["File", "SoftwareSourceCode", "ComputationalWorkflow"]
        facts = {"programmingLanguage": language, "input": parameters, "output": []}
        parts = [self._tool(tool) for tool in tools if tool.definition.language != "workflow"]
        return self._add(_workflow_id(process), kinds, **_about(process), **facts, hasPart=parts)

    def _parameter(self, process: Process, field: Field, path: str) -> Entity:
        id = f"#process-{process.id}-input-{path}"
        held = self.entities.get(id, {}).get("workExample", [])
        runs = [run for run in self.runs.values() if run.process == process.id]
        examples = [f"#data-{run.id}-input-{path}" for run in runs if any(path == at for _, at in _given(run, process))]
        return self._add(
            id, "FormalParameter", name=path, description=field["label"], additionalType="PropertyValue",
            valueRequired=field.get("required", True), workExample=held or _to(examples),
            conformsTo={"@id": "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"},
        )  # fmt: skip

    def _inputs(self, run: Data, process: Process) -> list[Entity]:
        """Return what a run was given: each value, and the files that the objects among them have saved."""
        found: list[Entity] = []
        is_workflow = process.definition.language == "workflow"
        values = {path: holder[field["name"]] for field, holder, path in leaves(process.definition.input, _input(run))
                  if field["name"] in holder}  # fmt: skip
        for field, path in _given(run, process):
            facts: Entity = {"name": path, "value": _text(values[path])}
            if is_workflow:
                facts["exampleOfWork"] = {"@id": f"#process-{process.id}-input-{path}"}
            found.append(self._add(f"#data-{run.id}-input-{path}", "PropertyValue", **facts))
            if field["type"].removeprefix("list:").startswith("data:"):
                for parent in values[path] if isinstance(values[path], list) else [values[path]]:
                    found += self._results(self.runs[parent]) if parent in self.runs else []
        return [dict(one) for one in {one["@id"]: one for one in found}.values()]

    def _results(self, run: Data) -> list[Entity]:
        found = [self._file(file) for file in self.files[run.id]]
        for name, value in json.loads(run.output).items():
            if not _names_files(value):
                id = f"#data-{run.id}-output-{name}"
                found.append(self._add(id, "PropertyValue", name=name, value=_text(value)))
        return list({one["@id"]: one for one in found}.values())

    def _file(self, file: DataFile) -> Entity:
        facts = {"name": file.name, "contentSize": str(file.size), "sha256": file.sha256}
        return self._add(_named(file.sha256), "File", **facts, identifier=f"archive:{file.file_id}")

    def _add(self, id: str, kind: Any, **facts: Any) -> Entity:
        """Add an entity unless it is there, and return the reference to it."""
        self.entities.setdefault(id, {"@id": id, "@type": kind, **facts})
        return {"@id": id}


def _about(process: Process) -> Entity:
    facts = {"name": process.name, "identifier": process.slug, "softwareVersion": process.version}
    described = process.definition.document.get("description") or process.name
    return facts | {"version": process.version, "description": described, "sha256": process.digest}


def _given(run: Data, process: Process) -> list[tuple[Field, str]]:
    found = leaves(process.definition.input, _input(run))
    return [(field, path) for field, holder, path in found if holder.get(field["name"]) is not None]


def _input(run: Data) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(run.input)
    return values


def _steps(run: Data) -> set[int]:
    return set(json.loads(run.output).get("steps", []))


def _status(run: Data) -> Entity:
    word = "Completed" if run.state == State.OK else "Failed"
    return {"@id": f"http://schema.org/{word}ActionStatus"}


def _names_files(value: Any) -> bool:
    items = value if isinstance(value, list) and value else [value]
    return all(isinstance(item, dict) and ("file" in item or "dir" in item) for item in items)


def _text(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else json.dumps(value)


def _workflow_id(process: Process) -> str:
    return _named(process.digest)


def _named(sha256: str) -> str:
    """Return the name of what has this digest (RFC 6920)."""
    return "ni:///sha-256;" + base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip("=")


def _to(ids: list[str]) -> list[Entity]:
    return [{"@id": id} for id in ids]
