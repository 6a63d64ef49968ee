"""Kinds of checkpoints: how each is recognised, and why some are refused and what to do instead. One table.

A kind is how numbers are stored. How they are spread over files (a folder, shards, one file) is :mod:`.recognise`'s concern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import StrokesError
from .header import TensorEntry

# What is said of every file that is refused.
PLAIN = "take the model's bfloat16 or fp8 .safetensors"


@dataclass(frozen=True, kw_only=True)
class Signs:
    """What a kind is recognised by: the file's name and first bytes, its tensors and metadata, and ``config.json``."""

    name: str
    magic: bytes
    tensors: Mapping[str, TensorEntry] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A row of the table. ``instead`` is what to do where the kind is not read; empty where it is."""

    name: str
    about: str
    sign: Callable[[Signs], bool]
    instead: str = ""


def _ends(*endings: str) -> Callable[[Signs], bool]:
    return lambda signs: any(key.endswith(endings) for key in signs.tensors)


def _holds(*parts: str) -> Callable[[Signs], bool]:
    return lambda signs: any(part in key for key in signs.tensors for part in parts)


def _stored(*dtypes: str) -> Callable[[Signs], bool]:
    return lambda signs: any(entry.dtype in dtypes for entry in signs.tensors.values())


def _is_dfloat11(signs: Signs) -> bool:
    return "dfloat11_config" in signs.config or _ends(".encoded_exponent")(signs)


def _is_quantised(signs: Signs) -> bool:
    return "_quantization_metadata" in signs.metadata or _ends(".comfy_quant")(signs)


# In this order; the first whose sign is there counts.
KINDS = (
    Kind(
        name="gguf",
        about="GGUF, llama.cpp's file format",
        sign=lambda signs: signs.magic == b"GGUF" or signs.name.lower().endswith(".gguf"),
        instead=PLAIN,
    ),
    Kind(
        name="pickle",
        about="a PyTorch pickle, which can run code when it is opened",
        sign=lambda signs: (
            signs.magic == b"PK\x03\x04" or signs.name.lower().endswith((".pt", ".pth", ".ckpt", ".bin"))
        ),
        instead="convert it to .safetensors where you trust it",
    ),
    Kind(
        name="bitsandbytes",
        about="quantised by bitsandbytes",
        sign=_ends(".SCB", ".absmax", ".weight_format", ".quant_map", ".nested_absmax"),
        instead=PLAIN,
    ),
    Kind(name="dfloat11", about="compressed by DFloat11", sign=_is_dfloat11, instead=PLAIN),
    Kind(
        name="gptq",
        about="quantised by GPTQ, AutoRound or AWQ",
        sign=_ends(".qweight", ".qzeros", ".g_idx"),
        instead=PLAIN,
    ),
    Kind(
        name="adapter",
        about="a LoRA or another adapter, not a whole model",
        sign=_holds(".lora_A", ".lora_B", ".lora_up", ".lora_down", "lora_unet_", ".hada_w1", ".lokr_w1"),
        instead="open the model it was trained on, and put it on with Apply LoRA",
    ),
    Kind(name="quantised", about="quantised layer by layer, in ComfyUI's form", sign=_is_quantised),
    Kind(
        name="scaled fp8",
        about="fp8 with a scale for each layer, in ComfyUI's older form",
        sign=_ends("scaled_fp8", ".scale_weight"),
    ),
    Kind(name="fp8", about="cast to fp8 without scales", sign=_stored("F8_E4M3", "F8_E5M2")),
    Kind(name="plain", about="bfloat16, float16 or float32", sign=lambda signs: bool(signs.tensors)),
)


def check_file(signs: Signs, path: Path) -> None:
    """Raise :class:`StrokesError` for a kind that is refused; without tensors, by the file's name and first bytes."""
    for kind in KINDS:
        if kind.instead and kind.sign(signs):
            raise StrokesError(f"{path} is {kind.about}, which is not read: {kind.instead}")


def kind_of(signs: Signs, path: Path) -> Kind:
    """The first kind of the table whose sign is there. Raises :class:`StrokesError` for one that is refused."""
    check_file(signs, path)
    found = next((kind for kind in KINDS if kind.sign(signs)), None)
    if found is None:
        raise StrokesError(f"{path} holds no tensors: download it again")
    return found


# The end of a key that belongs to a quantised tensor of some tool.
_COMPANION = re.compile(
    r"(scale|scales|zero|zeros|absmax|quant|qweight|scb|codebook|g_idx|exponent|mantissa|lut|luts|perm|bias_corr|smooth)"
)


def check_all_read(left: Iterable[str], path: Path) -> None:
    """Raise :class:`StrokesError` naming a key among those ``left`` unread that looks like a quantised tensor's companion.

    Without it the weights are other numbers, and the pictures noise.
    """
    for key in sorted(left):
        name = key.lower().rsplit(".", 1)[-1]
        if _COMPANION.search(name) and name != "logit_scale":  # of a SigLIP's text side, which nothing reads
            raise StrokesError(f"{path} is quantised in a form that is not read ('{key[:200]}'): {PLAIN}")
