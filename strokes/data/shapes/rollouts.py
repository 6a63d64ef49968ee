"""Rollouts in the shapes world: their preset, prompts and annotator."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from ...shapes.drawing import Detection
from ...shapes.sampling import TRAINED, PromptMix, sample_prompt
from ..rollouts import RolloutTask, SelfSampling
from .annotator import ShapesAnnotator


@dataclass(frozen=True, kw_only=True)
class ShapesSelfSampling(SelfSampling):
    """Preset of a data set of rollouts for prompts of the mix ``prompts``."""

    prompts: PromptMix = TRAINED


def rollout_task(preset: ShapesSelfSampling) -> RolloutTask[list[Detection]]:
    """Prompts of the preset's mix, annotated by rules."""
    return RolloutTask(partial(_draw_prompt, preset.prompts), ShapesAnnotator)


def _draw_prompt(mix: PromptMix, rng: np.random.Generator) -> tuple[str, int]:
    prompt, graph, _ = sample_prompt(rng, mix)
    return prompt, len(graph.objects) + 2
