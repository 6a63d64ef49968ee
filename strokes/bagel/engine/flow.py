"""Flow sampling: times, guidance with three branches, renorm, and extrapolation of skipped calls.

It knows no network: the caller hands in the function that gives velocities. Time runs from 1 (noise) to 0 (image); N
latent tokens a picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...errors import StrokesError
from .finite import check_finite

# How a guided velocity is shortened to the length of the unguided one: over the whole picture, for each token, or for
# each token before the image's guidance.
RENORMS = ("global", "channel", "text_channel")


def timesteps(calls: int, shift: float) -> list[float]:
    """``calls + 1`` falling times: t evenly from 1 to 0, then ``s·t/(1+(s−1)·t)`` for ``shift`` s.

    A model call is made at each but the last, where sampling ends.
    """
    # float32, as the reference: which side of the guidance interval's edge a time falls on depends on it.
    t = torch.linspace(1, 0, calls + 1)
    t = shift * t / (1 + (shift - 1) * t)
    t[0] = 1.0  # a hair above would fall outside the interval
    return t.tolist()


def guided(t: float, interval: tuple[float, float]) -> bool:
    """Whether guidance is on at time ``t``: ``lo < t ≤ hi``, in float32 as the reference compares."""
    lo, hi = torch.tensor(interval, dtype=torch.float32).tolist()
    return lo < t <= hi


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Classifier-free guidance: the scales of the text and of the image, 1 for none, and where they hold.

    They hold at times in ``interval``, see :func:`guided`. ``renorm`` is one of :data:`RENORMS`, ``renorm_min`` the
    smallest factor by which it shortens a velocity.
    """

    text: float = 4.0
    image: float = 1.0
    interval: tuple[float, float] = (0.4, 1.0)
    renorm: str = "global"
    renorm_min: float = 0.0


def _renormed(u: Tensor, v: Tensor, per_token: bool, floor: float) -> Tensor:
    """``u [N, token_dim]`` times the ratio of the norms of ``v`` and ``u``, which is held between ``floor`` and 1."""
    norm = (lambda x: x.norm(dim=-1, keepdim=True)) if per_token else torch.Tensor.norm
    return u * (norm(v) / (norm(u) + 1e-8)).clamp(floor, 1.0)


def combine(v: Tensor, v_text: Tensor | None, v_image: Tensor | None, guidance: Guidance) -> Tensor:
    """The guided velocity ``[N, token_dim]`` from those of the main, text-free and image-free branch.

    The last two are None where they are not needed. A text scale of at most 1 means no guidance at all, as in the
    reference. Raises :class:`StrokesError` for an unknown renorm.
    """
    if guidance.renorm not in RENORMS:
        raise StrokesError(f"renorm '{guidance.renorm}' is unknown; choose one of {', '.join(RENORMS)}")
    if guidance.text <= 1 or v_text is None:
        return v
    u = v_text + guidance.text * (v - v_text)
    if guidance.renorm == "text_channel":
        u = _renormed(u, v, True, guidance.renorm_min)
    if guidance.image > 1 and v_image is not None:
        u = v_image + guidance.image * (u - v_image)
    if guidance.renorm == "text_channel":
        return u
    return _renormed(u, v, guidance.renorm == "channel", guidance.renorm_min)


class Extrapolation:
    """Taylor extrapolation of the last hidden rows ``[N, D]`` of one branch, in place of two calls of three.

    Calls 0…4 of the branch are full, then every third; finite differences up to order 6 in units of the call index,
    taken from call 4 on. Source: the reference's TaylorSeer, whose result only the last layer decides.
    """

    WARM, EVERY, ORDER = 5, 3, 6

    def __init__(self) -> None:
        self.call = self.last_full = 0
        self.terms: list[Tensor] = []

    @property
    def full(self) -> bool:
        """Whether the coming call has to be run in full."""
        return self.call < self.WARM or (self.call - self.WARM + 1) % self.EVERY == 0

    def record(self, hidden: Tensor) -> Tensor:
        """Take the hidden rows of a full call; returns them."""
        new = [hidden]
        if self.call >= self.WARM - 1:
            distance = self.call - self.last_full
            for lower in self.terms[: self.ORDER]:
                new.append((new[-1] - lower) / distance)
        self.terms, self.last_full = new, self.call
        self.call += 1
        return hidden

    def predict(self) -> Tensor:
        """The hidden rows of a skipped call."""
        x = self.call - self.last_full
        self.call += 1
        return torch.stack([term * (x**i / math.factorial(i)) for i, term in enumerate(self.terms)]).sum(0)


@dataclass(frozen=True)
class Preserved:
    """Tokens that sampling preserves: those of ``clean [N, token_dim]`` where ``where``, bool ``[N]``, is True."""

    clean: Tensor
    where: Tensor

    def put(self, x: Tensor, noise: Tensor, t: float) -> Tensor:
        """``x`` with the preserved tokens noised to time ``t``; at 0 they are the clean ones, bit for bit."""
        known = self.clean if t == 0 else (1 - t) * self.clean + t * noise
        return torch.where(self.where[:, None], known, x)


# (names of branches to run, x [N, token_dim], t) -> velocity of each
Velocities = Callable[[Sequence[str], Tensor, float], Sequence[Tensor]]
# (calls done, calls in all, x, v, t)
OnFlowStep = Callable[[int, int, Tensor, Tensor, float], None]


@dataclass(frozen=True)
class FlowSettings:
    """How a picture is sampled: the model calls of its main branch, the shift of their times, and the guidance."""

    calls: int
    shift: float
    guidance: Guidance


def sample(
    velocities: Velocities,
    noise: Tensor,
    settings: FlowSettings,
    *,
    same_text: bool,
    same_image: bool,
    on_step: OnFlowStep | None = None,
    preserved: Preserved | None = None,
) -> Tensor:
    """Clean latent tokens ``[N, token_dim]`` by Euler's method from ``noise [N, token_dim]``, float32.

    ``same_text`` says that the text-free branch has the same prefix as the main one, ``same_image`` that the image-free
    branch has. Such a branch is not run: its velocity is that of the main one. Raises :class:`.finite.NotFinite`.
    """
    x, times = noise, timesteps(settings.calls, settings.shift)
    unguided = replace(settings.guidance, text=1.0, image=1.0)
    for i, (t, t_next) in enumerate(zip(times, times[1:], strict=False)):
        guidance = settings.guidance if guided(t, settings.guidance.interval) else unguided
        names = ["main"]
        if guidance.text > 1 and not same_text:
            names.append("text_free")
        if guidance.text > 1 and guidance.image > 1 and not same_image:
            names.append("image_free")
        found = dict(zip(names, velocities(names, x, t), strict=True))
        main = found["main"]
        v = combine(main, found.get("text_free", main), found.get("image_free", main), guidance)
        check_finite(v, f"the velocities of step {i + 1} of {settings.calls}")
        x = x - v * (t - t_next)
        if preserved is not None:
            x = preserved.put(x, noise, t_next)
        if on_step is not None:
            on_step(i + 1, settings.calls, x, v, t_next)
    return x
