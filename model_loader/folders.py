"""Names in ComfyUI's menus → paths: checkpoints, the places of their companions, and LoRAs in ``models/loras``."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

import comfy.ops
import folder_paths

from ..strokes import models
from ..strokes.bagel.weights.companions import AUTOENCODERS, Places
from ..strokes.errors import StrokesError
from ..strokes.process.dialects import choice

FOLDER = "strokes"
# ComfyUI's own folder of networks of every kind; a name is looked up here after FOLDER.
SHARED = "diffusion_models"
EMBEDDED = "strokes-embedded"

# How the names of files end that can be chosen. GGUF is not read: the error of the one chosen says what to take instead.
_ENDINGS = (".safetensors", ".safetensors.index.json", ".gguf")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")
# What the header of a BAGEL checkpoint holds and no other network's, whatever prefix its keys have.
_MARK = b"llm2vae."
# The longest header that safetensors allows, in bytes.
_MAX_HEADER = 100_000_000


def register() -> None:
    """Make both checkpoint folders known to ComfyUI; ``models/bagel`` is where other packs for BAGEL put theirs."""
    for name in (FOLDER, "bagel"):
        folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, name))


def checkpoint_names() -> list[str]:
    """The loader's menu: the model that ships along, then ``folder/file`` of every checkpoint.

    Shards are listed once, by their index. Of ``models/diffusion_models`` only BAGEL checkpoints of one file are listed.
    """
    # Forward slashes on every system: a workflow from another one finds its checkpoint.
    found = [name.replace("\\", "/") for name in folder_paths.get_filename_list(FOLDER)]
    indexed = {os.path.dirname(name) for name in found if name.endswith(".index.json")}
    own = [name for name in found if _is_weights(name) and not (_is_shard(name) and os.path.dirname(name) in indexed)]
    shared = [name.replace("\\", "/") for name in folder_paths.get_filename_list(SHARED)]
    return [EMBEDDED, *own, *(name for name in shared if name not in own and _is_shared_bagel(name))]


def _is_weights(name: str) -> bool:
    folder, file = os.path.split(name)
    return file.endswith(_ENDINGS) and file not in AUTOENCODERS and os.path.basename(folder) != "vae"


def _is_shard(name: str) -> bool:
    return bool(_SHARD.search(name))


def _is_shared_bagel(name: str) -> bool:
    path = folder_paths.get_full_path(SHARED, name) if name.endswith(".safetensors") and not _is_shard(name) else None
    if path is None:
        return False
    stat = os.stat(path)
    return _header_has_mark(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4096)
def _header_has_mark(path: str, _mtime_ns: int, _size: int) -> bool:
    """Whether a safetensors file is a BAGEL checkpoint; its header is read again only where the file has changed."""
    try:
        with open(path, "rb") as file:
            return _MARK in file.read(min(int.from_bytes(file.read(8), "little"), _MAX_HEADER))
    except OSError:  # no permission, or gone meanwhile: it cannot be chosen
        return False


def checkpoint_path(name: str) -> Path:
    """The weights file of a name in the menu; the folder of the model that ships along. StrokesError where it is gone."""
    if name == EMBEDDED:
        return models.EMBEDDED
    path = folder_paths.get_full_path(FOLDER, name) or folder_paths.get_full_path(SHARED, name)
    if path is None:
        places = " or ".join(folder_paths.get_folder_paths(FOLDER))
        raise StrokesError(f"no checkpoint {name}: put its folder (with ae.safetensors and tokenizer) into {places}")
    return Path(path)


def companion_places() -> Places:
    """Where companions are looked for that do not lie beside the weights: ``models/vae`` and ComfyUI's own tokenizer."""
    files = (folder_paths.get_full_path("vae", name) for name in folder_paths.get_filename_list("vae"))
    tokenizer = Path(comfy.ops.__file__).parent / "text_encoders" / "qwen25_tokenizer"
    return Places(
        autoencoders=[Path(file) for file in files if file is not None and file.endswith(".safetensors")],
        tokenizers=[tokenizer],
        dialects=dialect_places(),
    )


def lora_path(name: str) -> Path:
    """The file of a name in the LoRA menu. Raises StrokesError where it is gone or is no .safetensors file."""
    path = folder_paths.get_full_path("loras", name)
    if path is None:
        raise StrokesError(f"no LoRA {name}: put it into {' or '.join(folder_paths.get_folder_paths('loras'))}")
    if not name.endswith(".safetensors"):
        raise StrokesError(f"{name}: only .safetensors LoRAs are read; convert it first")
    return Path(path)


def dialect_places() -> list[Path]:
    """The folders that dialect files are looked for in: ``dialects`` in every folder of checkpoints."""
    return [Path(place, "dialects") for place in folder_paths.get_folder_paths(FOLDER)]


def dialect_names() -> list[str]:
    """The menu of dialects: the built-in ones, and one for each file."""
    return choice.names(dialect_places())
