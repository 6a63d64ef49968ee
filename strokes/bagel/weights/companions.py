"""What lies beside the weights: JSON files, autoencoder and tokenizer, found and checked without building anything."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import StrokesError
from ...files import AGAIN, load_json, read_json
from ..network.config import BAGEL_7B, BagelConfig
from .header import Header, read_header
from .schema import ConfigFile, LlmFile, Part, PartType, VitFile, checked

log = logging.getLogger(__name__)

# Names of an autoencoder's file beside the weights.
AUTOENCODERS = ("ae.safetensors", "vae.safetensors")
# Where the converter of other packs for BAGEL puts the JSON files: in the weights' metadata, or in a file beside them.
METADATA, SIDECAR = "comfyui_bagel", ".comfyui-bagel.json"
# Files of a tokenizer, without those that would make transformers read more than a tokenizer.
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")
# More levels or blocks than any autoencoder has: they are counted from names in a file.
MOST_LEVELS = 8
_LEVEL = re.compile(r"(?:encoder\.down|decoder\.up)\.(\d+)\.(?:block\.(\d+)\.)?")


@dataclass(frozen=True)
class Places:
    """Where companions are looked for, beside the weights' own folder.

    ``autoencoders`` are files (ComfyUI: models/vae/*.safetensors), of which the first that is FLUX's by its tensors is
    taken; ``tokenizers`` are folders (ComfyUI: comfy/text_encoders/qwen25_tokenizer), and so are ``dialects`` (ComfyUI:
    models/strokes/dialects).
    """

    autoencoders: Sequence[Path] = ()
    tokenizers: Sequence[Path] = ()
    dialects: Sequence[Path] = ()


@dataclass(frozen=True)
class ModelJson:
    """The JSON files of a model, checked; None where there is none."""

    config: ConfigFile
    llm: LlmFile | None
    vit: VitFile | None


def read_optional(path: Path) -> dict[str, Any]:
    """A JSON file that may be absent. One that is no JSON counts as absent, with a line in the log.

    Several published folders hold a ``config.json`` with a comma too many.
    """
    if not path.exists():
        return {}
    try:
        found = load_json(path)
    except (OSError, ValueError) as error:
        log.warning("%s is left out, because it cannot be read (%s)", path, " ".join(str(error).split()))
        return {}
    if not isinstance(found, dict):
        log.warning("%s is left out, because it is no JSON object", path)
        return {}
    return found


def model_json(weights: Path, metadata: Mapping[str, str], beside: Mapping[str, Any]) -> ModelJson:
    """The JSON files of a checkpoint: those its own metadata or its sidecar hold, then those in its folder.

    ``beside`` is the folder's ``config.json``, which was read before.

    Raises :class:`StrokesError` naming file, key and value where one is not as the schema says.
    """
    given, place = _converted(weights, metadata)
    folder = weights.parent

    def part(name: str, kind: type[PartType]) -> PartType | None:
        if name in given:
            return checked(kind, given[name], f"{place}: {name}")
        path = folder / name
        return checked(kind, read_json(path), str(path)) if path.exists() else None

    own = given.get("config.json")
    config = checked(ConfigFile, beside if own is None else own, str(folder / "config.json") if own is None else place)
    return ModelJson(config, part("llm_config.json", LlmFile), part("vit_config.json", VitFile))


class _Converted(Part):
    """The metadata of a converted single file."""

    model_configs: dict[str, dict[str, Any]] = {}


class _Sidecar(Part):
    """The file beside converted weights that have no metadata of their own."""

    checkpoint_size: int
    metadata: _Converted


def _converted(weights: Path, metadata: Mapping[str, str]) -> tuple[dict[str, dict[str, Any]], str]:
    """JSON files by name from the metadata of ``weights`` or from its sidecar, and the name of that place."""
    if METADATA in metadata:
        place = f"{weights}: the metadata {METADATA}"
        try:
            found = json.loads(metadata[METADATA])
        except (ValueError, RecursionError):
            raise StrokesError(f"{place} is no JSON; {AGAIN}") from None
        return checked(_Converted, found, place).model_configs, place
    sidecar = weights.with_name(weights.name + SIDECAR)
    if not sidecar.exists():
        return {}, ""
    read = checked(_Sidecar, read_json(sidecar), str(sidecar))
    if read.checkpoint_size != (size := weights.stat().st_size):
        raise StrokesError(
            f"{sidecar} belongs to a file of {read.checkpoint_size} bytes, {weights.name} has {size}; {AGAIN}"
        )
    return read.metadata.model_configs, str(sidecar)


def is_bagel_7b(config: BagelConfig) -> bool:
    """Whether sizes read off tensors are BAGEL-7B's; a fine-tune may have more words, another table or no vision."""
    sizes = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
    )
    same_language = all(getattr(config.language, name) == getattr(BAGEL_7B.language, name) for name in sizes)
    same_vision = config.vision in (None, BAGEL_7B.vision)
    same_latents = (config.latent_patch_size, config.latent_channels) == (2, BAGEL_7B.latent_channels)
    return same_language and same_vision and same_latents


def is_flux_autoencoder(header: Header, channels: int) -> bool:
    """Whether tensors are an autoencoder with FLUX's names and ``channels`` latent channels, without quant convolutions.

    Stable Diffusion 3's has the same names and shapes; only the name of its file tells it apart.
    """
    out = header.tensors.get("encoder.conv_out.weight")
    return (
        out is not None
        and out.shape[:1] == (2 * channels,)
        and "decoder.conv_out.weight" in header.tensors
        and "encoder.down.0.block.0.conv1.weight" in header.tensors
        and "quant_conv.weight" not in header.tensors
    )


def find_autoencoder(folder: Path, places: Places, channels: int) -> Path | None:
    """The autoencoder beside the weights, else the first of ``places`` that fits; None where there is none.

    Raises :class:`StrokesError` where the one beside the weights does not fit or is damaged.
    """
    for name in AUTOENCODERS:
        if (folder / name).exists():
            return check_autoencoder(folder / name, channels)
    # FLUX's own names first: shapes alone do not tell every autoencoder apart.
    by_name = sorted(places.autoencoders, key=lambda path: not re.search(r"flux|^ae\b", path.name.lower()))
    for path in by_name:
        if "sd3" not in path.name.lower() and _fits(path, channels):
            return check_autoencoder(path, channels)
    return None


def _fits(path: Path, channels: int) -> bool:
    try:
        return is_flux_autoencoder(read_header(path), channels)
    except StrokesError:  # another model's file, and its damage no concern of this one
        return False


def check_autoencoder(path: Path, channels: int) -> Path:
    """``path``. Raises :class:`StrokesError` where its header is no autoencoder with ``channels`` latent channels."""
    header = read_header(path)
    for key in header.tensors:
        if (match := _LEVEL.match(key)) and any(int(n) >= MOST_LEVELS for n in match.groups() if n):
            raise StrokesError(
                f"{path}: '{key[:200]}' is beyond the {MOST_LEVELS} levels or blocks of an autoencoder; {AGAIN}"
            )
    for key, entry in header.tensors.items():
        if not entry.shape:
            raise StrokesError(
                f"{path}: '{key[:200]}' has shape [], a single number, which no autoencoder has; {AGAIN}"
            )
        if entry.dtype not in ("F32", "F16", "BF16", "F64"):
            raise StrokesError(
                f"{path}: '{key[:200]}' is stored as {entry.dtype}; take a float32 or bfloat16 autoencoder"
            )
    out = header.tensors.get("encoder.conv_out.weight")
    if out is not None and out.shape[0] != 2 * channels:
        raise StrokesError(f"{path} has {out.shape[0] // 2} latent channels, the network {channels}")
    return path


def find_tokenizer(folder: Path, places: Places) -> Path | None:
    """The folder with the tokenizer: the weights' own, else the first of ``places`` that has one; None where none has."""
    return next((place for place in (folder, *places.tokenizers) if has_tokenizer(place)), None)


def has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() or all((folder / name).is_file() for name in TOKENIZER_FILES[:2])
