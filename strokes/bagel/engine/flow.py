"""Flow sampling: the schedule, guidance with three contexts, renorm, and step extrapolation.

Pure functions of tensors; what a model call is, the caller says. ``t`` runs from 1 (noise) to 0 (image).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...errors import StrokesError

RENORMS = ("global", "channel", "text_channel")


def timesteps(calls: int, shift: float) -> list[float]:
    """``calls + 1`` times from 1 to 0: ``t = linspace``, then ``t ← s·t / (1 + (s−1)·t)``. The last is where sampling ends."""
    # float32, as the reference: which side of the guidance interval's edge a time falls on depends on it.
    t = torch.linspace(1, 0, calls + 1)
    t = shift * t / (1 + (shift - 1) * t)
    t[0] = 1.0  # a hair above would fall outside the interval
    return t.tolist()


def guided(t: float, interval: tuple[float, float]) -> bool:
    """Whether guidance is on at time ``t``: ``lo < t ≤ hi``, in float32 as the reference compares."""
    lo, hi = torch.tensor(interval, dtype=torch.float32).tolist()
    return lo < t <= hi


def _renormed(u: Tensor, v: Tensor, per_token: bool, floor: float) -> Tensor:
    norm = (lambda x: x.norm(dim=-1, keepdim=True)) if per_token else torch.Tensor.norm
    return u * (norm(v) / (norm(u) + 1e-8)).clamp(floor, 1.0)


def combine(
    v: Tensor, v_text: Tensor | None, v_image: Tensor | None, text: float, image: float, renorm: str, floor: float
) -> Tensor:
    """The guided velocity of ``[N, token_dim]`` velocities: main, text-free, image-free (None where it is not needed).

    ``text`` and ``image`` are the scales; a text scale of at most 1 means no guidance at all, as in the reference.
    """
    if renorm not in RENORMS:
        raise StrokesError(f"renorm '{renorm}' is unknown; choose one of {', '.join(RENORMS)}")
    if text <= 1 or v_text is None:
        return v
    u = v_text + text * (v - v_text)
    if renorm == "text_channel":
        u = _renormed(u, v, True, floor)
    if image > 1 and v_image is not None:
        u = v_image + image * (u - v_image)
    return u if renorm == "text_channel" else _renormed(u, v, renorm == "channel", floor)


@dataclass
class Extrapolation:
    """Taylor extrapolation of one branch's last hidden rows (TaylorSeer's result, which only the last layer decides).

    Calls 0…4 of the branch are full, then every third; finite differences up to order 6 in units of the call index,
    taken from call 4 on.
    """

    warm: int = 5
    every: int = 3
    order: int = 6
    call: int = 0
    last_full: int = 0
    terms: list[Tensor] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether the coming call has to be run in full."""
        return self.call < self.warm or (self.call - self.warm + 1) % self.every == 0

    def record(self, hidden: Tensor) -> Tensor:
        """Take the result of a full call."""
        new = [hidden]
        if self.call >= self.warm - 1:
            distance = self.call - self.last_full
            for lower in self.terms[: self.order]:
                new.append((new[-1] - lower) / distance)
        self.terms, self.last_full = new, self.call
        self.call += 1
        return hidden

    def predict(self) -> Tensor:
        """The result of a skipped call."""
        x = self.call - self.last_full
        self.call += 1
        return torch.stack([term * (x**i / math.factorial(i)) for i, term in enumerate(self.terms)]).sum(0)


@dataclass(frozen=True)
class Guidance:
    text: float = 4.0
    image: float = 1.0
    interval: tuple[float, float] = (0.4, 1.0)
    renorm: str = "global"
    renorm_min: float = 0.0


@dataclass(frozen=True)
class Preserved:
    """Tokens that sampling leaves alone: ``clean [N, token_dim]`` where ``where [N]`` is True."""

    clean: Tensor
    where: Tensor

    def put(self, x: Tensor, noise: Tensor, t: float) -> Tensor:
        """``x`` with the kept tokens as the flow has them at time ``t``; at 0 they are the clean ones, bit for bit."""
        known = self.clean if t == 0 else (1 - t) * self.clean + t * noise
        return torch.where(self.where[:, None], known, x)


# (names of branches to run, x [N, token_dim], t) -> velocity of each
Velocities = Callable[[Sequence[str], Tensor, float], Sequence[Tensor]]
# (calls done, calls in all, x, v, t)
OnFlowStep = Callable[[int, int, Tensor, Tensor, float], None]


def sample(
    velocities: Velocities,
    noise: Tensor,
    calls: int,
    shift: float,
    guidance: Guidance,
    same_text: bool,
    same_image: bool,
    on_step: OnFlowStep | None = None,
    preserved: Preserved | None = None,
) -> Tensor:
    """Euler from ``noise [N, token_dim]`` (float32) to clean tokens.

    ``same_text`` and ``same_image`` say that the poorer context equals the main one: its velocity is the main one's, and
    it is never run.
    """
    x, times = noise, timesteps(calls, shift)
    for i, (t, t_next) in enumerate(zip(times, times[1:], strict=False)):
        on = guided(t, guidance.interval)
        text, image = (guidance.text, guidance.image) if on else (1.0, 1.0)
        names = ["main"]
        if text > 1 and not same_text:
            names.append("text_free")
        if text > 1 and image > 1 and not same_image:
            names.append("image_free")
        found = dict(zip(names, velocities(names, x, t), strict=True))
        main = found["main"]
        v = combine(
            main, found.get("text_free", main), found.get("image_free", main), text, image,
            guidance.renorm, guidance.renorm_min,
        )  # fmt: skip
        x = x - v * (t - t_next)
        if preserved is not None:
            x = preserved.put(x, noise, t_next)
        if on_step is not None:
            on_step(i + 1, calls, x, v, t_next)
    return x
