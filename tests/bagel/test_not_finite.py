"""Numbers that are not finite end their stage with an error that names where they began."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from PIL import Image

from strokes.bagel.engine.finite import NotFinite, check_finite
from strokes.bagel.painter import BagelPainter
from strokes.errors import StrokesError
from strokes.process import loop, oneshot, stages
from strokes.process.painter import Painter
from strokes.process.settings import PaintOverrides, TextOverrides

QUICK = PaintOverrides(steps=2)
EXPERT, OTHER = "layers.0.mlp.up_proj.weight", "layers.1.mlp_moe_gen.down_proj.weight"


def damaged(checkpoint, key, value=float("nan")):
    model = copy.deepcopy(checkpoint.model)
    parameter = next(p for name, p in model.named_parameters() if name.endswith(key))
    parameter.data.view(-1)[3] = value
    return BagelPainter(replace(checkpoint, model=model))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("key", [EXPERT, OTHER, "embed_tokens.weight", "llm2vae.weight", "norm_moe_gen.weight"])
def test_a_damaged_tensor_is_named_and_nothing_black_is_painted(toy_checkpoint, key, value):
    painter = damaged(toy_checkpoint, key, value)
    if key == "embed_tokens.weight":  # the row of a word that is read
        word = painter.checkpoint.tokenizer.token_to_id("red")
        painter.checkpoint.model.language_model.model.embed_tokens.weight.data[word] = value
    with pytest.raises(NotFinite, match=rf"velocities of step 1 of 2 .*{key}' is damaged") as error:
        oneshot.text_to_image(painter, "a red circle", settings=QUICK)
    assert isinstance(error.value, StrokesError) and "\n" not in str(error.value)


def test_a_text_ends_at_its_first_token_that_is_none(toy_checkpoint):
    painter: Painter = damaged(toy_checkpoint, EXPERT)
    with pytest.raises(NotFinite, match=rf"logits of token 1 hold NaN .*{EXPERT}' is damaged; download"):
        oneshot.ask(painter, None, "a red circle", settings=TextOverrides(max_tokens=3))
    with pytest.raises(NotFinite, match="probabilities of the answers"):
        painter.score(painter.read_text(painter.blank(), "a red circle"), ["red", ""])


def test_the_autoencoder_is_named(toy_checkpoint):
    for part in ("encoder.conv_in", "decoder.conv_in"):
        autoencoder = copy.deepcopy(toy_checkpoint.autoencoder)
        autoencoder.module.get_parameter(f"{part}.weight").data[:] = float("nan")
        painter = BagelPainter(replace(toy_checkpoint, autoencoder=autoencoder))
        with pytest.raises(NotFinite, match=rf"'{part}.weight' of the autoencoder is damaged: download ae.safetensors"):
            oneshot.edit_image(painter, Image.new("RGB", (64, 64), "red"), "a red circle", settings=QUICK)


def test_where_the_weights_are_finite_the_precision_is_named(toy_checkpoint, monkeypatch):
    painter = BagelPainter(toy_checkpoint)
    velocities = painter.runner.velocities
    monkeypatch.setattr(painter.runner, "velocities", lambda hidden: [v / 0 for v in velocities(hidden)])
    with pytest.raises(NotFinite, match="all weights are finite: choose another precision"):
        oneshot.text_to_image(painter, "a red circle", settings=QUICK)


def test_what_was_finished_before_is_kept(toy_checkpoint):
    painter, kept = BagelPainter(toy_checkpoint), []
    quick = loop.StageSettings(sketch=QUICK, refine=QUICK)
    velocities, calls = painter.runner.velocities, []

    def broken(hidden):
        calls.append(1)
        return [v * float("nan") if len(calls) > 2 else v for v in velocities(hidden)]

    painter.runner.velocities = broken
    begun = stages.plan(
        painter, stages.begin(painter, "a red circle"), instruction="add a red circle", description="a red circle"
    )

    def reject(sketched):
        return stages.inspect(painter, sketched, given=stages.GivenCritique("correct", correction="a blue circle"))

    with pytest.raises(NotFinite):
        loop.run(painter, begun, 1, settings=quick, inspect=reject, events=loop.Events(on_turn=kept.append))
    assert [turn.stage for turn in kept] == ["inspect", "refine"] and kept[-1].picture


def test_the_check_itself():
    check_finite(torch.full((4096, 64), 3e4, dtype=torch.bfloat16), "velocities")
    check_finite(torch.empty(0), "velocities")
    for bad in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(NotFinite, match="velocities hold NaN"):
            check_finite(torch.tensor([1.0, bad]), "velocities")
