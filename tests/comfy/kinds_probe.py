"""Inside ComfyUI, for the tests of kinds of files: the velocity that a network predicts, and the memory that opening takes.

``pack`` gives a module of the pack by its name.
"""

from __future__ import annotations

import json
import resource
from pathlib import Path

import comfy.memory_management
import comfy.quant_ops
import comfy_aimdo.control
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

SIDE = 64


def velocity(pack, checkpoint: str, precision: str, slow: bool = False) -> dict:
    """Velocity ``[tokens · numbers]`` at time 1 behind a text and a picture, and what was computed with which layers.

    ``slow``: as on a card that is slow with bfloat16.
    """
    loader, folders = pack("model_loader.loader"), pack("model_loader.folders")
    pictures, settings = pack("strokes.process.pictures"), pack("strokes.process.settings").PaintSettings
    picture = pictures.Picture(Image.radial_gradient("L").resize((SIDE, SIDE)).convert("RGB"))
    activation_type = loader.activation_type
    with torch.inference_mode():  # as ComfyUI runs nodes
        loader.activation_type = (lambda *_: torch.float32) if slow else activation_type
        model = loader.load_unified(folders.checkpoint_path(checkpoint), precision)
        loader.activation_type = activation_type
        painter, network = model.painter, model.painter.checkpoint.model
        prefix = painter.read_text(painter.blank(), "a red circle")
        prefix = painter.read_picture(prefix, picture, "latents+pixels")
        # One step from noise to picture, without guidance: what is taken off the noise is the velocity.
        painted = painter.paint_picture(prefix, prefix, prefix, (SIDE, SIDE), settings(steps=1, text_guidance=1.0), 0)
    patch = network.config.latent_patch_size
    tokens = (SIDE // network.config.token_pixels) ** 2
    noise = torch.randn(tokens, network.config.token_dim, generator=torch.Generator().manual_seed(0))
    latents = torch.from_numpy(painted.picture.latents)[None]
    clean = pack("strokes.bagel.network.vision").patchify(latents, patch)[0]
    up = network.get_submodule("language_model.model.layers.1.mlp_moe_gen.up_proj")
    return {
        "velocity": (noise - clean).flatten().tolist(),
        "activations": str(network.dtype).removeprefix("torch."),
        "layer": [type(up.weight).__name__, str(getattr(up.weight, "storage_dtype", up.weight.dtype))],
    }


def opened(pack, checkpoint: str, streaming: bool, room: int = 0) -> dict:
    """Bytes of anonymous memory that opening a checkpoint takes, bytes of its weights, and those that know their file.

    ``streaming`` reads as ComfyUI does where it streams weights to a card. ``room``: bytes of address space that are left.
    """
    loader, folders = pack("model_loader.loader"), pack("model_loader.folders")
    path = folders.checkpoint_path(checkpoint)
    with torch.inference_mode():
        loader.load_unified(folders.checkpoint_path(folders.EMBEDDED), "float32", "cpu")  # imports
        before = anonymous()
        comfy.memory_management.aimdo_enabled = streaming and comfy_aimdo.control.init()
        limits = resource.getrlimit(resource.RLIMIT_AS)
        if room:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room, limits[1]))
        try:
            model = loader.load_unified(path, "bfloat16", "cpu")
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
            comfy.memory_management.aimdo_enabled = False
        after = anonymous()
    weights = [getattr(p, "_qdata", p) for p in model.painter.checkpoint.model.parameters()]
    known = [w for w in weights if hasattr(w.untyped_storage(), "_comfy_tensor_file_slice")]
    return {"grown": after - before, "bytes": sum(w.nbytes for w in weights), "known": sum(w.nbytes for w in known)}


def quantise(source: str, target: str, layers: list[str], layer: dict, options: dict) -> None:
    """Write the weights of a file with some layers quantised by ComfyUI itself; ``layer`` is the JSON of each."""
    state = load_file(source)
    layout = comfy.quant_ops.QUANT_ALGOS[layer["format"]]["comfy_tensor_layout"]
    for name in layers:
        weight = state.pop(f"{name}.weight")
        made = comfy.quant_ops.QuantizedTensor.from_float(weight, layout, **options)
        # Types that safetensors files of this form hold as bytes.
        state |= {
            key: tensor.view(torch.uint8) if tensor.dtype == torch.float8_e8m0fnu else tensor.contiguous()
            for key, tensor in made.state_dict(f"{name}.weight").items()
        }
        state[f"{name}.comfy_quant"] = torch.tensor(list(json.dumps(layer).encode()), dtype=torch.uint8)
    save_file(state, target)


def anonymous() -> int:
    """Anonymous memory of this process in bytes."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return 1024 * next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Anonymous:"))
