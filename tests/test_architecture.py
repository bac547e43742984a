"""The import rules and the layout of the house, read from the syntax trees."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SERVICES = ("ingest", "cartd", "datasafe", "flow")
HOUSES = ("common", *SERVICES)

# From ground to roof: a room imports its own floor and those below it, never one above.  `orm` stands among the rooms
# of the field: which of two such rooms is the lower one, the absence of circles decides.
FLOORS = {
    "config": 0,
    "tasks": 3,
    "rest": 4,
    "tus": 4,
    "api": 4,
    "answers": 4,
    "archive": 4,
    "neighbours": 4,
    "automation": 4,
    "service": 5,
    "administration": 6,
    "data_command": 6,
    "wsgi": 6,
    "__main__": 7,
}
DOMAIN = 2

# The rooms of the ground floor that hold state and bytes: they work without a web server, so none may reach for one.
GROUND = ("archive", "catalog", "config", "events", "ledger", "orm", "outbox", "pack", "schema", "spool", "state")
GROUND += ("sweeper", "volume", "worker")

JUNK = {"util", "utils", "helper", "helpers", "misc", "common", "stuff"}


@dataclass(frozen=True)
class Import:
    """One import of module ``source``, resolved to a dotted name below ``pacifica``, or another library's."""

    source: str
    target: str
    line: int
    level: int

    def __str__(self) -> str:
        return f"{self.source.replace('.', '/')}.py:{self.line} imports {self.target}"


def modules() -> list[str]:
    """Return the dotted name below ``pacifica`` of every module."""
    paths = (path.relative_to(ROOT) for house in HOUSES for path in sorted((ROOT / house).rglob("*.py")))
    return [".".join(path.with_suffix("").parts) for path in paths]


@cache
def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8"))


@cache
def imports(module: str) -> list[Import]:
    """Return all imports of ``module``, wherever they stand."""
    found = []
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found += [Import(module, alias.name, node.lineno, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [Import(module, target, node.lineno, node.level) for target in targets(module, node)]
    return found


def targets(module: str, node: ast.ImportFrom) -> Iterator[str]:
    """Resolve ``from x import a, b``: to the modules x.a and x.b where these are modules, else to x."""
    base = node.module or ""
    if node.level:
        base = ".".join([*module.split(".")[: -node.level], *([node.module] if node.module else [])])
    for alias in node.names:
        inner = f"{base}.{alias.name}" if base else alias.name
        yield inner if inner in MODULES else base


MODULES = frozenset(modules())


def ours() -> list[Import]:
    return [one for module in sorted(MODULES) for one in imports(module)]


def house(module: str) -> str:
    return module.split(".", 1)[0]


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def floor(module: str) -> int:
    return FLOORS.get(room(module), DOMAIN)


def none_of(found: list[str] | list[Import]) -> None:
    """Fail listing ``found``, unless there is none."""
    assert not found, "\n" + "\n".join(map(str, found))


def test_there_is_a_house_to_look_at():
    assert {house(module) for module in MODULES} == set(HOUSES)


def test_a_service_never_imports_another_service_and_common_never_imports_a_service():
    none_of(
        [
            one
            for one in ours()
            if house(one.target) in SERVICES and one.level and house(one.target) != house(one.source)
        ]
    )


def test_inside_the_house_imports_are_relative_one_dot_for_the_service_two_for_common():
    none_of([one for one in ours() if one.level == 0 and house(one.target) in ("pacifica", *HOUSES)])
    none_of([one for one in ours() if one.level == 1 and house(one.target) != house(one.source)])
    none_of([one for one in ours() if one.level == 2 and house(one.target) != "common"])
    none_of([one for one in ours() if one.level > 2])


def test_a_room_of_a_service_never_imports_a_room_above_it():
    none_of(
        [
            one
            for one in ours()
            if one.level and house(one.source) in SERVICES and house(one.target) == house(one.source)
            if floor(one.target) > floor(one.source)
        ]
    )


def test_only_the_roof_of_a_service_knows_the_web_framework():
    none_of(
        [
            one
            for one in ours()
            if house(one.source) in SERVICES and floor(one.source) <= FLOORS["tasks"]
            if house(one.target) in ("cherrypy", "cheroot") or one.target == "common.rest"
        ]
    )


def test_state_and_bytes_reach_no_web_framework_not_even_through_others():
    found = []
    for module in {f"common.{name}" for name in GROUND} & MODULES:
        for reached in sorted(reachable(module)):
            found += [one for one in imports(reached) if house(one.target) in ("cherrypy", "cheroot")]
    none_of(found)


def reachable(module: str) -> set[str]:
    """Return ``module`` and every module of ours that importing it brings along."""
    seen, ahead = set(), [module]
    while ahead:
        here = ahead.pop()
        if here not in seen:
            seen.add(here)
            ahead += [one.target for one in imports(here) if one.level and one.target in MODULES]
    return seen


def test_imports_make_no_circle():
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for one in ours():
        if one.level and one.target in MODULES:
            graph[one.source].add(one.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_imports_stand_at_the_top_of_a_module():
    inside = []
    for module in sorted(MODULES):
        for function in ast.walk(tree(module)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
                hidden = [node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)]
                inside += [f"{module.replace('.', '/')}.py:{node.lineno}" for node in hidden]
    none_of(sorted(set(inside)))


def test_a_package_is_nothing_but_its_docstring():
    for path in [ROOT / "__init__.py", *(ROOT / house / "__init__.py" for house in (*HOUSES, "config"))]:
        module = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(module), path
        assert len(module.body) == 1, path


def test_every_module_says_what_it_is():
    none_of([module for module in sorted(MODULES) if not ast.get_docstring(tree(module))])


def test_no_module_is_a_drawer_for_odds_and_ends():
    folders = (*HOUSES, "tests", "benchmarks")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if path.stem in JUNK]
    none_of([str(path.relative_to(ROOT)) for path in found])


def test_only_config_reads_the_environment():
    found = []
    for module in sorted(MODULES - {"common.config"}):
        for node in ast.walk(tree(module)):
            attribute = isinstance(node, ast.Attribute) and ast.unparse(node) in (
                "os.environ",
                "os.environb",
                "os.getenv",
            )
            name = isinstance(node, ast.ImportFrom) and node.module == "os" and {"environ", "getenv"} & imported(node)
            if attribute or name:
                found.append(f"{module.replace('.', '/')}.py:{node.lineno}")
    none_of(found)


def imported(node: ast.ImportFrom) -> set[str]:
    return {alias.name for alias in node.names}


def test_no_test_folder_is_a_package():
    none_of([str(path) for path in (ROOT / "tests").rglob("__init__.py")])
