"""The graph around a data object: what it was made from, what was made from it, its steps; as JSON, DOT and SVG."""

import json
from collections import deque
from typing import Any
from xml.sax.saxutils import escape

from ..common.auth import Principal
from .orm import Data, Dependency, State

MAX_NODES = 500
WIDTH, HEIGHT, GAP = 180, 40, 30  # of a box and between boxes, in SVG's user units
COLOURS = {State.OK: "#cfe8cf", State.ER: "#f3c6c6"}
Graph = dict[str, Any]


def around(data: Data, principal: Principal) -> Graph:
    """Return ``nodes`` (id, name, type, status) and ``edges`` (parent, child, kind) that ``principal`` may see.

    Walks both ways, nearest first; ``truncated`` says that there are more than MAX_NODES.
    """
    nodes: dict[int, Data] = {data.id: data}
    edges: dict[tuple[int, int, str], None] = {}
    todo = deque([data.id])
    truncated = False
    while todo:
        here = todo.popleft()
        touching = (Dependency.parent == here) | (Dependency.child == here)
        links = Dependency.select().where(touching & Dependency.parent.is_null(False)).order_by(Dependency.id)
        for link in links.limit(2 * MAX_NODES):
            other = link.child if link.parent == here else link.parent
            if other not in nodes:
                row = Data.get_or_none(Data.id == other)
                if row is None or not principal.owns(row.owner):
                    continue
                if len(nodes) >= MAX_NODES:
                    truncated = True
                    continue
                nodes[other] = row
                todo.append(other)
            edges[link.parent, link.child, link.kind] = None
    shown = [
        {"id": id, "name": row.name, "type": row.type, "status": "PR" if row.state == State.FO else str(row.state)}
        for id, row in sorted(nodes.items())
    ]
    return {
        "nodes": shown,
        "edges": [{"parent": parent, "child": child, "kind": kind} for parent, child, kind in sorted(edges)],
        "truncated": truncated,
    }


def dot(graph: Graph) -> str:
    """Return the graph in Graphviz's language; names are quoted as JSON texts, which are DOT strings."""
    lines = ["digraph flow {", "  node [shape=box];"]
    for node in graph["nodes"]:
        label = json.dumps(f"{node['id']} {node['status']} {node['name'] or node['type']}".replace("\\", "/"))
        lines.append(f"  {node['id']} [label={label}];")
    for edge in graph["edges"]:
        style = " [style=dashed]" if edge["kind"] == "subprocess" else ""
        lines.append(f"  {edge['parent']} -> {edge['child']}{style};")
    return "\n".join([*lines, "}", ""])


def svg(graph: Graph) -> str:
    """Return the graph as a picture without scripts or links: a column for each step from the origin."""
    level = {node["id"]: 0 for node in graph["nodes"]}
    for edge in sorted(graph["edges"], key=lambda edge: edge["child"]):  # parents have the lower ids
        level[edge["child"]] = max(level[edge["child"]], level[edge["parent"]] + 1)
    rows: dict[int, int] = {}
    place = {}
    for id, column in sorted(level.items()):
        place[id] = (GAP + column * (WIDTH + 2 * GAP), GAP + rows.get(column, 0) * (HEIGHT + GAP))
        rows[column] = rows.get(column, 0) + 1
    width = max(x for x, _ in place.values()) + WIDTH + GAP
    height = max(y for _, y in place.values()) + HEIGHT + GAP
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">']
    for edge in graph["edges"]:
        (x1, y1), (x2, y2) = place[edge["parent"]], place[edge["child"]]
        dashes = ' stroke-dasharray="4"' if edge["kind"] == "subprocess" else ""
        ends = f'x1="{x1 + WIDTH}" y1="{y1 + HEIGHT // 2}" x2="{x2}" y2="{y2 + HEIGHT // 2}"'
        parts.append(f'<line {ends} stroke="#666"{dashes}/>')
    for node in graph["nodes"]:
        x, y = place[node["id"]]
        name = "".join(c for c in node["name"] or node["type"] if c.isprintable())
        text = escape(f"{node['id']} {node['status']} {name[:18]}")
        fill = COLOURS.get(node["status"], "#eeeeee")
        parts.append(f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" fill="{fill}" stroke="#333"/>')
        parts.append(f'<text x="{x + 8}" y="{y + 25}" font-size="13">{text}</text>')
    return "\n".join([*parts, "</svg>", ""])
