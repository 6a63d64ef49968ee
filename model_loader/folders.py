"""Names in ComfyUI's menus → paths: checkpoints in ``models/strokes`` and ``models/bagel``, LoRAs in ``models/loras``."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ..strokes import models
from ..strokes.errors import StrokesError

FOLDER = "strokes"
EMBEDDED = "strokes-embedded"
# Weights that lie beside a checkpoint's: its autoencoder.
_COMPANIONS = ("ae.safetensors", "vae.safetensors")


def register() -> None:
    """Make both checkpoint folders known to ComfyUI; ``models/bagel`` is where other packs for BAGEL put theirs."""
    for name in (FOLDER, "bagel"):
        folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, name))


def checkpoint_names() -> list[str]:
    """The loader's menu: the model that ships along, then every weights file as ``folder/file.safetensors``."""
    # Forward slashes on every system: a workflow from another one finds its checkpoint.
    found = [name.replace("\\", "/") for name in folder_paths.get_filename_list(FOLDER)]
    return [EMBEDDED, *(n for n in found if n.endswith(".safetensors") and os.path.basename(n) not in _COMPANIONS)]


def checkpoint_path(name: str) -> Path:
    """The weights file of a name in the menu; the folder of the model that ships along. StrokesError where it is gone."""
    if name == EMBEDDED:
        return models.EMBEDDED
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        places = " or ".join(folder_paths.get_folder_paths(FOLDER))
        raise StrokesError(f"no checkpoint {name}: put its folder (with ae.safetensors and tokenizer) into {places}")
    return Path(path)


def lora_path(name: str) -> Path:
    """The file of a name in the LoRA menu. Raises StrokesError where it is gone or is no .safetensors file."""
    path = folder_paths.get_full_path("loras", name)
    if path is None:
        raise StrokesError(f"no LoRA {name}: put it into {' or '.join(folder_paths.get_folder_paths('loras'))}")
    if not name.endswith(".safetensors"):
        raise StrokesError(f"{name}: only .safetensors LoRAs are read; convert it first")
    return Path(path)
