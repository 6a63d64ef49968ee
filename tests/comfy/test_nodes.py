"""The nodes on ComfyUI's real executor."""

from __future__ import annotations

from graphs import loop, one_round, pair


def test_the_pack_loads_quickly_and_imports_nothing_heavy(driver):
    assert driver.loaded["loaded"] and driver.loaded["seconds"] < 1 and not driver.loaded["heavy"]


def test_one_round(fresh):
    found = fresh.run(one_round())
    assert found["ran"] == ["model", "begin", "plan", "sketch", "inspect", "refine", "report"]


def test_loop(fresh):
    print(fresh.run(loop(3)))


def test_pair(fresh):
    print(fresh.run(pair(3)))
