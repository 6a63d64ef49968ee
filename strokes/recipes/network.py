"""The small network: its sizes, and its weights as a model folder in the published form."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..bagel.network.config import BagelConfig, LanguageConfig, VisionConfig
from ..bagel.network.model import Bagel
from ..files import write_whole
from ..shapes.drawing import UNIT

# The model's painting settings, under "strokes" in config.json, where strokes.bagel.weights.checkpoint reads them.
PAINT = {
    "steps": 12,
    "text_guidance": 2.0,
    "image_guidance": 1.0,
    "interval": [0.0, 1.0],
    "renorm": "global",
    "shift": 3.0,
}


def folder_configs(config: BagelConfig, size: NetworkSize) -> dict[str, dict[str, Any]]:
    """The three JSON files of a model folder in the published form, by name."""
    language, vision = config.language, config.vision
    assert vision is not None
    llm = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": language.hidden_size,
        "intermediate_size": language.intermediate_size,
        "num_hidden_layers": language.num_hidden_layers,
        "num_attention_heads": language.num_attention_heads,
        "num_key_value_heads": language.num_key_value_heads,
        "rms_norm_eps": language.rms_norm_eps,
        "rope_theta": language.rope_theta,
        "vocab_size": language.vocab_size,
    }
    vit = {
        "model_type": "siglip_vision_model",
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": vision.hidden_size,
        "intermediate_size": vision.intermediate_size,
        "layer_norm_eps": vision.layer_norm_eps,
        "num_attention_heads": vision.num_attention_heads,
        "num_channels": vision.num_channels,
        # The published count: one more than run.
        "num_hidden_layers": vision.num_hidden_layers + 1,
        "patch_size": vision.patch_size,
        "image_size": vision.patch_size * vision.patches_per_side,
    }
    bagel = {
        "architectures": ["BagelForConditionalGeneration"],
        "latent_patch_size": config.latent_patch_size,
        "max_latent_size": config.max_latent_size,
        "vit_max_num_patch_per_side": vision.patches_per_side,
        "connector_act": "gelu_pytorch_tanh",
        "interpolate_pos": False,
        "timestep_shift": 1.0,
        "vae_config": {"z_channels": config.latent_channels, "downsample": config.vae_downsample},
        "strokes": {
            "name": "strokes-embedded",
            "dialect": "miniature",
            "size": [size.canvas, size.canvas],
            "rounds": 6,
            "max_text_tokens": 64,
            "first": PAINT,
            "edit": PAINT,
            "text": {"temperature": 0.0, "max_tokens": 64},
            "vit_transform": {"max": size.canvas, "min": size.canvas, "stride": vision.patch_size},
        },
    }
    return {"llm_config.json": llm, "vit_config.json": vit, "config.json": bagel}


def write_folder(
    folder: Path,
    model: Bagel,
    size: NetworkSize,
    write_weights: Callable[[Path, Callable[[Path], object]], None] = write_whole,
) -> None:
    """Write weights in bfloat16 and configurations beside the tokenizer and autoencoder that are already there.

    ``write_weights(path, write)`` writes the weights file, in the form of :func:`strokes.files.write_whole`.
    """
    for name, content in folder_configs(model.config, size).items():
        text = json.dumps(content, indent=1) + "\n"
        write_whole(folder / name, partial(Path.write_text, data=text))
    state = {k: v.detach().to("cpu", torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
    write_weights(folder / "ema.safetensors", lambda path: save_file(state, path))


@dataclass(frozen=True, kw_only=True)
class NetworkSize:
    """Widths and depths of the small network, the vision model's patch and the largest canvas side in pixels."""

    hidden: int = 192
    intermediate: int = 512
    layers: int = 6
    heads: int = 6
    kv_heads: int = 2
    vision_hidden: int = 128
    vision_layers: int = 2
    vision_heads: int = 4
    vision_patch: int = 16
    canvas: int = UNIT

    def config(self, vocab_size: int, latent_channels: int) -> BagelConfig:
        """The network's configuration for a tokenizer and an autoencoder."""
        return BagelConfig(
            language=LanguageConfig(
                vocab_size=vocab_size,
                hidden_size=self.hidden,
                intermediate_size=self.intermediate,
                num_hidden_layers=self.layers,
                num_attention_heads=self.heads,
                num_key_value_heads=self.kv_heads,
                head_dim=self.hidden // self.heads,
                rope_theta=10000.0,
            ),
            vision=VisionConfig(
                hidden_size=self.vision_hidden,
                intermediate_size=2 * self.vision_hidden,
                num_hidden_layers=self.vision_layers,
                num_attention_heads=self.vision_heads,
                patch_size=self.vision_patch,
                patches_per_side=self.canvas // self.vision_patch,
            ),
            latent_patch_size=2,
            latent_channels=latent_channels,
            max_latent_size=self.canvas // 16,
        )
