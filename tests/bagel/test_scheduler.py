"""Many processes at once give what they give alone, in order, and stop run_batched."""

from __future__ import annotations

import signal
import threading

import numpy as np
import pytest
from PIL import Image

from strokes.bagel.painter import BagelPainter
from strokes.bagel.scheduler import run_batched
from strokes.errors import Cancelled, StrokesError
from strokes.process import loop, oneshot, stages
from strokes.process.settings import PaintOverrides, TextOverrides, TextSettings

QUICK = PaintOverrides(steps=3, text_guidance=2.0, interval=(0.0, 1.0))
BRIEF = TextOverrides(max_tokens=12)
PROMPTS = (
    "a red circle",
    "a blue square above a red circle",
    "a red circle and a blue square",
    "two circles",
    "a cross",
)


def process(prompt, seed, rounds=1):
    """Texts and latents of a process."""

    def job(painter):
        done = loop.run(
            painter,
            stages.begin(painter, prompt),
            rounds,
            seed=seed,
            settings=loop.StageSettings(plan=BRIEF, inspect=BRIEF, sketch=QUICK, refine=QUICK),
        )
        texts = [text for r in done.rounds for text in (r.plan.text, r.critique.text)]
        return texts, [picture.latents for _, picture in done.pictures]

    return job


def one_shot(painter):
    """Guided away from no context at all, with velocities extrapolated."""
    settings = PaintOverrides(steps=8, text_guidance=2.0, interval=(0.0, 1.0), extrapolate=True)
    return [], [oneshot.text_to_image(painter, "a red circle", settings=settings).picture.latents]


def edit(painter):
    """Three branches, and a picture that has to be encoded."""
    settings = PaintOverrides(steps=3, text_guidance=2.0, image_guidance=2.0, interval=(0.0, 1.0))
    image = Image.new("RGB", (64, 64), (200, 30, 30))
    return [], [oneshot.edit_image(painter, image, "add a blue circle", settings=settings).picture.latents]


JOBS = [*(process(prompt, i) for i, prompt in enumerate(PROMPTS)), one_shot, edit]


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("job ")]


@pytest.mark.parametrize(("width", "rows"), [(1, 1024), (3, 1024), (64, 1024), (64, 60)])
def test_together_as_alone_and_in_order(toy_painter, width, rows):
    alone = [job(BagelPainter(toy_painter.checkpoint)) for job in JOBS]
    batched = list(run_batched(toy_painter, JOBS, width, rows=rows))
    assert [texts for texts, _ in batched] == [texts for texts, _ in alone]
    for (_, ours), (_, theirs) in zip(batched, alone, strict=True):
        assert len(ours) == len(theirs) and all(np.abs(a - b).max() < 1e-4 for a, b in zip(ours, theirs, strict=True))
    assert not threads()


def test_the_same_call_gives_the_same_bits(toy_painter):
    jobs = [process(prompt, i, 2) for i, prompt in enumerate(PROMPTS)]
    first, again = (list(run_batched(toy_painter, jobs, 3)) for _ in range(2))
    for (texts, ours), (other, theirs) in zip(first, again, strict=True):
        assert texts == other and all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_callers_memo_is_left_alone(toy_painter):
    list(run_batched(toy_painter, JOBS[:2]))
    assert len(toy_painter.prefix_cache) == 0


def test_an_error_in_a_job_stops_all(toy_painter):
    ended = []

    def good(painter):
        try:
            return process("a red circle", 0)(painter)
        finally:
            ended.append("good")

    def bad(painter):
        painter.write_text(painter.read_text(painter.blank(), "a red circle"), TextSettings(max_tokens=12), 0)
        stages.begin(painter, "a purple elephant")

    with pytest.raises(StrokesError, match="does not know"):
        list(run_batched(toy_painter, [good, good, bad, good, bad], 4))
    assert ended == ["good"] * 3, "the fifth never began"
    assert not threads()


def test_a_job_cannot_take_the_stop_for_its_own_error(toy_painter):
    def stubborn(painter):
        while True:
            try:
                process("a red circle", 0)(painter)
            except Exception:
                continue

    def bad(painter):
        raise StrokesError("no")

    with pytest.raises(StrokesError, match="no"):
        list(run_batched(toy_painter, [stubborn, bad]))
    assert not threads()


def test_progress_counts_and_may_cancel(toy_painter):
    seen = []

    def count(done, total):
        seen.append((done, total))
        if done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(run_batched(toy_painter, JOBS, 2, on_done=count))
    assert seen == [(1, 7), (2, 7), (3, 7)]
    assert not threads()


def test_a_caller_may_stop_listening(toy_painter):
    results = run_batched(toy_painter, [one_shot, *JOBS], 2)
    next(results)
    assert threads(), "the second job takes longer"
    results.close()
    assert not threads()


def test_ctrl_c_stops_all(toy_painter):
    def interrupt(painter):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return process("a red circle", 0)(painter)

    # In the background of a shell it is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(run_batched(toy_painter, [JOBS[0], interrupt, JOBS[1]]))
    finally:
        signal.signal(signal.SIGINT, before)
    assert not threads()
