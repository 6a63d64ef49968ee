"""Presets of one stage of training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StagePreset:
    """Length and mix of one stage of training.

    Of ``batch`` samples a step, a share is one-shot; it moves linearly from ``one_shot[0]`` to ``one_shot[1]`` in the
    first ``ramp`` steps. Of the rounds, ``own`` are self-sampled.
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
