"""The namespace that the network's layers come from, and where their weights are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypedDict

import torch
from torch import nn


class Operations(Protocol):
    """Namespace of the layer classes, called as torch's: ``torch.nn`` itself, or ComfyUI's ``comfy.ops``.

    ``comfy.ops`` brings weight streaming and quantised weights, and with them linears that are no ``nn.Linear``.
    """

    @property
    def Linear(self) -> Callable[..., nn.Module]: ...

    @property
    def Embedding(self) -> Callable[..., nn.Embedding]: ...

    @property
    def LayerNorm(self) -> Callable[..., nn.LayerNorm]: ...

    @property
    def RMSNorm(self) -> Callable[..., nn.RMSNorm]: ...


class Placement(TypedDict, total=False):
    """Device and type of fresh weights: the keyword arguments that torch's layers take; None is torch's default."""

    device: torch.device | str | None
    dtype: torch.dtype | None
