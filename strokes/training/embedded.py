"""``strokes train embedded``: presets, and from nothing to a model folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from ..bagel.config import BagelConfig
from ..bagel.model import Bagel
from ..files import write_whole
from .autoencoder import AutoencoderPreset
from .curves import plot_log
from .dataset import DataPreset
from .run import PartReport, TrainingRun
from .selfsampled import SelfSampling
from .train import NetworkSize, StagePreset

SECOND = StagePreset(steps=2000, one_shot=(0.3, 0.3), own=0.6, learning_rate=1e-3, warmup=100, decay=0.7)


@dataclass(frozen=True)
class EmbeddedPreset:
    """One run of ``strokes train embedded``: synthetic data, a first stage on it, the model's own processes judged, and a
    second stage on both. ``workers`` are processes that make data and batches."""

    autoencoder: AutoencoderPreset = field(default_factory=AutoencoderPreset)
    size: NetworkSize = field(default_factory=NetworkSize)
    data: DataPreset = field(default_factory=DataPreset)
    first: StagePreset = field(default_factory=StagePreset)
    own: SelfSampling = field(default_factory=SelfSampling)
    second: StagePreset = SECOND
    workers: int = 0


PRESETS = {
    # Two CPU cores, overnight.
    "cpu": EmbeddedPreset(data=DataPreset(filtered=False)),
    # Two CPU cores, six minutes: a working, if poor, model.
    "small": EmbeddedPreset(
        AutoencoderPreset(widths=(32, 32, 32, 32), steps=300),
        NetworkSize(96, 256, layers=4, heads=3, kv_heads=1, vision_hidden=64, vision_layers=1, vision_heads=2),
        DataPreset(2000, 4000, 1000),
        StagePreset(steps=350, batch=24, ramp=200, warmup=20),
        SelfSampling(processes=40, shard=20),
        StagePreset(steps=40, batch=24, one_shot=(0.3, 0.3), own=0.6, learning_rate=1e-3, warmup=5, decay=0.7),
    ),
    # One data-centre GPU, under half an hour; it goes on where it was when a lease cuts it off.
    "gpu": EmbeddedPreset(
        AutoencoderPreset(widths=(32, 64, 64, 64), steps=3000, batch=64),
        NetworkSize(hidden=256, intermediate=704, heads=8, layers=8, vision_hidden=192, vision_layers=4, vision_heads=6),
        DataPreset(300_000, 600_000, 10_000, filtered=False),
        StagePreset(steps=6000, batch=512, one_shot=(0.5, 0.3), learning_rate=1.5e-3, warmup=300),
        SelfSampling(processes=6_000, shard=1_000, width=500),
        replace(SECOND, batch=512),
        workers=14,
    ),
    # Seconds: shows that every part runs.
    "toy": EmbeddedPreset(
        AutoencoderPreset(widths=(32, 32, 32, 32), steps=2, batch=2),
        NetworkSize(32, 48, 2, 2, 1, 32, 1, 2),
        DataPreset(8, 16, 8),
        StagePreset(steps=4, batch=4, one_shot=(0.5, 0.5), warmup=1),
        SelfSampling(processes=4, shard=2, width=2),
        StagePreset(steps=2, batch=4, one_shot=(0.25, 0.25), own=0.5, warmup=1),
    ),
}  # fmt: skip

# What suits the model: read back from config.json by strokes.bagel.checkpoint.
PAINT = {
    "steps": 12,
    "text_guidance": 2.0,
    "image_guidance": 1.0,
    "interval": [0.0, 1.0],
    "renorm": "global",
    "shift": 3.0,
}


def folder_configs(config: BagelConfig, size: NetworkSize) -> dict[str, dict[str, Any]]:
    """The three JSON files of a model folder in the published form."""
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


def write_folder(folder: Path, model: Bagel, size: NetworkSize) -> None:
    """Weights in bfloat16 and configurations beside the tokenizer and autoencoder that are already there."""
    for name, content in folder_configs(model.config, size).items():
        text = json.dumps(content, indent=1) + "\n"
        write_whole(folder / name, partial(Path.write_text, data=text))
    state = {k: v.detach().to("cpu", torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
    write_whole(folder / "ema.safetensors", lambda path: save_file(state, path))


class EmbeddedRun(TrainingRun):
    """``strokes train embedded``, into the model folder ``folder``; what is not the model lies in its folder ``run``."""

    def __init__(self, folder: Path, preset: EmbeddedPreset, seed: int, accelerator: Accelerator, report: PartReport):
        super().__init__(folder / "run", asdict(preset), seed, accelerator, report, preset.workers)
        self.folder, self.preset = folder, preset

    def __call__(self) -> Path:
        preset = self.preset
        self.make_codec(self.folder, preset.autoencoder)
        sources = self.synthetic("data", preset.data)
        model = self.stage("first", preset.first, sources, preset.size, self.fresh(preset.size))
        self.write(model)
        sources = replace(sources, own=self.selfsampled("data/own", self.folder, preset.own))
        model = self.stage("second", preset.second, sources, preset.size, model)
        self.write(model)
        if self.accelerator.is_main_process:
            plot_log(self.work / "log.jsonl", self.work / "curves.png")
        return self.folder

    def write(self, model: Bagel) -> None:
        if self.accelerator.is_main_process:
            write_folder(self.folder, model, self.preset.size)
        self.accelerator.wait_for_everyone()


def with_steps(preset: EmbeddedPreset, steps: int) -> EmbeddedPreset:
    """The same run with another length of the first stage."""
    return replace(preset, first=replace(preset.first, steps=steps))
