"""A checkpoint with every published name at reduced width and random weights, and all the forms it is stored in.

28 decoder and 26 vision layers, as BAGEL-7B; the autoencoder is the embedded model's, which has FLUX's names.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from strokes.bagel.network.config import BagelConfig, LanguageConfig, VisionConfig
from strokes.bagel.network.model import Bagel
from strokes.bagel.weights.checkpoint import MARKERS
from strokes.bagel.weights.header import BITS
from strokes.models import EMBEDDED

State = dict[str, Tensor]

# Layers that published quantised files leave as they are, being small or sensitive.
KEPT = ("vae2llm", "llm2vae", "time_embedder", "connector", "vit_model", "lm_head", "embed_tokens")

CONFIG = BagelConfig(
    language=LanguageConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=28,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
    ),
    vision=VisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=26,
        num_attention_heads=2,
        patch_size=14,
        patches_per_side=5,
    ),
    latent_patch_size=2,
    latent_channels=16,
    max_latent_size=8,
)
LLM = {"model_type": "qwen2", "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1e6, "hidden_size": 64}
VIT = {"model_type": "siglip_vision_model", "num_attention_heads": 2, "num_hidden_layers": 27, "patch_size": 14}
# The published folder's own file, in the form that several downloads have: no JSON, for the comma.
BROKEN = '{"name": ["BAGEL-7B-MoT"],}'
PROFILE = {
    "name": "synthetic",
    "size": [64, 64],
    "max_text_tokens": 64,
    "text": {"max_tokens": 8},
    "vit_transform": {"max": 70, "min": 14, "stride": 14},
}


def weights(seed: int = 0) -> State:
    """Every tensor in bfloat16; the velocity head, which training starts at zero, has weights too."""
    generator = torch.Generator().manual_seed(seed)
    model = Bagel(CONFIG)
    model.initialise(generator)
    head = model.get_parameter("llm2vae.weight")
    torch.nn.init.normal_(head, std=head.shape[1] ** -0.5, generator=generator)
    return {key: tensor.detach().to(torch.bfloat16).clone() for key, tensor in model.state_dict().items()}


def tokenizer() -> Tokenizer:
    """A byte-level tokenizer that knows every text, with BAGEL's markers after its 256 bytes."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True) for token in ("<|endoftext|>", *MARKERS)])
    return made


def write_vocabulary(folder: Path) -> None:
    """The same tokenizer as vocabulary and merges, the form that ComfyUI ships."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    (folder / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate(letters)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    added = {
        str(256 + i): {"content": token, "special": True, "lstrip": False, "rstrip": False, "normalized": False}
        for i, token in enumerate(("<|endoftext|>", *MARKERS))
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added, "unk_token": None})
    )


def write_companions(folder: Path, config: Mapping[str, Any] | str | None = None) -> Path:
    """All files of a model folder but the weights. ``config``: ``config.json`` as JSON or text; None: with a profile."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "llm_config.json").write_text(json.dumps(LLM))
    (folder / "vit_config.json").write_text(json.dumps(VIT))
    given = {"strokes": PROFILE} if config is None else config
    (folder / "config.json").write_text(given if isinstance(given, str) else json.dumps(given))
    tokenizer().save(str(folder / "tokenizer.json"))
    shutil.copyfile(EMBEDDED / "ae.safetensors", folder / "ae.safetensors")
    return folder


def write_folder(folder: Path, state: State, name: str = "ema.safetensors", **config: Any) -> Path:
    """A model folder with ``state`` as its weights."""
    write_companions(folder, **config)
    save_file(state, folder / name)
    return folder


def write_shards(folder: Path, state: State, count: int = 3, index: bool = True) -> Path:
    """A model folder with its weights in ``count`` shards."""
    write_companions(folder)
    place: dict[str, str] = {}
    for number in range(count):
        name = f"model-{number + 1:05}-of-{count:05}.safetensors"
        keys = sorted(state)[number::count]
        save_file({key: state[key] for key in keys}, folder / name)
        place |= dict.fromkeys(keys, name)
    if index:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))
    return folder


def layers(state: State) -> list[str]:
    """The linear layers that published quantised files quantise."""
    return [
        k.removesuffix(".weight") for k, t in state.items() if t.ndim == 2 and "_proj." in k and not k.startswith(KEPT)
    ]


def cast(state: State, dtype: torch.dtype = torch.float8_e4m3fn) -> State:
    """Everything cast to fp8 without scales, as the plain casts on the hub."""
    return {key: tensor.to(dtype) for key, tensor in state.items()}


def _quantised(state: State, quantise: Callable[[Tensor], tuple[Tensor, Tensor]]) -> State:
    out = dict(state)
    for layer in layers(state):
        out[f"{layer}.weight"], out[f"{layer}.weight_scale"] = quantise(state[f"{layer}.weight"].float())
    return out


def to_fp8(weight: Tensor, dtype: torch.dtype = torch.float8_e4m3fn) -> tuple[Tensor, Tensor]:
    """An fp8 matrix and its one scale, float32."""
    scale = weight.abs().max() / torch.finfo(dtype).max
    return (weight / scale).to(dtype), scale


def to_int8(weight: Tensor, rows: bool) -> tuple[Tensor, Tensor]:
    """An int8 matrix and its scale, float32: one, or one for each of its ``rows``."""
    scale = (weight.abs().amax(1, keepdim=True) if rows else weight.abs().max()) / 127
    return (weight / scale).round().clamp(-127, 127).to(torch.int8), scale


def scaled_fp8(state: State, dtype: torch.dtype = torch.float8_e4m3fn) -> State:
    """fp8 matrices with scales and nothing that says so: the tensors of ComfyUI's form without their marks."""
    return _quantised(state, lambda weight: to_fp8(weight, dtype))


def int8(state: State, rows: bool = False) -> State:
    """int8 matrices with scales and nothing that says so."""
    return _quantised(state, lambda weight: to_int8(weight, rows))


def marked(state: State, layer: Mapping[str, Any]) -> State:
    """ComfyUI's form: each quantised layer with its ``comfy_quant``, the JSON ``layer`` as bytes."""
    out = dict(state)
    for key in state:
        if key.endswith(".weight_scale"):
            text = json.dumps(layer).encode()
            out[key.replace(".weight_scale", ".comfy_quant")] = torch.tensor(list(text), dtype=torch.uint8)
    return out


def metadata(state: State, layer: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The same marks as a file's metadata."""
    names = [prefix + key.removesuffix(".weight_scale") for key in state if key.endswith(".weight_scale")]
    return {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": dict.fromkeys(names, layer)})}


def older(state: State) -> State:
    """The older form: ``scaled_fp8`` in front, ``scale_weight`` and ``scale_input`` behind each layer."""
    out = {key.replace(".weight_scale", ".scale_weight"): tensor for key, tensor in state.items()}
    out |= {f"{layer}.scale_input": torch.tensor(1.0) for layer in layers(state)}
    return {**out, "scaled_fp8": torch.zeros(1, dtype=torch.float8_e4m3fn)}


def write_sparse(path: Path, shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, str] | str = "BF16") -> Path:
    """A safetensors file whose tensors are a hole in the file system: all zeros, and no room taken."""
    header, end = {}, 0
    for key, shape in shapes.items():
        dtype = dtypes if isinstance(dtypes, str) else dtypes[key]
        size = prod(shape) * BITS[dtype] // 8
        header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path
