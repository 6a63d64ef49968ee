"""The real ComfyUI, where there is one: its executor behind :class:`Driver`, its server behind :class:`Server`.

Looked for at ``$COMFYUI_PATH``, around the pack where it lies in ``custom_nodes``, and at ``~/comfy/ComfyUI``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import synthetic_bagel

PACK = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import checkpoints  # noqa: E402


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("comfy")


def find_comfy() -> tuple[Path, Path] | None:
    """ComfyUI's folder and its Python."""
    given = os.environ.get("COMFYUI_PATH")
    places = [Path(given)] if given else [PACK.parent.parent, Path.home() / "comfy" / "ComfyUI"]
    for place in places:
        for python in (".venv/bin/python", "venv/bin/python", ".venv/Scripts/python.exe"):
            if (place / "main.py").exists() and (place / "comfy_api").is_dir() and (place / python).exists():
                return place, place / python
    return None


@pytest.fixture(scope="session")
def comfy():
    found = find_comfy()
    if found is None:
        pytest.skip("no ComfyUI with its own .venv: set COMFYUI_PATH, or install one at ~/comfy/ComfyUI")
    return found


@pytest.fixture(scope="session")
def base(comfy, tmp_path_factory):
    """A base directory for ComfyUI with nothing in it but this pack."""
    folder = tmp_path_factory.mktemp("comfy")
    for name in ("custom_nodes", "input", "output", "temp", "user", "models/strokes", "models/loras"):
        (folder / name).mkdir(parents=True)
    (folder / "custom_nodes" / "ComfyUI-Strokes").symlink_to(PACK)
    return folder


class Driver:
    """ComfyUI's executor in a process of its own, with its command line's ``options``; see ``driver.py``."""

    def __init__(self, comfy, base, *options):
        root, python = comfy
        self.log = open(base / f"driver{''.join(options)}.log", "w")  # noqa: SIM115
        self.process = subprocess.Popen(
            [python, HERE / "driver.py", root, base, *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
        )  # fmt: skip
        self.loaded = self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            pytest.fail("the ComfyUI process ended:\n" + Path(self.log.name).read_text()[-3000:])
        found = json.loads(line)
        if isinstance(found, dict) and "failed" in found:
            pytest.fail(found["failed"] + "\n" + Path(self.log.name).read_text()[-3000:])
        return found

    def __call__(self, op, **arguments):
        self.process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def run(self, graph, **arguments):
        """Run a graph that must succeed."""
        found = self("run", prompt=graph, **arguments)
        assert not found.get("invalid") and not found["error"], found
        return found

    def fails(self, graph, **arguments):
        """The message of a graph that must fail, before the run or in it."""
        found = self("run", prompt=graph, **arguments)
        if found.get("invalid"):
            return " ".join(" ".join(map(str, error)) for error in found["invalid"])
        assert found["error"], found
        return found["error"]

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)
        self.log.close()


@pytest.fixture(scope="session")
def driver(comfy, base):
    driver = Driver(comfy, base)
    yield driver
    driver.close()


@pytest.fixture
def driver_with(comfy, base):
    """Makes one more driver, with options of ComfyUI's command line."""
    made = []

    def make(*options):
        made.append(Driver(comfy, base, *options))
        return made[-1]

    yield make
    for driver in made:
        driver.close()


@pytest.fixture
def fresh(driver):
    """The executor with nothing cached and nothing loaded."""
    driver("free")
    return driver


@pytest.fixture(scope="session")
def toy(base, endless_folder):
    """The name of an untrained model among ComfyUI's checkpoints, one that never writes the end of a text."""
    shutil.copytree(endless_folder, base / "models" / "strokes" / "toy")
    return "toy/ema.safetensors"


@pytest.fixture(scope="session")
def models(base):
    return base / "models"


@pytest.fixture(scope="session")
def state():
    """The synthetic checkpoint's tensors in bfloat16."""
    return synthetic_bagel.weights()


@pytest.fixture(scope="session")
def published(state, models):
    """The name in the menu of a folder as BAGEL-7B-MoT was published."""
    name = checkpoints.write("published", models / "strokes" / "published", state)
    return f"published/{name}"
