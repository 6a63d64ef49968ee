"""The version of the trajectory format: what has nothing new in it is written as version 1, as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from scripted_painter import same

from strokes.process.pictures import Picture
from strokes.process.store import load, save
from strokes.process.trajectory import Cost, Critique, End, Origin, Painting, Plan, Refinement, Trajectory

FIXTURE = Path(__file__).parents[1] / "fixtures" / "trajectory-0.1"
PLANNED = Plan(instruction="Add a boat.", text="Add a boat.")
NEW = ("margin", "unreadable", "scored", "rejected", "repainted_margin")


def picture(colour):
    return Picture(Image.new("RGB", (16, 16), colour))


def work(plan=PLANNED, critique=None, refinement=None):
    t = Trajectory(prompt="a boat", size=(16, 16)).with_plan(plan).with_sketch(Painting(picture("red")))
    t = t.with_critique(critique or Critique(text="Fine.", explanation="Fine."))
    return t.with_refinement(refinement or Refinement())


def test_a_work_of_version_1_is_written_again_as_it_was(tmp_path):
    before = json.loads((FIXTURE / "trajectory.json").read_text())
    after = json.loads(save(load(FIXTURE), tmp_path).read_text())
    assert before["version"] == after["version"] == 1
    assert after["rounds"] == before["rounds"]


def test_nothing_new_is_written_as_version_1(tmp_path):
    text = save(work(), tmp_path).read_text()
    assert '"version": 1' in text and not any(f'"{key}"' in text for key in NEW)


REJECTS = Critique(text="No.", explanation="No.", correction="Blue.", accepted=False)


@pytest.mark.parametrize(
    "new",
    [
        work(plan=None),
        work(critique=Critique(text="Fine.", explanation="Fine.", margin=0.0)),
        work(critique=Critique(text="", explanation="", accepted=False, unreadable=True)),
        work(critique=replace(REJECTS, origin=Origin(cost=Cost(scored=1)))),
        work(critique=REJECTS, refinement=Refinement(rejected=picture("blue"))),
        work(critique=REJECTS, refinement=Refinement(picture=picture("blue"), repainted_margin=0.0)),
        work(refinement=Refinement(margin=0.0)),
        work(refinement=Refinement(problem="no vision")),
        work().with_end(End(problem="refusal")),
    ],
    ids=["plan", "margin", "unreadable", "scored", "rejected", "repainted", "end margin", "problem", "end"],
)
def test_each_new_thing_makes_it_version_2_and_comes_back(new, tmp_path):
    assert '"version": 2' in save(new, tmp_path).read_text()
    assert same(load(tmp_path), new)
