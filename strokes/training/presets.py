"""Preset of one stage of training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StagePreset:
    """Length, mix and optimiser settings of one stage.

    ``batch`` samples a step, of all processes together. The share of one-shot samples moves linearly from ``one_shot[0]``
    to ``one_shot[1]`` over the first ``ramp`` steps; the rest are rounds, a share ``own`` of them self-sampled.
    ``text_weight`` is the weight of the text losses beside flow matching, ``text_free`` the probability that a target
    is also trained without the last text.
    """

    steps: int = 4000
    batch: int = 48
    one_shot: tuple[float, float] = (0.6, 0.35)
    ramp: int = 1500
    own: float = 0.0
    noise_levels: int = 3
    # Where a shape goes is decided at t above 0.85, which plain logit-normal times hardly visit.
    shift: float = 3.0
    learning_rate: float = 2e-3
    warmup: int = 200
    decay: float = 0.3
    ema: float = 0.999
    text_weight: float = 0.3
    text_free: float = 0.1

    def rate(self, step: int) -> float:
        """Factor of the learning rate: linear warm-up, constant, linear fall to zero over the last ``decay`` of the stage."""
        return min(1.0, (step + 1) / self.warmup, (self.steps - step) / (self.decay * self.steps))
