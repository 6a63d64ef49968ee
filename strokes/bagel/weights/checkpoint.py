"""Checkpoints: opening a model folder, or one weights file with or without the others beside it.

The layout is that of the published BAGEL-7B-MoT: ``ema.safetensors``, ``ae.safetensors``, ``llm_config.json``,
``vit_config.json``, tokenizer files, and ``config.json``, whose optional key ``strokes`` holds the profile. What else opens
is in :mod:`.kinds` and :mod:`.recognise`.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...errors import StrokesError
from ...files import AGAIN, check_shapes, fingerprint, open_safetensors, read_json, shapes_of
from ...process.dialects.choice import AUTO
from ...process.dialects.protocol import Dialect
from ...process.settings import Profile
from ..network.autoencoder import SCALE, SHIFT, Autoencoder
from ..network.config import BagelConfig, ResizeRule, SpecialTokens
from ..network.model import Bagel, position_table
from ..network.operations import Operations
from .companions import TOKENIZER_FILES, has_tokenizer
from .header import TensorEntry
from .quantised import EMBEDDABLE, LayerFormat, check_kitchen, widen
from .recognise import Recognised, expected_shapes, find_weights, recognise
from .schema import sizes_of
from .speech import Speech, check_answers, speech_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Checkpoint", "find_weights", "first_not_finite", "load", "load_recognised"]

# The tokens of :class:`SpecialTokens`, in its order.
MARKERS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
# Words of Qwen2.5's vocabulary, and with its added tokens all that the published BAGEL has.
QWEN25_WORDS, BAGEL_TOKENS = 151643, 151665
# Models of fewer parameters run in float32, larger ones in the precision of their file.
SMALL = 500_000_000
# Torch's types of the numbers in a header that a network can run in.
RUNS_IN = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float32}

# Reads a safetensors file: its tensors by name, each mapped from the file until it is used.
Read = Callable[[Path], Mapping[str, Tensor]]


@dataclass(kw_only=True, eq=False)
class Checkpoint:
    """A model folder, loaded. ``codec`` is the hash of the autoencoder's file, ``vit_rule`` the transform to pixels."""

    model: Bagel
    tokenizer: Tokenizer
    special: SpecialTokens
    autoencoder: Autoencoder
    profile: Profile
    dialect: Dialect
    vit_rule: ResizeRule
    codec: str


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, mapped: none is read before it is used."""
    with open_safetensors(path) as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def load_network(
    path: Path,
    config: BagelConfig,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    operations: Operations = nn,
) -> Bagel:
    """The network with the weights of a plain safetensors file, in ``dtype``; None: what the file stores.

    Raises :class:`StrokesError` naming a tensor that is missing or misshapen.
    """
    expected = expected_shapes(config)
    check_shapes(shapes_of(path), expected, str(path))
    stored = read_safetensors(path)
    state = {key: stored[key].to(device=device, dtype=dtype) for key in expected}
    return _assembled(Bagel(config, operations, device="meta", dtype=dtype), state)


def _assembled(model: Bagel, state: Mapping[str, Tensor]) -> Bagel:
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def load_tokenizer(folder: Path, borrowed: bool = False) -> Tokenizer:
    """The folder's tokenizer. It encodes a control token that someone typed as plain text.

    A ``borrowed`` one is another model's: of Qwen2.5's vocabulary, without the tokens that BAGEL's has not. Raises
    :class:`StrokesError` where there is none or it is unreadable.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if path.is_file():
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the Rust library raises bare Exception
            raise StrokesError(f"{path} cannot be read as a tokenizer ({_one_line(error)}); {AGAIN}") from None
    elif has_tokenizer(folder):
        tokenizer = _from_vocabulary(folder, borrowed)
    else:
        raise StrokesError(f"{folder} holds no tokenizer.json (nor vocab.json with merges.txt)")
    tokenizer.encode_special_tokens = True
    return tokenizer


def _from_vocabulary(folder: Path, borrowed: bool) -> Tokenizer:
    """The tokenizer of vocabulary and merges. transformers sees their files alone: it would read ``config.json`` as well,
    which in published folders is no JSON, and may name code to run."""
    from transformers import AutoTokenizer

    words = read_json(folder / "vocab.json")
    if not words or not all(type(number) is int for number in words.values()):
        raise StrokesError(f"{folder / 'vocab.json'} is no tokenizer's vocabulary: each word needs its number; {AGAIN}")
    with TemporaryDirectory() as alone:
        for name in TOKENIZER_FILES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, Path(alone) / name)
        try:
            if borrowed and len(words) == QWEN25_WORDS:
                _leave_out_added(Path(alone) / "tokenizer_config.json")
            found = AutoTokenizer.from_pretrained(alone, local_files_only=True, trust_remote_code=False)
            return found.backend_tokenizer
        except Exception as error:  # of many classes, among them the Rust library's bare Exception
            where = f"{folder}: the tokenizer (vocab.json, merges.txt, tokenizer_config.json)"
            raise StrokesError(f"{where} cannot be read ({_one_line(error)}); {AGAIN}") from None


def _leave_out_added(path: Path) -> None:
    """Take the tokens that BAGEL never had out of a copied ``tokenizer_config.json``: ComfyUI's has ``<think>`` as one token,
    which BAGEL writes as text."""
    config = read_json(path)
    added = config.get("added_tokens_decoder", {})
    config["added_tokens_decoder"] = {number: token for number, token in added.items() if int(number) < BAGEL_TOKENS}
    path.write_text(json.dumps(config), encoding="utf-8")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 150 else f"{text[:149]}…"


def special_tokens(tokenizer: Tokenizer) -> SpecialTokens:
    """The ids of the four markers. Raises :class:`StrokesError` naming one that the tokenizer lacks."""
    ids: list[int] = []
    for token in MARKERS:
        found = tokenizer.token_to_id(token)
        if found is None:
            raise StrokesError(f"the tokenizer knows no {token}: not a BAGEL tokenizer")
        ids.append(found)
    return SpecialTokens(*ids)


def load_autoencoder(path: Path, bagel: Mapping[str, Any], device: torch.device | str = "cpu") -> Autoencoder:
    """The autoencoder of a file with FLUX's names, in float32; scale and shift are those of ``config.json``, if given.

    Raises :class:`StrokesError` naming a tensor that is missing or misshapen.
    """
    state = {key: tensor.float() for key, tensor in read_safetensors(path).items()}
    ae = bagel.get("vae_config") or {}
    try:
        out = Autoencoder.from_state_dict(state, ae.get("scale_factor", SCALE), ae.get("shift_factor", SHIFT))
    except StrokesError as error:
        raise StrokesError(f"{path}: {error}") from None
    out.module.to(device)
    return out


def load(
    path: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    operations: Operations = nn,
    dialect: str = AUTO,
) -> Checkpoint:
    """Open a model folder or file. ``dtype`` is the network's; None: float32 for a small one, else what the file stores.
    ``dialect`` is the name of one, or "auto".

    Raises :class:`StrokesError` naming the file or tensor that is missing, truncated or misshapen.
    """
    found = recognise(path)
    return load_recognised(found, speech_of(found, dialect), device, dtype, operations)


def load_recognised(
    found: Recognised,
    speech: Speech,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    operations: Operations = nn,
    read: Read = read_safetensors,
    keep_quantised: bool = False,
) -> Checkpoint:
    """Build what was recognised, from the tensors that ``read`` hands over; ``speech`` is how it is spoken to.

    ``dtype`` is that of the activations and of every tensor but quantised ones; None: float32 for a small network, else the
    type of most bytes in a plain file, and bfloat16 of a quantised one. With ``keep_quantised``, matrices in 8 bits stay
    as they are, because ``operations`` computes with them: a quantised layer gets its companions and its ``comfy_quant``,
    which ``comfy.ops.mixed_precision_ops`` reads. Raises :class:`StrokesError` for a part that is missing.
    """
    for part in found.missing:
        if part.needed:
            raise StrokesError(part.costs)
    assert found.tokenizer is not None and found.autoencoder is not None  # needed parts
    if not keep_quantised:
        check_kitchen(found.quantised, found.weights)
    tokenizer = load_tokenizer(found.tokenizer, borrowed=found.tokenizer != found.weights.parent)
    special = special_tokens(tokenizer)
    check_answers(speech.dialect, tokenizer, found.tokenizer)
    rows = found.config.language.vocab_size
    if tokenizer.get_vocab_size() > rows:
        raise StrokesError(
            f"{found.tokenizer}: the tokenizer knows {tokenizer.get_vocab_size()} tokens, the weights only {rows}: they do "
            "not belong together"
        )
    return Checkpoint(
        model=_network(found, device, dtype or run_dtype(found), operations, read, keep_quantised),
        tokenizer=tokenizer,
        special=special,
        autoencoder=load_autoencoder(found.autoencoder, sizes_of(found.given), device),
        profile=speech.profile,
        dialect=speech.dialect,
        vit_rule=speech.vit_rule,
        codec=fingerprint(found.autoencoder),
    )


def run_dtype(found: Recognised) -> torch.dtype:
    """The type a network runs in when nobody says one."""
    if found.parameters < SMALL:
        return torch.float32
    if found.kind.name != "plain":
        return torch.bfloat16
    counts: Counter[torch.dtype] = Counter()
    for entry in found.tensors.values():
        if entry.dtype in RUNS_IN:
            counts[RUNS_IN[entry.dtype]] += entry.nbytes
    return counts.most_common(1)[0][0]


def _network(
    found: Recognised,
    device: torch.device | str,
    dtype: torch.dtype,
    operations: Operations,
    read: Read,
    keep_quantised: bool,
) -> Bagel:
    files = {path: read(path) for path in found.files}

    def stored(entry: TensorEntry) -> Tensor:
        return files[entry.file][entry.key]

    # Quantised layers load to the device that they were made for, which cannot be meta.
    made_on = device if keep_quantised and found.quantised else "meta"
    model = Bagel(found.config, operations, device=made_on, dtype=dtype)
    shapes = expected_shapes(found.config)
    state: dict[str, Tensor] = {}
    for key, entry in found.tensors.items():
        layer = key.removesuffix(".weight")
        quantised = found.quantised.get(layer)
        if quantised is None:
            stays = keep_quantised and entry.dtype.startswith("F8") and is_linear(key, entry)
            tensor = exact_table(stored(entry)) if key.endswith("pos_embed.pos_embed") else stored(entry)
            state[key] = tensor.to(device=device, dtype=None if stays else dtype)
        elif keep_quantised and (quantised.format in EMBEDDABLE or is_linear(key, entry)):
            state[key] = stored(entry).to(device)
            state |= {f"{layer}.{name}": stored(e).to(device) for name, e in quantised.companions.items()}
            state[f"{layer}.comfy_quant"] = _json_bytes(quantised)
        else:
            companions = {name: stored(e) for name, e in quantised.companions.items()}
            state[key] = widen(stored(entry), companions, quantised, shapes[key]).to(device=device, dtype=dtype)
    return _assembled(model, state)


def exact_table(stored: Tensor) -> Tensor:
    """A fixed position table as it was before it was cast to fp8; any other table, and one that was trained, as stored.

    The tables are computed and never trained, so that the cast need cost them nothing.
    """
    if stored.dtype not in (torch.float8_e4m3fn, torch.float8_e5m2):
        return stored
    exact = position_table(isqrt(stored.shape[0]), stored.shape[1])
    near = torch.allclose(stored.float(), exact, rtol=float(torch.finfo(stored.dtype).eps), atol=2**-7)
    return exact if near else stored


def is_linear(key: str, entry: TensorEntry) -> bool:
    """Whether a tensor is the matrix of a linear layer: tables that rows are looked up in are none."""
    return (
        key.endswith(".weight")
        and len(entry.shape) == 2
        and not key.endswith(("embed_tokens.weight", "embedding.weight"))
    )


def _json_bytes(found: LayerFormat) -> Tensor:
    """A layer's ``comfy_quant``: its JSON as bytes."""
    return torch.tensor(list(json.dumps({"format": found.format, **found.options}).encode()), dtype=torch.uint8)


def first_not_finite(module: nn.Module) -> str | None:
    """The name of the first tensor of a module with a number that is not finite; None where all are.

    It reads every weight: for after a failure, not before.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            parts = tensor.flatten().split(1 << 24)
            if not all(part.float().isfinite().all() for part in parts):
                return name
    return None
