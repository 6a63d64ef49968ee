"""The check that what a network computes is finite."""

from __future__ import annotations

from torch import Tensor

from ...errors import StrokesError


class NotFinite(StrokesError):
    """Error of logits, velocities or pictures that hold NaN or infinite numbers; the message says which."""


def check_finite(values: Tensor, what: str) -> None:
    """Raise :class:`NotFinite` where ``values`` of any shape are not all finite; ``what`` names them in the plural."""
    # One number is brought over from the device: a sum of finite values of this size is finite, NaN and infinity stay.
    if not values.float().abs().sum().isfinite():
        raise NotFinite(f"{what} hold NaN or infinite numbers")
