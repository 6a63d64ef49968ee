"""What ``strokes check`` shows of a checkpoint: kind, sizes, what is missing, what it would take."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ...errors import StrokesError
from .header import read_header
from .recognise import Missing, Recognised
from .speech import dialect_name, speech_of


def summary(found: Recognised) -> dict[str, Any]:
    """A recognised checkpoint as values of JSON; sizes in bytes unless the name says otherwise.

    ``memory`` is what the weights take: the network as it is stored (what ComfyUI holds), the network in bfloat16 (what the
    command line holds of a large one), and the autoencoder in float32.
    """
    dtypes: Counter[str] = Counter()
    for entry in found.tensors.values():
        dtypes[entry.dtype] += entry.nbytes
    config, vision = found.config, found.config.vision
    missing, profile = list(found.missing), found.profile
    try:
        profile = speech_of(found).profile
    except StrokesError as error:
        missing.append(Missing("dialect", str(error), needed=True))
    needed = [part.costs for part in missing if part.needed]
    autoencoder = 0
    if found.autoencoder is not None:
        autoencoder = 4 * sum(entry.parameters for entry in read_header(found.autoencoder).tensors.values())
    return {
        "opens": not needed,
        "reason": needed[0] if needed else None,
        "weights": str(found.weights),
        "files": len(found.files),
        "kind": found.kind.name,
        "about": found.kind.about,
        "prefix": found.prefix,
        "formats": dict(Counter(layer.format for layer in found.quantised.values())),
        "name": found.profile.name,
        "dialect": dialect_name(found),
        "parameters": found.parameters,
        "bytes": found.nbytes,
        "dtypes": dict(dtypes.most_common()),
        "layers": config.language.num_hidden_layers,
        "width": config.language.hidden_size,
        "heads": config.language.num_attention_heads,
        "vocabulary": config.language.vocab_size,
        "vision_layers": vision.num_hidden_layers if vision else 0,
        "latent_channels": config.latent_channels,
        "max_side": profile.max_side,
        "autoencoder": None if found.autoencoder is None else str(found.autoencoder),
        "tokenizer": None if found.tokenizer is None else str(found.tokenizer),
        "missing": [{"what": part.what, "costs": part.costs} for part in missing],
        "memory": {"stored": found.nbytes, "bfloat16": 2 * found.parameters, "autoencoder": autoencoder},
    }
