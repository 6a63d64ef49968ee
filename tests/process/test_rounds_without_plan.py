"""Rounds without plan and sketch, as a person sees them."""

from __future__ import annotations

from scripted_painter import ScriptedPainter

from strokes.process import stages
from strokes.process.dialects.reflection import ReflectionDialect
from strokes.process.sheet import contact_sheet
from strokes.process.wording import LOOKS_AGAIN
from strokes.viewer.page import html_page


def test_page_and_sheet_say_that_the_last_picture_is_looked_at_again():
    painter = ScriptedPainter(
        ["nothing that can be read"] * 2, ReflectionDialect(system_prompt="Stand-in system prompt.")
    )
    done = stages.begin(painter, "two red boats on a lake")
    heights = []
    for number in range(2):
        for stage in (stages.plan, stages.sketch, stages.inspect, stages.refine):
            done = stage(painter, done)
        heights.append(contact_sheet(done).height)
        assert html_page(done).count(LOOKS_AGAIN) == number
    assert done.rounds[1].critique.unreadable and not done.rounds[1].sketch
    assert 0 < heights[1] - heights[0] < 200, "a row of text"
