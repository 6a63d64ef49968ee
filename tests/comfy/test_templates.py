"""Every shipped workflow, on ComfyUI's real server: what can run here runs, all are checked against its nodes."""

from __future__ import annotations

import io
import re
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from server import Server
from workflow import graph_of, inputs_of, is_widget, load, settings_of, to_prompt, widgets_of

from strokes.bagel.painter import BagelPainter
from strokes.bagel.weights.checkpoint import load as load_checkpoint
from strokes.process import loop, stages, store

PACK = Path(__file__).resolve().parents[2]
FOLDER = PACK / "example_workflows"
EMBEDDED = PACK / "strokes" / "embedded"
TEMPLATES = {path.stem: path for path in sorted(FOLDER.glob("*.json"))}
DOWNLOADS = ("Sketch, ControlNet, refine (FLUX)", "Sketch and upscale model", "Sketch as FLUX latent")
HERE = [name for name in TEMPLATES if name not in DOWNLOADS]
STAGES = ("StrokesPlan", "StrokesSketch", "StrokesInspect", "StrokesRefine")

SAVED = PACK / "tests" / "fixtures" / "workflow-0.1.json"
# Widgets are saved by position, so one that moved would take another's value.
WIDGETS = {
    "StrokesLoadModel": {"checkpoint": "strokes-embedded", "precision": "auto", "device": "auto"},
    "StrokesBegin": {"prompt": "a green cross right of a yellow triangle", "width": 64, "height": 64},
    "StrokesPlan": {"seed": 7, "temperature": 0.3, "max_tokens": 48, "instruction": "", "description": ""},
    "StrokesSketch": {
        "seed": 7, "steps": 9, "text_guidance": 1.5, "image_guidance": 1.25, "shift": 2.5, "renorm": "channel",
        "extrapolate": True,
    },
    "StrokesReplaceImage": {"resize_canvas": False},
    "StrokesInspect": {
        "seed": 7, "temperature": 0.2, "max_tokens": 40, "verdict": "accept", "critique": "the step is correct.",
        "correction": "",
    },
    "StrokesRefine": {
        "seed": 8, "steps": 5, "text_guidance": 3.0, "image_guidance": 2.0, "shift": 1.5, "renorm": "text_channel",
        "extrapolate": False,
    },
    "StrokesLoopEnd": {"rounds": 2},
}  # fmt: skip

pytestmark = pytest.mark.skipif(
    not (EMBEDDED / "ema.safetensors").exists(), reason="the embedded model has not been trained"
)


def models_of(workflow):
    return [m for _, node in graph_of(workflow).all() for m in node["properties"].get("models", [])]


@pytest.fixture(scope="session")
def server(comfy, base):
    """With empty files in the places of all models that templates name."""
    placeholders = base / "placeholders"
    for model in chain.from_iterable(models_of(load(path)) for path in TEMPLATES.values()):
        file = placeholders / model["directory"] / model["name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    server = Server(comfy, base, placeholders)
    yield server
    server.close()


@pytest.fixture(scope="session")
def object_info(server):
    return server.get("object_info")


def test_templates_are_there():
    assert set(DOWNLOADS) < set(TEMPLATES) and len(HERE) == 7
    for path in TEMPLATES.values():
        assert path.stat().st_size < 100_000
        with Image.open(path.with_suffix(".jpg")) as picture:
            assert picture.format == "JPEG" and 600 <= picture.width <= 1200
        assert path.with_suffix(".jpg").stat().st_size < 80_000


@pytest.mark.parametrize("name", TEMPLATES)
def test_fits_the_servers_nodes(name, object_info):
    workflow = load(TEMPLATES[name])
    for graph, node in graph_of(workflow).all():
        info, properties = object_info[node["type"]], node["properties"]
        specs, where = inputs_of(info), f"{name}: {node['type']}"
        ours = node["type"].startswith("Strokes")
        assert properties["Node name for S&R"] == node["type"]
        assert (properties["cnr_id"], bool(properties["ver"])) == ("strokes" if ours else "comfy-core", True)
        for widget, value in widgets_of(node, info).items():
            check_widget(f"{where} {widget}", specs[widget], value)
        linked = {slot["name"] for slot in node["inputs"] if slot["link"] is not None}
        needed = {n for n in info["input"].get("required", {}) if not is_widget(specs[n])}
        assert {slot["name"] for slot in node["inputs"]} == set(specs), where
        assert needed <= linked, where
        assert [slot["type"] for slot in node["outputs"]] == info["output"], where
        assert [slot["name"] for slot in node["outputs"]] == info["output_name"], where
        for link in graph.links.values():
            check_link(graph, link, object_info)


def check_widget(where, spec, value):
    kind, settings = spec[0], settings_of(spec)
    options = kind if isinstance(kind, list) else settings.get("options")
    if options is not None:
        assert value in options, f"{where}: {value}"
        return
    types = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}
    assert isinstance(value, types[kind]) and (kind == "BOOLEAN" or not isinstance(value, bool)), f"{where}: {value}"
    if kind in ("INT", "FLOAT"):
        assert settings.get("min", value) <= value <= settings.get("max", value), f"{where}: {value}"


def check_link(graph, link, object_info):
    number, origin, out, target, slot, kind = link
    origin, target = graph.nodes[origin], graph.nodes[target]
    assert number in origin["outputs"][out]["links"] and target["inputs"][slot]["link"] == number
    wanted = inputs_of(object_info[target["type"]])[target["inputs"][slot]["name"]][0]
    assert kind == object_info[origin["type"]]["output"][out]
    assert wanted == "*" or kind == wanted


@pytest.mark.parametrize("name", DOWNLOADS)
def test_names_what_to_download(name, object_info):
    """Every file in a loader that is not there by itself has its address and folder, and a note says what was not run."""
    workflow = load(TEMPLATES[name])
    files = ("checkpoint", "ckpt_name", "control_net_name", "model_name")
    for _, node in graph_of(workflow).all():
        values = widgets_of(node, object_info[node["type"]])
        chosen = {values[f] for f in files if values.get(f, "strokes-embedded") != "strokes-embedded"}
        models = node["properties"].get("models", [])
        assert chosen == {m["name"] for m in models}
        for model in models:
            assert set(model) == {"name", "url", "directory"}
            assert re.fullmatch(r"https://huggingface\.co/[^/]+/[^/]+/resolve/main/.+\.safetensors", model["url"])
            assert model["url"].endswith(model["name"].split("/")[-1])
    assert any("Not run by us" in n["widgets_values"][0] for n in workflow["nodes"] if n["type"] == "MarkdownNote")


@pytest.mark.parametrize("name", HERE)
def test_runs_to_the_end(name, server, base, object_info):
    prompt = to_prompt(load(TEMPLATES[name]), object_info)
    run = server.run(prompt)
    assert not run.error and run.history["status"]["status_str"] == "success"
    before = set(chain.from_iterable(data["nodes"] for data in run.of("execution_cached")))
    assert set(prompt) <= set(run.ran) | before
    outputs = {n: p["class_type"] for n, p in prompt.items() if object_info[p["class_type"]]["output_node"]}
    assert outputs.keys() <= run.history["outputs"].keys()
    for node, kind in outputs.items():
        for saved in run.history["outputs"][node].get("images", []):
            with Image.open(base / saved["type"] / saved["subfolder"] / saved["filename"]) as picture:
                assert np.ptp(np.asarray(picture)) > 50, f"{kind} is blank"
    for loop_kind in {p["class_type"] for p in prompt.values()} & {"StrokesLoop", "StrokesLoopEnd"}:
        check_rounds(run, prompt, loop_kind)


def check_rounds(run, prompt, kind):
    """Every stage ran once a round, no more often than asked, and its messages say in which round."""
    end = next(node for node in prompt.values() if node["class_type"] == kind)
    told = {}
    for data in run.of("executed"):
        if data["output"] and "strokes_round" in data["output"]:
            told.setdefault(data["display_node"], []).append(data["output"]["strokes_round"][0])
    assert told
    for node, found in told.items():
        copies = 1 if kind == "StrokesLoopEnd" else len(STAGES)
        assert sorted(found) == sorted(list(range(1, max(found) + 1)) * copies), node
        assert max(found) <= end["inputs"]["rounds"], node


def test_the_loop_is_the_command_lines(server, base, object_info):
    prompt = to_prompt(load(TEMPLATES["Paint in strokes"]), object_info)
    node, widgets = next((n, p["inputs"]) for n, p in prompt.items() if p["class_type"] == "StrokesLoop")
    save = {"trajectory": [node, 0], "filename_prefix": "the loop"}
    run = server.run({**prompt, "save": {"class_type": "StrokesSaveTrajectory", "inputs": save}})
    assert not run.error
    ours = store.load(base / "output" / "the loop_00001_")

    painter = BagelPainter(load_checkpoint(EMBEDDED))
    begin = stages.begin(painter, prompt[widgets["trajectory"][0]]["inputs"]["prompt"])
    theirs = loop.run(painter, begin, widgets["rounds"], seed=widgets["seed"])
    assert ours.ended == theirs.ended and len(ours.rounds) == len(theirs.rounds) > 1
    assert [turn.text for turn in ours.turns if hasattr(turn, "text")] == [
        turn.text for turn in theirs.turns if hasattr(turn, "text")
    ]
    assert [name for name, _ in ours.pictures] == [name for name, _ in theirs.pictures]
    for (name, one), (_, other) in zip(ours.pictures, theirs.pictures, strict=True):
        difference = np.asarray(one.image, int) - np.asarray(other.image, int)
        assert np.abs(difference).max() <= 1, name


def test_a_loop_in_a_subgraph(server, base, object_info):
    """The body of the loop, its ends with it, gives inside a subgraph what it gives outside."""
    flat = load(TEMPLATES["Loop with your own nodes"])
    around = ("StrokesLoadModel", "StrokesBegin", "StrokesContactSheet", "SaveImage", "MarkdownNote")
    nested = into_subgraph(flat, [n["id"] for n in flat["nodes"] if n["type"] not in around])
    pictures = []
    for workflow in (nested, flat):
        prompt = to_prompt(workflow, object_info)
        for node in prompt.values():
            node["inputs"] |= {"seed": 7} if "seed" in node["inputs"] else {}
        server.post("free", {"unload_models": True, "free_memory": True})
        run = server.run(prompt)
        assert not run.error
        check_rounds(run, prompt, "StrokesLoopEnd")
        save = next(n for n, p in prompt.items() if p["class_type"] == "SaveImage")
        saved = run.history["outputs"][save]["images"][0]
        pictures.append((base / saved["type"] / saved["subfolder"] / saved["filename"]).read_bytes())
        assert any(node.startswith("sub:") for node in run.ran) == (workflow is nested)
    one, other = (np.asarray(Image.open(io.BytesIO(data))) for data in pictures)
    assert (one == other).all()


def into_subgraph(workflow, ids):
    """The workflow with some of its nodes moved into a subgraph, as the frontend writes it."""
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    outer, links, inputs, outputs = [], [], [], []
    for number, origin, out, target, slot, kind in workflow["links"]:
        inner = [number, origin, out, target, slot, kind]
        if origin not in ids and target not in ids:
            outer.append(inner)
            continue
        if origin not in ids:
            outer.append([number, origin, out, "sub", len(inputs), kind])
            inner[1:3] = -10, len(inputs)
            inputs.append({"name": f"in {number}", "type": kind, "link": number})
        if target not in ids:
            outer.append([number, "sub", len(outputs), target, slot, kind])
            inner[3:5] = -20, len(outputs)
            outputs.append({"name": f"out {number}", "type": kind, "links": [number]})
        links.append(dict(zip(names, inner, strict=True)))
    definition = {"id": "body", "nodes": [n for n in workflow["nodes"] if n["id"] in ids], "links": links}
    node = {"id": "sub", "type": "body", "inputs": inputs, "outputs": outputs}
    rest = [n for n in workflow["nodes"] if n["id"] not in ids]
    return {"nodes": [*rest, node], "links": outer, "definitions": {"subgraphs": [definition]}}


def test_a_workflow_of_the_first_version_is_read_and_runs(server, object_info):
    prompt = to_prompt(load(SAVED), object_info)
    found = {node["class_type"]: node["inputs"] for node in prompt.values()}
    for kind, widgets in WIDGETS.items():
        assert {name: found[kind][name] for name in widgets} == widgets
    run = server.run(prompt)
    assert not run.error and run.history["status"]["status_str"] == "success"


def test_the_log_is_clean(server):
    """Last of all: nothing of ours, and no traceback of anyone's."""
    lines = server.log.read_text().splitlines()
    bad = [line for line in lines if re.search(r"\[(WARNING|ERROR|CRITICAL)\]|Warning:|Traceback", line)]
    assert not [line for line in bad if "strokes" in line.lower() or "Traceback" in line], bad
