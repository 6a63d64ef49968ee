"""The frontend's workflow files (version 0.4) → prompts for ComfyUI's executor, as its own Run button makes them.

Knows widgets, links into widgets and subgraphs; not muted nodes, reroutes, primitives or widgets that a subgraph promotes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
NOTES = ("Note", "MarkdownNote")
# Where a subgraph's inner links begin that come from outside, and end that go there.
OUTER_IN, OUTER_OUT = -10, -20


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def inputs_of(info: dict[str, Any]) -> dict[str, list[Any]]:
    """A node's inputs in their order: type (or options) and settings."""
    names = [name for part in ("required", "optional") for name in info["input_order"].get(part, [])]
    return {name: info["input"].get("required", {}).get(name) or info["input"]["optional"][name] for name in names}


def settings_of(spec: list[Any]) -> dict[str, Any]:
    return spec[1] if len(spec) > 1 else {}


def is_widget(spec: list[Any]) -> bool:
    return (isinstance(spec[0], list) or spec[0] in WIDGETS) and not settings_of(spec).get("forceInput")


def widgets_of(node: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """The values of a node's widgets by name; an optional one that came later has its default, as in the frontend. Raises
    ValueError where the file has too few or too many."""
    values, found = iter(node.get("widgets_values") or []), {}
    later = info["input"].get("optional", {})
    try:
        for name, spec in inputs_of(info).items():
            if not is_widget(spec):
                continue
            settings = settings_of(spec)
            found[name] = next(values, settings.get("default")) if name in later else next(values)
            # Widgets that the frontend adds by itself: what happens to a seed after a run, and the upload button.
            seed = spec[0] == "INT" and name in ("seed", "noise_seed")
            if settings.get("control_after_generate", seed) or settings.get("image_upload"):
                next(values)
    except StopIteration:
        raise ValueError(f"{node['type']} {node['id']}: too few widget values") from None
    if rest := list(values):
        raise ValueError(f"{node['type']} {node['id']}: widget values left over: {rest}")
    return found


class Graph:
    """One level of a workflow: its nodes and links, and the subgraph node around it."""

    def __init__(self, level: dict[str, Any], subgraphs: dict[str, Any], outer: Graph | None = None, at: Any = None):
        self.level, self.subgraphs, self.outer, self.at = level, subgraphs, outer, at
        self.nodes = {node["id"]: node for node in level["nodes"]}
        self.links = {link[0]: link for link in map(_link, level["links"])}
        self.prefix = f"{outer.prefix}{at['id']}:" if outer else ""

    def inner(self, node: dict[str, Any]) -> Graph:
        return Graph(self.subgraphs[node["type"]], self.subgraphs, self, node)

    def all(self) -> Iterator[tuple[Graph, dict[str, Any]]]:
        """Every node that the executor sees, with the level it is on."""
        for node in self.nodes.values():
            if node["type"] in self.subgraphs:
                yield from self.inner(node).all()
            elif node["type"] not in NOTES:
                yield self, node

    def source(self, link_id: int) -> list[Any] | None:
        """The executor's [node, output] behind a link, through subgraphs; None where it is an open end."""
        _, origin, slot, *_ = self.links[link_id]
        if origin == OUTER_IN:
            assert self.outer is not None
            link = self.at["inputs"][slot]["link"]
            return None if link is None else self.outer.source(link)
        node = self.nodes[origin]
        if node["type"] not in self.subgraphs:
            return [f"{self.prefix}{origin}", slot]
        inner = self.inner(node)
        end = next(link for link in inner.links.values() if link[3] == OUTER_OUT and link[4] == slot)
        return inner.source(end[0])


def _link(link: Any) -> list[Any]:
    """Links are lists, in subgraphs dictionaries: id, origin, its slot, target, its slot, type."""
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    return [link[name] for name in names] if isinstance(link, dict) else link


def graph_of(workflow: dict[str, Any]) -> Graph:
    definitions = workflow.get("definitions") or {}
    return Graph(workflow, {found["id"]: found for found in definitions.get("subgraphs", [])})


def to_prompt(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """Raises KeyError for a node type that the server does not have, ValueError for widgets that do not fit."""
    prompt = {}
    for graph, node in graph_of(workflow).all():
        inputs = widgets_of(node, object_info[node["type"]])
        sources = {slot["name"]: graph.source(slot["link"]) for slot in node["inputs"] if slot["link"] is not None}
        inputs |= {name: source for name, source in sources.items() if source is not None}
        prompt[f"{graph.prefix}{node['id']}"] = {"class_type": node["type"], "inputs": inputs}
    return prompt
