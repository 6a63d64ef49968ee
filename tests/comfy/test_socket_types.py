"""Values of another type than a socket's: over a wire from a socket of any type, and as constants in the API form."""

from __future__ import annotations

import pytest
from graphs import PAINT, PROMPT, TEXT, loop, node, one_round, pair, report

PICTURE, MODEL, TRAJECTORY = {"wire": ["sketch", 1]}, {"wire": ["model", 0]}, {"wire": ["begin", 0]}

# Values that an input of a type cannot take, as inputs of the node TestAnything.
WRONG = {
    "INT": [{"value": text} for text in ('"nan"', "null", "[1, 2, 3]", "1.5", "true", "NaN", "-1", "1e400")] + [PICTURE],
    "FLOAT": [{"value": text} for text in ('"1"', "null", "{}", "true", "NaN", "Infinity", "-11")] + [PICTURE],
    "STRING": [{"value": text} for text in ("3", "null", "[1, 2]", "false")] + [PICTURE],
    "BOOLEAN": [{"value": text} for text in ('"yes"', "2", "[]")] + [PICTURE],
    "COMBO": [{"value": text} for text in ("3", "null", '"no such choice"')] + [PICTURE],
    "IMAGE": [{"value": text} for text in ('"a picture"', "3", "[]", "{}")] + [MODEL],
    "MASK": [{"value": text} for text in ('"a mask"', "0.5", "[]")] + [TRAJECTORY],
    "LATENT": [{"value": text} for text in ("7", "[]", "{}", '{"samples": 1}')] + [PICTURE],
    "STROKES_MODEL": [{"value": text} for text in ('"a model"', "null", "1", "{}")] + [PICTURE, TRAJECTORY],
    "STROKES_TRAJECTORY": [{"value": text} for text in ('"work"', "null", "[]")] + [PICTURE, MODEL],
    "STROKES_LOOP": [{"value": text} for text in ('"loop"', "null", "1")] + [PICTURE, MODEL],
}  # fmt: skip


def every_node():
    """A graph with every node of the pack in it."""
    work = {"model": ["model", 0], "trajectory": ["sketch", 0]}
    size = {"width": 0, "height": 0}
    text = node("TestAnything", value='"a text"')
    more = {
        "a text": text,
        "stop": node("TestAnything", value="true"),
        "lora": node("StrokesApplyLora", model=["model", 0], lora=["a text", 0], strength=1.0),
        "replace": node("StrokesReplaceImage", **work, image=["sketch", 1], resize_canvas=False),
        "turn": node("StrokesGetTurn", trajectory=["sketch", 0], round=0, picture="last"),
        "save": node("StrokesSaveTrajectory", trajectory=["sketch", 0], filename_prefix="types"),
        "load": node("StrokesLoadTrajectory", path=["a text", 0]),
        "sheet": node("StrokesContactSheet", trajectory=["sketch", 0]),
        "paint": node("StrokesTextToImage", model=["model", 0], prompt=PROMPT, **size, **PAINT),
        "edit": node(
            "StrokesEditImage", model=["model", 0], image=["sketch", 1], instruction="a circle", **size, **PAINT
        ),
        "ask": node("StrokesAsk", model=["model", 0], question=PROMPT, **TEXT),
        "loop": loop(1)["loop"],
    }
    pairs = {name: each for name, each in pair(1, stop=["stop", 0]).items() if name in ("start", "end")}
    return one_round() | pairs | more


def asked(graph, name):
    """What ``graph`` needs for the node ``name``, its results, and a sketch that stays cached from run to run."""
    found, todo = {}, [name, "sketch"]
    while todo:
        key = todo.pop()
        if key not in found:
            found[key] = graph[key]
            todo += [value[0] for value in graph[key]["inputs"].values() if isinstance(value, list)]
    return found | {"seen": report(text=[name, 0]), "kept": report(image=["sketch", 1])}


def test_every_node_is_in_the_graph(driver):
    assert set(driver("schemas")) == {n["class_type"] for n in every_node().values() if "Test" not in n["class_type"]}


@pytest.mark.parametrize("name", [name for name, each in every_node().items() if "Strokes" in each["class_type"]])
def test_a_wire_with_a_value_of_another_type(driver, name):
    graph = every_node()
    kind = graph[name]["class_type"]
    info = driver("schemas")[kind]
    title = info["display_name"].removesuffix(" (Strokes)")
    tried = 0
    for group in ("required", "optional"):
        for socket, (type_, *_) in info["input"].get(group, {}).items():
            for wrong in WRONG["COMBO" if isinstance(type_, list) else type_]:
                if wrong.get("value") == "null" and group == "optional":
                    continue
                graph = every_node()
                graph["wrong"] = node("TestAnything", **{"value": "", **wrong})
                graph["tested"] = node(kind, **graph[name]["inputs"] | {socket: ["wrong", 0]})
                error = driver.fails(asked(graph, "tested"))
                looked_up = "no such choice" in error and socket in ("checkpoint", "dialect", "lora", "verdict")
                assert error.startswith(title) and "\n" not in error, (socket, wrong, error)
                assert looked_up or f": {socket}: " in error and " was expected, " in error, (socket, wrong, error)
                tried += 1
    assert tried


@pytest.mark.parametrize(
    "name, socket, value, message",
    [
        ("begin", "model", "strokes-embedded", "model: a model from Load Unified Model was expected"),
        ("begin", "image", "picture.png", "image: an IMAGE was expected, 'picture.png' (str) was given"),
        ("begin", "prompt", [1, 2, 3], "prompt: a text was expected, [1, 2, 3] (list) was given"),
        ("begin", "width", "nan", "width: a whole number was expected, 'nan' (str) was given"),
        ("begin", "width", float("nan"), "width: a whole number was expected, nan (float) was given"),
        ("begin", "width", float("inf"), "width: a whole number was expected, inf (float) was given"),
        ("begin", "width", [1, 2, 3], "width: a whole number was expected, [1, 2, 3] (list) was given"),
        ("begin", "height", {"a": 1}, "height: a whole number was expected, {'a': 1} (dict) was given"),
        ("plan", "temperature", float("nan"), "temperature: a number from 0.0 to 2.0 was expected, nan (float) was given"),
        ("plan", "trajectory", 3, "trajectory: a trajectory was expected, 3 (int) was given"),
        ("inspect", "verdict", ["model"], "verdict: one of its options was expected, ['model'] (list) was given"),
        ("inspect", "critique", [], "critique: a text was expected"),
        ("replace", "latent", {"samples": 3}, "latent: a LATENT was expected, {'samples': 3} (dict) was given"),
        ("load", "path", [0], "path: a text was expected"),
        ("paint", "height", "64.5.1", "height: a whole number was expected"),
        ("edit", "instruction", [1, 2, 3], "instruction: a text was expected"),
        ("ask", "question", [None], "question: a text was expected"),
        ("start", "trajectory", "work", "trajectory: a trajectory was expected, 'work' (str) was given"),
        ("end", "loop", "loop", "loop: a loop from Loop Start was expected, 'loop' (str) was given"),
        ("end", "stop", {"value": 1}, ""),
    ],
)  # fmt: skip
def test_a_constant_of_another_type(driver, name, socket, value, message):
    graph = every_node()
    needed = asked(graph, name)
    needed[name]["inputs"][socket] = value
    error = driver.fails(needed) if message else str(driver.run(needed))
    assert message in error and "object has no attribute" not in error, error


def test_nothing_at_the_end_of_a_round(driver):
    graph = every_node()
    graph["wrong"] = node("TestAnything", value="null")
    graph["end"]["inputs"] |= {"trajectory": ["wrong", 0], "rounds": 3}
    error = driver.fails(asked(graph, "end"))
    assert error == "Loop End: trajectory: a trajectory was expected, nothing was given"


def test_numbers_of_numpy_are_numbers(driver):
    graph = every_node()
    graph["number"] = node("TestAnything", value="numpy")
    graph["plan"]["inputs"] |= {"seed": ["number", 0], "max_tokens": ["number", 0]}
    assert driver.run(asked(graph, "plan"))["reports"]
