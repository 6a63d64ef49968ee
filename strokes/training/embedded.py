"""From nothing to a model folder: tokenizer, autoencoder, network, configurations, log."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..bagel.checkpoint import load_autoencoder, load_tokenizer, read_json, special_tokens
from ..bagel.config import BagelConfig
from ..bagel.model import Bagel
from ..errors import StrokesError
from ..files import write_whole
from .autoencoder import AutoencoderPreset, train_autoencoder
from .scene_graph import PromptMix
from .train import NetworkSize, TrainPreset, train
from .vocabulary import write_tokenizer


@dataclass(frozen=True)
class EmbeddedPreset:
    """One run of ``strokes train embedded``."""

    autoencoder: AutoencoderPreset = field(default_factory=AutoencoderPreset)
    network: TrainPreset = field(default_factory=TrainPreset)


PRESETS = {
    # Two CPU cores, about two and a half hours.
    "cpu": EmbeddedPreset(network=TrainPreset(steps=4400, prompts=PromptMix(max_objects=3))),
    # One data-centre GPU, under half an hour; it goes on where it was when a lease cuts it off.
    "gpu": EmbeddedPreset(
        AutoencoderPreset(widths=(32, 64, 64, 64), steps=3000, batch=64),
        TrainPreset(
            NetworkSize(hidden=256, intermediate=704, heads=8, layers=8, vision_hidden=192, vision_layers=4, vision_heads=6),
            steps=6000, batch=512, one_shot_first=0.5, one_shot_last=0.3, learning_rate=1.5e-3, warmup=300, ema=0.999,
            workers=12,
        ),
    ),
    # Seconds: shows that every part runs.
    "toy": EmbeddedPreset(
        AutoencoderPreset(widths=(32, 32, 32, 32), steps=2, batch=2),
        TrainPreset(NetworkSize(32, 48, 2, 2, 1, 32, 1, 2), steps=4, batch=4, warmup=1, one_shot_first=0.5, one_shot_last=0.5),
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


def train_embedded(
    folder: Path,
    preset: EmbeddedPreset,
    seed: int,
    device: torch.device,
    report: Callable[[str, int, int, dict[str, float]], None],
) -> Path:
    """Run both trainings into ``folder`` and return it.

    Run again after a cut, it goes on: the autoencoder's training, minutes long, from its start, the network's from the
    last saved step.

    ``report(part, step, steps, losses)`` is called every step; losses also go to ``log.jsonl``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"seed": seed, **asdict(preset)}
    recorded = folder / "preset.json"
    wanted = json.loads(json.dumps(settings))
    if recorded.exists() and read_json(recorded) != wanted:
        raise StrokesError(f"{folder} holds a run with other settings ({recorded.name}): choose another --out")
    write_whole(recorded, lambda path: path.write_text(json.dumps(settings, indent=1) + "\n"))
    write_whole(folder / "tokenizer.json", write_tokenizer)
    with (folder / "log.jsonl").open("a") as log:

        def note(part: str, steps: int) -> Callable[[int, dict[str, float]], None]:
            def one(step: int, losses: dict[str, float]) -> None:
                report(part, step + 1, steps, losses)
                if step % 20 == 0 or step + 1 == steps:
                    log.write(json.dumps({"part": part, "step": step, **losses}) + "\n")
                    log.flush()

            return one

        ae = folder / "ae.safetensors"
        if not ae.exists():
            tensors = train_autoencoder(preset.autoencoder, seed, device, note("autoencoder", preset.autoencoder.steps))
            write_whole(ae, lambda path: save_file({k: v.bfloat16() for k, v in tensors.items()}, path))
        tokenizer = load_tokenizer(folder)
        model = train(
            preset.network,
            tokenizer,
            special_tokens(tokenizer),
            load_autoencoder(ae, {}, device),
            seed,
            device,
            note("network", preset.network.steps),
            resume=folder / "state",
        )
    write_folder(folder, model, preset.network.size)
    return folder


def with_steps(preset: EmbeddedPreset, steps: int) -> EmbeddedPreset:
    """The same run with another length of the network's training."""
    return replace(preset, network=replace(preset.network, steps=steps))
