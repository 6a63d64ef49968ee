"""The nodes on ComfyUI's real executor."""

from __future__ import annotations

from graphs import loop, one_round, pair


def test_the_pack_loads_quickly_and_imports_nothing_heavy(driver):
    assert driver.loaded["loaded"] and driver.loaded["seconds"] < 1 and not driver.loaded["heavy"]


def test_one_round(fresh):
    found = fresh.run(one_round())
    assert found["ran"] == ["model", "begin", "plan", "sketch", "inspect", "refine", "report"]


def test_loop(fresh):
    found = fresh.run(loop(3))
    assert found["reports"][0]["rounds"] == len([name for name in found["ran"] if name.endswith("plan")])


def test_pair(fresh):
    found = fresh.run(pair(3))
    assert found["reports"][0]["rounds"] == len([name for name in found["ran"] if name.endswith("plan")])
