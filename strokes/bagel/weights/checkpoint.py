"""Checkpoints: opening a model folder, or one weights file with the others beside it.

The layout is that of the published BAGEL-7B-MoT: ``ema.safetensors``, ``ae.safetensors``, ``llm_config.json``,
``vit_config.json``, tokenizer files, and ``config.json``, whose optional key ``strokes`` holds the profile.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from ...errors import StrokesError
from ...files import AGAIN, check_shapes, fingerprint, open_safetensors, read_json, shapes_of
from ...process.painter import PaintSettings, Profile, TextSettings
from ..network.autoencoder import SCALE, SHIFT, Autoencoder
from ..network.config import RELEASED_VIT_RULE, BagelConfig, ResizeRule, SpecialTokens, infer_config
from ..network.model import Bagel
from ..network.operations import Operations

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Names of the weights file, the first that exists counts: averaged weights, and weights as trained.
WEIGHTS = ("ema.safetensors", "model.safetensors")
# The tokens of :class:`SpecialTokens`, in its order.
MARKERS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
# Models of fewer parameters run in float32, larger ones in the precision of their file.
SMALL = 500_000_000

Settings = TypeVar("Settings", PaintSettings, TextSettings, Profile)


@dataclass(kw_only=True, eq=False)
class Checkpoint:
    """A model folder, loaded. ``codec`` is the hash of the autoencoder's file, ``vit_rule`` the transform to pixels."""

    model: Bagel
    tokenizer: Tokenizer
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
    """The network with the weights of a safetensors file, in ``dtype``; None: what the file stores.

    Raises :class:`StrokesError` naming a tensor that is missing or misshapen.
    """
    # Keys and shapes are those of torch's layers: others may make their weights only when they are loaded.
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


def load_tokenizer(folder: Path) -> Tokenizer:
    """The folder's tokenizer. It encodes a control token that someone typed as plain text.

    Raises :class:`StrokesError` where there is none or it is unreadable.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if path.exists():
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the Rust library raises bare Exception
            raise StrokesError(f"{path} cannot be read as a tokenizer ({error}); {AGAIN}") from None
    elif (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        from transformers import AutoTokenizer

        # Nothing of a folder is run as code.
        found = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        tokenizer = found.backend_tokenizer
    else:
        raise StrokesError(f"{folder} holds no tokenizer.json (nor vocab.json with merges.txt)")
    tokenizer.encode_special_tokens = True
    return tokenizer


def special_tokens(tokenizer: Tokenizer) -> SpecialTokens:
    """The ids of the four markers. Raises :class:`StrokesError` naming one that the tokenizer lacks."""
    ids: list[int] = []
    for token in MARKERS:
        found = tokenizer.token_to_id(token)
        if found is None:
            raise StrokesError(f"the tokenizer knows no {token}: not a BAGEL tokenizer")
        ids.append(found)
    return SpecialTokens(*ids)


def _with_given(base: Settings, given: dict[str, Any]) -> Settings:
    """``base`` with the values of ``given``; keys that are no field of it are passed over."""
    known = {f.name for f in fields(base)}
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if k in known}
    return replace(base, **values)


def read_profile(name: str, config: BagelConfig, given: dict[str, Any]) -> Profile:
    """The profile ``given`` by the ``strokes`` key of ``config.json``, with BAGEL's defaults for what it leaves out."""
    side = config.max_pixels_per_side
    base = Profile(name=name, size=(side, side), multiple=config.token_pixels, max_side=side)
    plain = {k: v for k, v in given.items() if k not in ("first", "edit", "text")}
    return replace(
        _with_given(base, plain),
        first=_with_given(base.first, given.get("first", {})),
        edit=_with_given(base.edit, given.get("edit", {})),
        text=_with_given(base.text, given.get("text", {})),
    )


def load_autoencoder(path: Path, bagel: dict[str, Any], device: torch.device | str = "cpu") -> Autoencoder:
    """The autoencoder of a file with FLUX's names, in float32; scale and shift are those of ``config.json``, if given.

    Raises :class:`StrokesError` naming a tensor that is missing or misshapen.
    """
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
    """Open a model folder. ``dtype`` is the network's; None: float32 for a small one, else what the file stores.

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
    given = bagel.get("strokes", {})
    return Checkpoint(
        model=load_network(weights, config, device, dtype, operations),
        tokenizer=tokenizer,
        special=special,
        autoencoder=autoencoder,
        profile=read_profile(given.get("name", folder.name), config, given),
        vit_rule=ResizeRule(**given["vit_transform"]) if "vit_transform" in given else RELEASED_VIT_RULE,
        codec=fingerprint(ae),
    )
