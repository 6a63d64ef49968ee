"""Where checkpoints lie: ``models/strokes``, and ``models/bagel``, where earlier packs have put theirs."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ..strokes import models
from ..strokes.errors import StrokesError

FOLDER = "strokes"
EMBEDDED = "strokes-embedded"
# Weights of other things that lie beside a checkpoint's own.
_COMPANIONS = ("ae.safetensors", "vae.safetensors")


def register() -> None:
    for name in (FOLDER, "bagel"):
        folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, name))


def checkpoint_names() -> list[str]:
    """What the loader offers: the model that ships along, then every weights file, as ``folder/file.safetensors``."""
    # One spelling on every system, or a shared workflow would not find its checkpoint on another.
    found = [name.replace("\\", "/") for name in folder_paths.get_filename_list(FOLDER)]
    return [EMBEDDED, *(n for n in found if n.endswith(".safetensors") and os.path.basename(n) not in _COMPANIONS)]


def checkpoint_path(name: str) -> Path:
    """The file (for the model that ships along: the folder) behind a name. Raises StrokesError where it is gone."""
    if name == EMBEDDED:
        return models.EMBEDDED
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        places = " or ".join(folder_paths.get_folder_paths(FOLDER))
        raise StrokesError(f"no checkpoint {name}: put its folder (with ae.safetensors and tokenizer) into {places}")
    return Path(path)


def lora_path(name: str) -> Path:
    path = folder_paths.get_full_path("loras", name)
    if path is None:
        raise StrokesError(f"no LoRA {name}: put it into {' or '.join(folder_paths.get_folder_paths('loras'))}")
    if not name.endswith(".safetensors"):
        raise StrokesError(f"{name}: only .safetensors LoRAs are read; convert it first")
    return Path(path)
