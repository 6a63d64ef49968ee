"""The documents against the repository: paths, names, links, sizes and commands; and the workflow on GitHub."""

from __future__ import annotations

import ast
import re
import runpy
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    *(f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG", "strokes/embedded/MODEL_CARD")),
    *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md")),
]
ROOMS = ("strokes", "nodes", "model_loader", "web", "locales", "example_workflows", "assets", "tests", "benchmarks")
# A path from the root, wherever it stands in a document: in prose, in a table or in a block of code.
PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join((*ROOMS, 'docs', '[.]ci', '[.]github'))})/[\w./-]*")
WORKFLOW = ".github/workflows/ci.yml"


def text_of(document):
    return (ROOT / document).read_text(encoding="utf-8")


def section(document, heading):
    """What stands between a heading of the second level and the next."""
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text_of(document), re.MULTILINE | re.DOTALL)[1]


def block(document, heading):
    """The lines of a section's first block of code."""
    return re.search(r"^```\w*\n(.*?)^```", section(document, heading), re.MULTILINE | re.DOTALL)[1].splitlines()


@cache
def names_in(path):
    """Every name that a module's top level and its classes define; a class's members as ``Class.member``."""

    def names(body, prefix=""):
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield prefix + node.name
                if isinstance(node, ast.ClassDef):
                    yield from names(node.body, f"{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))

    return frozenset(names(ast.parse(path.read_text(encoding="utf-8")).body))


def test_the_readme_is_short():
    lines = text_of("README.md").splitlines()
    assert len(lines) <= 130
    assert not {number: len(line) for number, line in enumerate(lines, 1) if len(line) > 160}


@pytest.mark.parametrize("heading", ["Try it", "Test"])
def test_a_command_to_copy_is_one_line(heading):
    (command,) = block("README.md", heading)
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_the_library_snippet_paints(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    snippet = "\n".join(block("README.md", "As a library"))
    assert '"picture.png"' in snippet
    exec(snippet.replace('"picture.png"', repr(str(tmp_path / "picture.png"))), {})
    assert (tmp_path / "picture.png").stat().st_size


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_exists(document):
    text = text_of(document)
    paths = {path.rstrip(".") for path in PATH.findall(text)}
    # A file without its folder would be missed above.
    paths |= set(re.findall(r"`([\w./-]+\.(?:py|md|toml))[`:]", text))
    assert not sorted(path for path in paths if not (ROOT / path).exists())


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_name_exists(document):
    text = text_of(document)
    places = re.findall(r"([\w./-]+\.py)::([\w.]+\w)", text)
    assert not [f"{path}::{name}" for path, name in places if name not in names_in(ROOT / path)]
    known = {name for path in ROOT.glob("strokes/**/*.py") for name in names_in(path)}
    assert not [name for name in re.findall(r"`([A-Z][a-z]\w*\.\w+)`", text) if name not in known]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document):
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text_of(document)) if "://" not in link]
    assert not [link for link in links if not ((ROOT / document).parent / link).exists()]


def test_the_rooms_are_those_of_the_import_test():
    """The same arrows, in an order in which all of them point down."""

    def short(room):
        return room.removeprefix("strokes.").replace(".", "/")

    arrows = runpy.run_path(str(ROOT / "tests" / "test_house.py"))["ROOMS"]
    wanted = {short(room): {short(other) for other in others} - {"errors", "files"} for room, others in arrows.items()}
    for unshown in ("errors", "files", "__main__"):
        del wanted[unshown]
    rows = re.findall(r"^\| `(.+?)/?` \|.*\| (.+?) \|$", section("ARCHITECTURE.md", "Rooms"), re.MULTILINE)
    found = {
        room.removeprefix("strokes/").removesuffix(".py"): set(others.split(", ")) - {"–"} for room, others in rows
    }
    assert found == wanted
    order = list(found)
    assert not [room for i, room in enumerate(order) if not found[room] <= set(order[i + 1 :])]


def test_the_glossary_is_short():
    words = re.findall(r"^\| (?!word |-)([^|]+?) \|", section("ARCHITECTURE.md", "Glossary"), re.MULTILINE)
    assert 10 <= len(words) <= 25
    assert words == sorted(set(words), key=str.lower)


def test_the_changelog_knows_this_version():
    version = re.search(r'^version = "(.+)"$', text_of("pyproject.toml"), re.MULTILINE)[1]
    assert re.search(rf"^## {re.escape(version)} ", text_of("CHANGELOG.md"), re.MULTILINE)


def test_the_workflow_runs_the_readme_command():
    assert "- run: .ci/run\n" in text_of(WORKFLOW)
    assert "README.md" in text_of(".ci/run")


LINTERS = {
    "schema": [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", WORKFLOW],
    "zizmor": [shutil.which("zizmor", path=Path(sys.executable).parent) or "zizmor", "--offline", "-q", WORKFLOW],
}


@pytest.mark.parametrize("linter", LINTERS)
def test_the_workflow_is_clean(linter):
    done = subprocess.run(LINTERS[linter], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
