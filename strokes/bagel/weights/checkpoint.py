"""A model folder (or one weights file with its companions beside it) → a loaded model.

The layout is that of the published BAGEL-7B-MoT: ``ema.safetensors``, ``ae.safetensors``, ``llm_config.json``,
``vit_config.json``, tokenizer files, and ``config.json``, whose optional key ``strokes`` says what suits it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import StrokesError
from ...files import AGAIN, check_shapes, fingerprint, open_safetensors, read_json, shapes_of
from ...process.painter import PaintSettings, Profile, TextSettings
from ..network.autoencoder import SCALE, SHIFT, Autoencoder
from ..network.config import RELEASED_VIT_RULE, BagelConfig, ResizeRule, SpecialTokens, infer_config
from ..network.model import Bagel
from ..network.operations import Operations

WEIGHTS = ("ema.safetensors", "model.safetensors")
MARKERS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
# A model this small runs in float32 on a CPU; a larger one keeps the precision of its file.
SMALL = 500_000_000


@dataclass
class Checkpoint:
    """Everything a folder holds, loaded. ``codec`` names the autoencoder."""

    model: Bagel
    tokenizer: Any
    special: SpecialTokens
    autoencoder: Autoencoder
    profile: Profile
    vit_rule: ResizeRule
    codec: str


def find_weights(path: Path) -> Path:
    """The weights file of a model folder, or the file itself. Raises :class:`StrokesError` where there is none."""
    if path.is_file():
        return path
    if not path.exists():
        raise StrokesError(f"no model at {path}: give a folder like BAGEL-7B-MoT's, or its ema.safetensors")
    for name in WEIGHTS:
        if (path / name).exists():
            return path / name
    raise StrokesError(f"{path} is no model folder: it holds no {' or '.join(WEIGHTS)}")


def load_network(
    path: Path,
    config: BagelConfig,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    operations: Operations = nn,
) -> Bagel:
    """Weights of a safetensors file in a :class:`Bagel`; ``dtype`` None keeps what the file stores."""
    # Keys and shapes are read off torch's own layers: others may make their weights only when they are loaded.
    plain = Bagel(config, device="meta")
    expected = {key: tuple(tensor.shape) for key, tensor in plain.state_dict().items()}
    model = Bagel(config, operations, device="meta", dtype=dtype)
    check_shapes(shapes_of(path), expected, str(path))
    state: dict[str, Tensor] = {}
    with open_safetensors(path) as file:
        for key in expected:
            state[key] = file.get_tensor(key).to(device=device, dtype=dtype)
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer as a ``tokenizers.Tokenizer`` in which typed control tokens stay plain text."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if path.exists():
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the Rust library raises bare Exception
            raise StrokesError(f"{path} cannot be read as a tokenizer ({error}); {AGAIN}") from None
    elif (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True).backend_tokenizer
    else:
        raise StrokesError(f"{folder} holds no tokenizer.json (nor vocab.json with merges.txt)")
    tokenizer.encode_special_tokens = True
    return tokenizer


def special_tokens(tokenizer: Any) -> SpecialTokens:
    ids = [tokenizer.token_to_id(token) for token in MARKERS]
    if None in ids:
        raise StrokesError(f"the tokenizer knows no {MARKERS[ids.index(None)]}: not a BAGEL tokenizer")
    return SpecialTokens(*ids)


def _settings(kind: type, base: Any, given: dict[str, Any]) -> Any:
    known = {f.name for f in fields(kind)}
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if k in known}
    return replace(base, **values)


def read_profile(name: str, config: BagelConfig, given: dict[str, Any]) -> Profile:
    """A checkpoint's profile from the ``strokes`` key of its config.json; BAGEL's defaults where it says nothing."""
    side = config.max_pixels_per_side
    base = Profile(name=name, size=(side, side), multiple=config.token_pixels, max_side=side)
    plain = {k: v for k, v in given.items() if k not in ("first", "edit", "text")}
    return replace(
        _settings(Profile, base, plain),
        first=_settings(PaintSettings, base.first, given.get("first", {})),
        edit=_settings(PaintSettings, base.edit, given.get("edit", {})),
        text=_settings(TextSettings, base.text, given.get("text", {})),
    )


def load_autoencoder(path: Path, bagel: dict[str, Any], device: torch.device | str = "cpu") -> Autoencoder:
    with open_safetensors(path) as file:
        state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    ae = bagel.get("vae_config") or {}
    out = Autoencoder.from_state_dict(state, ae.get("scale_factor", SCALE), ae.get("shift_factor", SHIFT))
    out.module.to(device)
    return out


def load(
    path: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    operations: Operations = nn,
) -> Checkpoint:
    """Open a model folder. ``dtype`` None: float32 for a small model, else what the file stores.

    Raises :class:`StrokesError` naming the file or tensor that is missing, truncated or misshapen.
    """
    weights = find_weights(Path(path))
    folder = weights.parent
    shapes = shapes_of(weights)
    llm = read_json(folder / "llm_config.json")
    vit = read_json(folder / "vit_config.json", required=any(key.startswith("vit_model.") for key in shapes))
    bagel = read_json(folder / "config.json", required=False)
    config = infer_config(shapes, llm, vit, bagel)
    tokenizer = load_tokenizer(folder)
    special = special_tokens(tokenizer)
    if tokenizer.get_vocab_size() > config.language.vocab_size:
        raise StrokesError(
            f"{folder}: the tokenizer knows {tokenizer.get_vocab_size()} tokens, the weights only "
            f"{config.language.vocab_size}: they do not belong together"
        )
    ae = folder / "ae.safetensors"
    if not ae.exists():
        raise StrokesError(f"{folder} holds no ae.safetensors: take the autoencoder of any FLUX.1 or BAGEL download")
    autoencoder = load_autoencoder(ae, bagel, device)
    channels = autoencoder.module.config.latent_channels
    if channels != config.latent_channels:
        raise StrokesError(f"{ae} has {channels} latent channels, the network {config.latent_channels}")
    if dtype is None and sum(torch.Size(s).numel() for s in shapes.values()) < SMALL:
        dtype = torch.float32
    own = bagel.get("strokes", {})
    return Checkpoint(
        model=load_network(weights, config, device, dtype, operations),
        tokenizer=tokenizer,
        special=special,
        autoencoder=autoencoder,
        profile=read_profile(own.get("name", folder.name), config, own),
        vit_rule=ResizeRule(**own["vit_transform"]) if "vit_transform" in own else RELEASED_VIT_RULE,
        codec=fingerprint(ae),
    )
