"""Memory: the prefix cache in its patcher, unloading between any two stages, freeing everything, many runs in one process."""

from __future__ import annotations

import pytest
from graphs import inspect, loop, node, one_round, pair, refine, report, sketch

CORRECTED = {"verdict": "correct", "correction": "add a red circle"}


def test_a_round_prefills_each_segment_once(fresh):
    fresh.run(one_round())
    counts = fresh("prefix_cache")
    # Prompt, plan, and the sketch as latents and as pixels; the last two again behind the prompt alone, where the end is
    # decided and the next round begins. The poorer contexts of guidance are views of these.
    assert counts["prefilled"] == counts["entries"] == 6
    assert counts["reused"] > 0 and counts["bytes"] > 0


def test_the_memo_survives_a_second_load_and_not_an_unload(fresh):
    fresh.run(one_round())
    before = fresh("prefix_cache")
    changed = one_round(refine={"seed": 1})
    assert fresh.run(changed)["ran"] == ["refine", "report"]
    after = fresh("prefix_cache")
    assert after["prefilled"] == before["prefilled"] and after["reused"] > before["reused"]
    assert fresh("unload")["bytes"] == 0


@pytest.mark.parametrize("after", ["begin", "plan", "sketch", "inspect", "refine"])
def test_unloading_between_two_stages_changes_nothing(fresh, after):
    graph = one_round(inspect=CORRECTED)
    plain = fresh.run(graph)["reports"]
    counts = fresh("prefix_cache")
    fresh("free")
    graph = one_round(inspect=CORRECTED)
    graph["unload"] = node("TestUnload", model=["model", 0], trajectory=[after, 0])
    for name, other in graph.items():
        if name != "unload" and other["inputs"].get("trajectory") == [after, 0]:
            other["inputs"]["trajectory"] = ["unload", 0]
    assert fresh.run(graph)["reports"] == plain
    again = fresh("prefix_cache")
    # Before anything was read, and after everything was, there is nothing to read again.
    assert (again["prefilled"] > counts["prefilled"]) == (after in ("plan", "sketch", "inspect"))


def test_unloading_inside_a_loop_changes_nothing(fresh):
    plain = fresh.run(pair(4))["reports"]
    fresh("free")
    graph = pair(4, {"unload": node("TestUnload", model=["model", 0], trajectory=["replace", 0])})
    graph["inspect"]["inputs"]["trajectory"] = ["unload", 0]
    assert fresh.run(graph)["reports"] == plain


def test_freeing_leaves_nothing_of_ours(fresh):
    fresh.run(loop(3))
    fresh.run(pair(3))
    held = fresh("alive")
    assert held["networks"] == 1 and held["prefix cache bytes"] > 0 and held["trajectories"] > 0
    freed = fresh("free")
    ours = ("trajectories", "blocks", "networks", "prefix caches", "pictures", "autoencoders", "prefix cache bytes")
    assert {name: freed[name] for name in ours} == dict.fromkeys(ours, 0)


def test_one_load_however_many_nodes(fresh):
    graph = one_round()
    graph["model2"] = graph["model"]
    graph["sketch"]["inputs"]["model"] = ["model2", 0]
    fresh.run(graph, cache="none")
    assert fresh("alive")["networks"] <= 1
    fresh.run(graph)
    assert fresh("alive")["networks"] == 1


def test_other_precisions_are_other_models(fresh):
    graph = one_round(inspect=CORRECTED)
    graph["model2"] = node("StrokesLoadModel", checkpoint="strokes-embedded", precision="bfloat16", device="cpu")
    graph["refine"]["inputs"]["model"] = ["model2", 0]
    fresh.run(graph)
    assert fresh("alive")["networks"] == 2


def test_many_runs_hold_no_more_than_a_few(fresh):
    """The same loop with a new seed each: nothing may grow."""
    states = {}
    for seed in range(40):
        fresh.run(loop(2, seed=seed, steps=1))
        if seed in (9, 39):
            states[seed] = fresh("alive")
    early, late = states[9], states[39]
    for name in ("trajectories", "blocks", "networks", "pictures"):
        assert late[name] <= early[name] + 2, name
    assert late["resident"] - early["resident"] < 30 << 20


def test_memory_pressure_evicts_the_oldest_first(fresh):
    fresh.run(one_round())
    before = fresh("prefix_cache")
    found = fresh("pressure", fraction=0.5)
    assert 0 < found["bytes"] < before["bytes"] and found["freed"] >= 0.5 * before["bytes"]
    assert found["counted"] == found["loaded"] == found["weights"] + found["bytes"]
    again = one_round(refine={"seed": 5}, inspect=CORRECTED)
    kept = fresh.run(again)["reports"]
    fresh("free")
    assert fresh.run(again)["reports"] == kept


def test_a_branch_goes_on_from_any_stage(fresh):
    graph = one_round(inspect=CORRECTED)
    graph |= {
        "sketch2": sketch(["plan", 0], seed=9),
        "inspect2": inspect(["sketch2", 0], **CORRECTED),
        "refine2": refine(["inspect2", 0]),
        "report2": report(trajectory=["refine2", 0]),
    }
    one, other = fresh.run(graph)["reports"]
    assert one["texts"] == other["texts"] and one["pictures"] != other["pictures"]
