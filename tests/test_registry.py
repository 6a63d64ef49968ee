"""What the Comfy registry and ComfyUI Manager read of the pack."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
tomllib = pytest.importorskip("tomllib")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_fields_the_registry_asks_for():
    project, comfy = PROJECT["project"], PROJECT["tool"]["comfy"]
    assert "comfyui" not in project["name"].lower() and re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert project["description"] and project["requires-python"] and project["license"] == {"file": "LICENSE"}
    assert project["urls"]["Repository"].startswith("https://github.com/")
    assert comfy["PublisherId"] and comfy["DisplayName"] and comfy["requires-comfyui"].startswith(">=")
    for field, fits in (("Icon", lambda w, h: w == h <= 400), ("Banner", lambda w, h: abs(w / h - 21 / 9) < 0.01)):
        path = ROOT / comfy[field].split("/main/")[1]
        with Image.open(path) as image:
            assert fits(*image.size), field


def test_the_extension_needs_little():
    needed = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    assert needed == ["diffusers>=0.35"]
    assert "torch" in PROJECT["project"]["dependencies"] and not any(
        "torch=" in d for d in PROJECT["project"]["dependencies"]
    )
    assert set(PROJECT["project"]["optional-dependencies"]) == {"cli", "quant", "test", "train"}


def test_what_the_registry_leaves_out():
    ignored = (ROOT / ".comfyignore").read_text().split()
    assert "tests/" in ignored and not {"example_workflows/", "locales/", "web/", "strokes/"} & set(ignored)
