"""The rooms of the house: which may import which. ARCHITECTURE.md shows the same table."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

# A room (the longest name that a module begins with) and the rooms that it may import.
ROOMS: dict[str, set[str]] = {
    "strokes.errors": set(),
    "strokes.files": {"strokes.errors"},
    "strokes.shapes": {"strokes.errors"},
    "strokes.process": {"strokes.errors", "strokes.files"},
    "strokes.viewer": {"strokes.process"},
    "strokes.bagel.network": {"strokes.errors", "strokes.files"},
    "strokes.bagel.engine": {"strokes.errors", "strokes.bagel.network"},
    "strokes.bagel.weights": {"strokes.errors", "strokes.files", "strokes.process", "strokes.bagel.network"},
    "strokes.bagel": {
        "strokes.errors", "strokes.process", "strokes.bagel.network", "strokes.bagel.engine", "strokes.bagel.weights",
    },
    "strokes.bagel.parity": {
        "strokes.errors", "strokes.files", "strokes.bagel", "strokes.bagel.network", "strokes.bagel.engine",
        "strokes.bagel.weights",
    },
    "strokes.models": {"strokes.errors", "strokes.bagel", "strokes.bagel.weights"},
    "strokes.data": {"strokes.errors", "strokes.files", "strokes.process", "strokes.bagel", "strokes.shapes"},
    "strokes.data.shapes": {"strokes.errors", "strokes.process", "strokes.bagel", "strokes.shapes", "strokes.data"},
    "strokes.training": {
        "strokes.errors", "strokes.files", "strokes.process", "strokes.bagel", "strokes.bagel.network", "strokes.data",
    },
    "strokes.evaluation": {"strokes.errors", "strokes.process"},
    "strokes.evaluation.shapes": {"strokes.errors", "strokes.process", "strokes.shapes", "strokes.evaluation"},
    "strokes.recipes": {
        "strokes.errors", "strokes.files", "strokes.models", "strokes.bagel", "strokes.bagel.network",
        "strokes.bagel.weights", "strokes.shapes", "strokes.data", "strokes.data.shapes", "strokes.training",
        "strokes.evaluation", "strokes.evaluation.shapes", "strokes.process",
    },
    "strokes.cli": {
        "strokes.errors", "strokes.files", "strokes.models", "strokes.process", "strokes.viewer", "strokes.bagel",
        "strokes.bagel.parity", "strokes.recipes", "strokes.evaluation", "strokes.evaluation.shapes",
    },
    "strokes.__main__": {"strokes.cli"},
    "model_loader": {
        "strokes.errors", "strokes.files", "strokes.models", "strokes.process", "strokes.bagel",
        "strokes.bagel.network", "strokes.bagel.engine", "strokes.bagel.weights",
    },
    "nodes": {"strokes.errors", "strokes.process", "model_loader"},
}  # fmt: skip


def modules() -> dict[str, Path]:
    paths = [p for top in ("strokes", "model_loader", "nodes") for p in (ROOT / top).rglob("*.py")]
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}


def room_of(module: str) -> str:
    return max((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), key=len, default="")


def imports(module: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of ours that a file imports, anywhere in it."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            # ComfyUI has a module "nodes" too: ours are imported by that name nowhere.
            found |= {name.name for name in node.names if name.name.startswith("strokes")}
        elif isinstance(node, ast.ImportFrom):
            # The pack's root stands above "strokes" and "nodes": relative imports may climb to it.
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            for name in node.names:
                inner = f"{source}.{name.name}".strip(".")
                found.add(inner if inner in known else source)
    return {name for name in found if room_of(name)}


def test_rooms_import_only_what_they_may():
    known = modules()
    assert not [name for name in known if not room_of(name) and name != "strokes"]
    wrong = []
    for module, path in sorted(known.items()):
        room = room_of(module)
        for other in sorted(imports(module, path, known)):
            if room and room_of(other) not in ROOMS[room] | {room}:
                wrong.append(f"{module} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_no_imports_go_in_circles():
    known = modules()
    graph = {name: imports(name, path, known) & known.keys() - {name} for name, path in known.items()}
    free: set[str] = set()
    while ready := {name for name, others in graph.items() if name not in free and others <= free}:
        free |= ready
    assert free == graph.keys(), f"a circle among {sorted(graph.keys() - free)}"


def test_the_table_itself_has_no_circle():
    free: set[str] = set()
    while ready := {room for room, others in ROOMS.items() if room not in free and others <= free}:
        free |= ready
    assert free == ROOMS.keys(), sorted(ROOMS.keys() - free)


def test_strokes_knows_no_comfyui():
    names = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "server", "execution"}
    for module, path in modules().items():
        if module.startswith("strokes"):
            for node in ast.walk(ast.parse(path.read_text())):
                given = [n.name for n in node.names] if isinstance(node, ast.Import) else []
                given += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                assert not names & {name.split(".")[0] for name in given}, module


def test_importing_strokes_is_cheap():
    """The command line and a menu of models load no network library before one is opened."""
    heavy = ("torch", "transformers", "diffusers", "tokenizers", "accelerate", "matplotlib")
    code = f"import sys, strokes, strokes.models, strokes.cli.main; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_whatever_runs_the_network_brings_it_to_its_device_first():
    """In ComfyUI other nodes may have pushed it out. On a CPU nothing would show that a method was forgotten."""
    tree = ast.parse((ROOT / "model_loader" / "bagel.py").read_text())
    painter = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "ManagedPainter")
    brings = {n.name for n in painter.body if isinstance(n, ast.FunctionDef) and "_bring_to_device()" in ast.unparse(n)}
    bagel = ast.parse((ROOT / "strokes" / "bagel" / "painter.py").read_text())
    methods = [n for c in bagel.body if isinstance(c, ast.ClassDef) for n in c.body if isinstance(n, ast.FunctionDef)]
    runs = {n.name for n in methods if not n.name.startswith("_") and "self.runner" in ast.unparse(n).split("\n", 1)[1]}
    assert runs - {"device"} == brings == {"write_text", "score", "paint_picture"}
