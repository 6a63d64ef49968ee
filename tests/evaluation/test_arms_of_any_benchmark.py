"""The arms that know only the painter: prompts are plain text, of no world."""

from scripted_painter import CORRECTED, ROUND, ScriptedPainter

from strokes.evaluation import arms
from strokes.evaluation.arms import Task
from strokes.process import stages
from strokes.process.oneshot import text_to_image

TASK = Task("a dog on a sofa", line=3, seed=1, rounds=2)


def test_one_shot_paints_the_prompt_at_once_with_the_seed_of_the_painting():
    painter = ScriptedPainter()
    outcome = arms.one_shot(painter, TASK)
    assert (outcome.pictures, outcome.cost.model_calls, outcome.process) == (1, 49, None)
    again = text_to_image(ScriptedPainter(), TASK.text, seed=stages.stage_seed(1, 3, "prompt"))
    assert outcome.image.tobytes() == again.picture.image.tobytes()


def test_plan_only_lets_the_model_complete_the_instruction_and_paints_once():
    painter = ScriptedPainter(["a dog</des>"])
    outcome = arms.plan_only("paint all of it")(painter, TASK)
    assert painter.texts[0][3] == "<ins>paint all of it</ins><des>" and outcome.pictures == len(painter.paints) == 1


def test_the_process_runs_its_rounds_and_no_inspect_repaints_nothing():
    painter = ScriptedPainter([*CORRECTED, *ROUND])
    outcome = arms.process(painter, TASK)
    assert outcome.pictures == 3 and len(outcome.process.rounds) == TASK.rounds and not painter.replies
    painter = ScriptedPainter([CORRECTED[0], CORRECTED[2], ROUND[0], ROUND[2]])
    outcome = arms.no_inspect(painter, TASK)
    assert outcome.pictures == 2 and all(r.critique.accepted for r in outcome.process.rounds)
