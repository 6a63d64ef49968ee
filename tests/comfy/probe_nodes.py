"""Nodes of the tests that need nothing of the pack: they compare, count, and supply values of any type."""

from __future__ import annotations

import json

import numpy as np
import torch


class CompareLatents:
    """Output node: which cells of two LATENTs are equal bit for bit."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"one": ("LATENT",), "other": ("LATENT",)}}

    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "go", True, "test"

    def go(self, one, other):
        one, other = one["samples"], other["samples"]
        same, worst = (one == other)[0].all(dim=0).tolist(), float((one - other).abs().max())
        return {"ui": {"report": [{"same": same, "worst": worst}]}}


class Plain:
    """A user's node: counts its runs, hands an image on."""

    runs = 0

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "go", "test"

    def go(self, image):
        Plain.runs += 1
        return (image,)


class Supply:
    """An IMAGE or MASK of any shape and kind."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"shape": ("STRING",), "dtype": ("STRING",), "value": ("FLOAT",)}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE", "MASK", "LATENT", "STROKES_TRAJECTORY"), "go", "test"

    def go(self, shape, dtype, value):
        tensor = torch.full(json.loads(shape), value).to(getattr(torch, dtype))
        if value == 0.5 and tensor.is_floating_point():
            tensor = torch.rand(tensor.shape, generator=torch.Generator().manual_seed(0)).to(tensor.dtype)
        return (tensor, tensor, {"samples": tensor}, None)


class Anything:
    """A value on a socket of any type: what comes over a wire, NumPy's 7, or what a JSON text holds."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("STRING",)}, "optional": {"wire": ("*",)}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("*",), "go", "test"

    def go(self, value, wire=None):
        if wire is not None:
            return (wire,)
        return (np.int64(7) if value == "numpy" else json.loads(value),)


class StopAfter:
    """True from the given round on."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"trajectory": ("STROKES_TRAJECTORY",), "rounds": ("INT", {"default": 1})}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("BOOLEAN",), "go", "test"

    def go(self, trajectory, rounds):
        return (len(trajectory.rounds) >= rounds,)
