"""The embedded policy: who may bring in what, and what an uploader may choose from.

``open`` takes any submitter, project and instrument; ``catalog`` asks that they are in the catalogue and related, by
the rules of Pacifica's policy service: the submitter is a member of the project, or custodian of an instrument that
serves it, and the instrument serves the project.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from . import catalog
from .catalog import Instrument, InstrumentUser, Project, ProjectInstrument, ProjectUser, User, iso
from .errors import BadRequest, PreconditionFailed

OPEN, CATALOG = "open", "catalog"
TERMS = ("submitter", "project", "instrument")
MEMBER, CUSTODIAN = "member_of", "custodian"

Row = dict[str, Any]


class PolicyRefused(PreconditionFailed):
    """Precondition Failed: the policy does not take this bundle."""

    code = "policy_refused"


def admit(mode: str, about: Mapping[str, object]) -> None:
    """Raise PolicyRefused unless ``about`` (submitter, project, instrument) may come in, naming what is not valid."""
    given = {term: catalog.as_id(about.get(term)) for term in TERMS}
    wrong = [term for term, id in given.items() if not id or (mode == CATALOG and not _known(term, id))]
    if not wrong and mode == CATALOG and given["project"] not in _projects(given["submitter"], given["instrument"]):
        wrong.append(f"project ({given['project']}) not in user instrument list")
    if wrong:
        raise PolicyRefused(f"Precondition Failed: Invalid values for {', '.join(wrong)}", terms=wrong)


def select(mode: str, query: Any) -> list[Row]:
    """Answer an uploader's question as Pacifica's ``POST /uploader`` does: the rows, cut to the columns asked for.

    ``query`` has ``user``, ``columns``, ``from`` (users, projects or instruments) and ``where``.  BadRequest when it
    has not.  In mode ``open`` whatever is asked for by its id exists, and everything known is offered.
    """
    if not isinstance(query, dict) or not {"user", "from", "columns"} <= query.keys():
        raise BadRequest("Invalid Query.")
    where, columns = query.get("where") or {}, query["columns"]
    find = _SELECT.get(query["from"]) if isinstance(query["from"], str) else None
    if find is None or not isinstance(where, dict) or not isinstance(columns, list):
        raise BadRequest("Invalid Query.")
    where = {key: catalog.as_id(value) for key, value in where.items()}
    rows = find(mode, catalog.as_id(query["user"]), where)
    return [{key: row[key] for key in columns if key in row} for row in rows]


def number(id: str) -> int | str:
    """Return an id as Pacifica writes those of users and instruments: as a number where it is one."""
    return int(id) if id.isascii() and id.isdecimal() and len(id) < 19 and id == str(int(id)) else id


def _known(term: str, id: str) -> bool:
    model = {"submitter": User, "project": Project, "instrument": Instrument}[term]
    return bool(model.select().where(model.id == id).exists())


def _projects(user: str, instrument: str | None = None) -> set[str]:
    """Return the projects of a member, or those that ``instrument`` serves and the user may use."""
    own = _ids(ProjectUser, "project", (ProjectUser.user == user) & (ProjectUser.relationship == MEMBER))
    if instrument is None:
        return own
    kept = _ids(ProjectInstrument, "project", ProjectInstrument.instrument.in_(sorted(_custody(user))))
    return (own | kept) & _ids(ProjectInstrument, "project", ProjectInstrument.instrument == instrument)


def _custody(user: str) -> set[str]:
    is_custodian = (InstrumentUser.user == user) & (InstrumentUser.relationship == CUSTODIAN)
    return _ids(InstrumentUser, "instrument", is_custodian)


def _ids(model: Any, column: str, where: Any) -> set[str]:
    return {row[0] for row in model.select(getattr(model, column)).where(where).tuples()}


def _users(mode: str, user: str, where: Mapping[str, str]) -> list[Row]:
    if "network_id" in where:
        name = where["network_id"].lower()
        found = list(User.select().where(User.network_id == name))
        made_up = [User(id=where["network_id"], network_id=name, first_name=where["network_id"], updated=0.0)]
        return [_user(row) for row in found or (made_up if mode == OPEN else [])]
    if "project_id" in where:
        ids: Iterable[str] = _ids(ProjectUser, "user", ProjectUser.project == where["project_id"])
        if mode == OPEN and not ids:
            ids = [user]
    else:
        ids = [user]
    return [_user(row) for row in _rows(mode, User, ids)]


def _of_projects(mode: str, user: str, where: Mapping[str, str]) -> list[Row]:
    ids: Iterable[str] | None = [where["_id"]] if "_id" in where else None
    if mode == CATALOG and "instrument_id" in where:
        ids = _projects(user, where["instrument_id"])
    elif mode == CATALOG and ids is None:
        ids = _projects(user)
    return [_project(row) for row in _rows(mode, Project, ids)]


def _of_instruments(mode: str, user: str, where: Mapping[str, str]) -> list[Row]:
    ids: Iterable[str] | None = [where["_id"]] if "_id" in where else None
    if mode == CATALOG and "project_id" in where:
        serving = _ids(ProjectInstrument, "instrument", ProjectInstrument.project == where["project_id"])
        ids = serving | _custody(user)
    elif mode == CATALOG and ids is None:
        ids = _custody(user)
    return [_instrument(row) for row in _rows(mode, Instrument, ids)]


_SELECT = {"users": _users, "projects": _of_projects, "instruments": _of_instruments}


def _rows(mode: str, model: Any, ids: Iterable[str] | None) -> list[Any]:
    """Return the rows of ``ids`` (None: all) in their order; in mode ``open`` made up where there is none."""
    if ids is None:
        return list(model.select().order_by(model.id))
    wanted = sorted(id for id in ids if id)
    found = {row.id: row for row in model.select().where(model.id.in_(wanted))}
    if mode == OPEN:
        found |= {id: model(id=id, updated=0.0) for id in wanted if id not in found and id != "-1"}
    return [found[id] for id in wanted if id in found]


def _user(row: Any) -> Row:
    return _dated(row) | {
        "_id": number(row.id),
        "first_name": row.first_name,
        "middle_initial": row.middle_initial,
        "last_name": row.last_name,
        "network_id": row.network_id,
        "email_address": row.email_address,
    }


def _project(row: Any) -> Row:
    own = {"_id": row.id, "title": row.title, "short_name": row.short_name, "abstract": row.abstract}
    return _dated(row) | own


def _instrument(row: Any) -> Row:
    return _dated(row) | {
        "_id": number(row.id),
        "name": row.name,
        "display_name": row.display_name,
        "name_short": row.name_short,
        "active": bool(row.active),
    }


def _dated(row: Any) -> Row:
    return {"created": iso(row.updated), "updated": iso(row.updated), "deleted": None, "encoding": "UTF8"}
