"""Both loops on the real executor: what runs, in every cache mode; when it ends; what is shown; where it can be stopped.

The toy model never ends by itself, the one that ships along ends when everything is there.
"""

from __future__ import annotations

import pytest
from graphs import inspect, loop, node, one_round, pair, plan, refine, report, sketch, start

CACHES = ("classic", "ram", "lru", "none")
STAGES = ("plan", "sketch", "inspect", "refine")


def rounds_run(found, name="sketch"):
    """How often a node, or any of its copies, was run."""
    return sum(ran == name or ran.endswith(("." + name, "_" + name)) for ran in found["ran"])


def endless(graph, toy):
    graph["model"]["inputs"]["checkpoint"] = toy
    for name in ("plan", "inspect", "loop"):
        if name in graph:
            graph[name]["inputs"]["max_tokens"] = 3
    return graph


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("make", [loop, pair])
def test_ends_after_two_of_six(fresh, make, cache):
    found = fresh.run(make(6), cache=cache)
    assert found["reports"][0]["rounds"] == 2 and found["reports"][0]["ended"]
    for stage in STAGES:
        assert rounds_run(found, stage) == 2
    if make is pair:
        assert rounds_run(found, "user") == rounds_run(found, "preview") == 2
    pictures = found["reports"][0]["pictures"]
    assert found["reports"][0]["image shape"] == [len(pictures), 64, 64, 3]
    again = fresh.run(make(6), cache=cache)
    if cache != "none":
        assert again["ran"] == []


def test_every_cache_gives_the_same_work(fresh):
    works = [fresh.run(make(6), cache=cache)["reports"][0] for make in (loop, pair) for cache in CACHES]
    assert works[0] == works[1] == works[2] == works[3]
    assert works[4] == works[5] == works[6] == works[7]
    assert works[0]["texts"] == works[4]["texts"]


@pytest.mark.parametrize("cache", ["classic", "ram", "lru"])
@pytest.mark.parametrize("make", [loop, pair])
def test_one_more_round_runs_one_round(fresh, toy, make, cache):
    three = fresh.run(endless(make(3), toy), cache=cache)
    assert three["reports"][0]["rounds"] == 3
    pictures = three["reports"][0]["pictures"]
    four = fresh.run(endless(make(4), toy), cache=cache)
    assert four["reports"][0]["rounds"] == 4
    for stage in STAGES:
        assert rounds_run(four, stage) == 1, four["ran"]
    two = fresh.run(endless(make(2), toy), cache=cache)
    assert rounds_run(two) == 0 and two["reports"][0]["rounds"] == 2
    assert four["reports"][0]["pictures"][: len(pictures)] == pictures


def test_both_loops_paint_what_the_stages_paint_by_hand(fresh):
    by_hand = fresh.run(one_round())["reports"][0]
    looped = fresh.run(loop(1))["reports"][0]
    assert by_hand["pictures"] == looped["pictures"] and by_hand["texts"] == looped["texts"]


def test_a_finished_work_runs_nothing_of_the_body(fresh):
    graph = pair(4)
    graph["again"] = node("StrokesLoopStart", trajectory=["end", 0])
    for name, made in (
        ("plan2", plan(["again", 0])),
        ("sketch2", sketch(["plan2", 0])),
        ("inspect2", inspect(["sketch2", 0])),
        ("refine2", refine(["inspect2", 0])),
        ("preview2", node("PreviewImage", images=["sketch2", 1])),
    ):
        graph[name] = made
    graph["end2"] = node("StrokesLoopEnd", loop=["again", 1], trajectory=["refine2", 0], rounds=4)
    graph["report"] = report(trajectory=["end2", 0])
    found = fresh.run(graph)
    assert found["reports"][0]["rounds"] == 2
    assert not {"sketch2", "inspect2", "refine2", "user2"} & set(payload["node"] for payload in found["payloads"])
    assert not any("end2.r" in ran for ran in found["ran"])


def test_a_finished_work_passes_every_stage_unchanged(fresh):
    graph = loop(4)
    graph |= {
        "plan": plan(["loop", 0]),
        "sketch": sketch(["plan", 0]),
        "inspect": inspect(["sketch", 0]),
        "refine": refine(["inspect", 0]),
        "after": report(trajectory=["refine", 0], flag=["plan", 3], image=["refine", 1]),
    }
    found = fresh.run(graph)["reports"]
    before, after = sorted(found, key=lambda each: "flag" in each)
    assert after["flag"] == "True" and after["pictures"] == before["pictures"] and after["texts"] == before["texts"]


def test_stop(fresh, toy):
    body = {"stop": node("TestStopAfter", trajectory=["refine", 0], rounds=2)}
    found = fresh.run(endless(pair(6, body, stop=["stop", 0]), toy))
    assert found["reports"][0]["rounds"] == 2 and rounds_run(found, "stop") == 2 and rounds_run(found, "user") == 2


def test_outputs_that_hang_off_the_body_run_once_a_round(fresh, toy):
    body = {"side": node("PreviewImage", images=["sketch", 1])}
    found = fresh.run(endless(pair(3, body), toy))
    assert rounds_run(found, "side") == 3 and rounds_run(found) == 3
    after = {"after": node("PreviewImage", images=["end", 1])}
    found = fresh.run(endless(pair(3, after), toy))
    assert rounds_run(found, "after") == 1


def test_two_loops_in_a_row(fresh, toy):
    graph = endless(pair(2), toy)
    graph["loop"] = {**loop(2)["loop"]}
    graph["loop"]["inputs"] |= {"trajectory": ["end", 0], "max_tokens": 3}
    graph["report"] = report(trajectory=["loop", 0])
    assert fresh.run(graph)["reports"][0]["rounds"] == 4


@pytest.mark.parametrize("cache", CACHES)
def test_nested_loops(fresh, toy, cache):
    graph = endless(start(), toy) | {
        "start": node("StrokesLoopStart", trajectory=["begin", 0]),
        "inner": {**loop(2)["loop"]},
        "in start": node("StrokesLoopStart", trajectory=["inner", 0]),
        "plan": plan(["in start", 0], max_tokens=3),
        "sketch": sketch(["plan", 0]),
        "inspect": inspect(["sketch", 0], max_tokens=3),
        "refine": refine(["inspect", 0]),
        "in end": node("StrokesLoopEnd", loop=["in start", 1], trajectory=["refine", 0], rounds=2),
        "end": node("StrokesLoopEnd", loop=["start", 1], trajectory=["in end", 0], rounds=3),
        "report": report(trajectory=["end", 0]),
    }
    graph["inner"]["inputs"] |= {"trajectory": ["start", 0], "max_tokens": 3}
    found = fresh.run(graph, cache=cache)
    assert found["reports"][0]["rounds"] == 12
    assert rounds_run(found, "sketch") == 12
    if cache != "none":
        graph["end"]["inputs"]["rounds"] = 4
        assert rounds_run(fresh.run(graph, cache=cache), "sketch") == 4


def test_what_is_shown_carries_its_round(fresh):
    for make, where in ((loop, {"loop"}), (pair, {"plan", "sketch", "inspect", "refine", "preview"})):
        fresh("free")
        found = fresh.run(make(6))
        shown = [p for p in found["payloads"] if p["display"] != "report"]
        assert {p["display"] for p in shown} == where
        assert [p["strokes_round"] for p in shown if p["node"].endswith("sketch")] == [[1], [2]]


def test_errors_inside_name_the_stage_and_the_round(fresh):
    graph = pair(3)
    graph["inspect"] = inspect(["replace", 0], verdict="correct", correction="paint a unicorn")
    message = fresh.fails(graph)
    assert message.startswith("Inspect, round 1:") and "unicorn" in message and "circle" in message
    graph = pair(3, {"again": sketch(["sketch", 0])})
    graph["replace"]["inputs"]["trajectory"] = ["again", 0]
    assert "round 1 of the trajectory expects inspect next" in fresh.fails(graph)


@pytest.mark.parametrize("rounds, message", [(0, "smaller than min of 1"), (33, "bigger than max of 32")])
def test_rounds_out_of_range(fresh, rounds, message):
    assert message in fresh.fails(loop(rounds)) and message in fresh.fails(pair(rounds))


def test_a_loop_end_without_its_start(fresh):
    graph = pair(3)
    graph["end"]["inputs"]["loop"] = ["sketch", 0]
    assert "mismatch" in fresh.fails(graph)
    del graph["end"]["inputs"]["loop"]
    assert "Required input is missing" in fresh.fails(graph)


@pytest.mark.parametrize(
    "where, calls",
    [
        ("plan", 1),
        ("plan", 3),
        ("sketch", 2),
        ("inspect", 2),
        ("refine", 1),
        ("loop.sketch", 1),
        ("loop.end.r2_loop.inspect", 2),
    ],
)
def test_an_interrupt_stops_within_one_model_call(fresh, toy, where, calls):
    graph = endless(loop(3), toy) if where.startswith("loop") else endless(pair(3), toy)
    if "refine" in where:
        graph["inspect"] = inspect(
            graph["inspect"]["inputs"]["trajectory"], verdict="correct", correction="add a red circle"
        )
    stopped = fresh("run", prompt=graph, stop_in=where, after_calls=calls)
    assert stopped["interrupted"] and stopped["calls after the flag"] <= 1 and not stopped["reports"]
    after = fresh.run(graph)["reports"]
    fresh("free")
    assert after == fresh.run(graph)["reports"]


def test_an_interrupt_in_a_copy_of_the_body(fresh, toy):
    graph = endless(pair(3), toy)
    stopped = fresh("run", prompt=graph, stop_in="end.r2_sketch", after_calls=1)
    assert stopped["interrupted"] and stopped["calls after the flag"] <= 1
    found = fresh.run(graph)
    assert "sketch" not in found["ran"] and found["reports"][0]["rounds"] == 3


def test_loops_that_share_their_beginning(fresh, toy):
    def both(rounds):
        graph = endless(pair(rounds), toy)
        other = {
            name: graph[name]
            for name in ("start", "plan", "sketch", "user", "preview", "replace", "inspect", "refine", "end")
        }

        def renamed(value):
            return [f"{value[0]} b", value[1]] if isinstance(value, list) and value[0] in other else value

        for name, each in other.items():
            inputs = {key: renamed(value) for key, value in each["inputs"].items()}
            graph[f"{name} b"] = {**each, "inputs": inputs}
        graph["plan b"]["inputs"]["instruction"] = "add a red circle"
        graph["report b"] = report(trajectory=["end b", 0])
        return graph

    fresh.run(both(2))
    found = fresh.run(both(3))
    assert rounds_run(found) == rounds_run(found, "sketch b") == 1


def test_without_a_cache_the_model_is_loaded_once(fresh, toy):
    before = fresh("loads")
    fresh.run(endless(pair(4), toy), cache="none")
    assert fresh("loads") - before == 1
    assert fresh("alive")["networks"] == 0


def test_a_plan_that_ends_the_work_in_a_round(fresh):
    """A second pass over a finished picture: the model plans nothing, and nothing in the body changes it."""
    graph = pair(4)
    graph["again"] = node("TestReopen", trajectory=["end", 0])
    graph["start 2"] = node("StrokesLoopStart", trajectory=["again", 0])
    graph["plan 2"] = plan(["start 2", 0])
    graph["sketch 2"] = sketch(["plan 2", 0])
    graph["replace 2"] = node(
        "StrokesReplaceImage",
        model=["model", 0],
        trajectory=["sketch 2", 0],
        image=["sketch 2", 1],
        resize_canvas=False,
    )
    graph["inspect 2"] = inspect(["replace 2", 0])
    graph["refine 2"] = refine(["inspect 2", 0])
    graph["end 2"] = node("StrokesLoopEnd", loop=["start 2", 1], trajectory=["refine 2", 0], rounds=3)
    graph["after"] = report(trajectory=["end 2", 0], flag=["plan 2", 3])
    before, after = sorted(fresh.run(graph)["reports"], key=lambda each: "flag" in each)
    assert after["flag"] == "True" and after["ended"] and after["latents"] == before["latents"]
