"""A checkpoint recognised: everything that is known of it from headers and JSON files, before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from ...errors import StrokesError
from ...files import AGAIN, check_regular, check_shapes
from ...process.settings import Profile
from ..network.config import BagelConfig, ResizeRule, infer_config
from .companions import (
    AUTOENCODERS,
    ModelJson,
    Places,
    find_autoencoder,
    find_tokenizer,
    is_bagel_7b,
    model_json,
    read_optional,
)
from .header import INDEX, Header, TensorEntry, read_headers, shards_named, shards_of
from .kinds import Kind, Signs, check_all_read, check_file, kind_of
from .quantised import LayerFormat, layer_formats, logical_shape, stored_shape
from .schema import ConfigFile, LlmFile, VitFile, profile_of, sizes_of, vit_rule_of

# Names of the weights file, the first that exists counts: averaged weights, and weights as trained.
WEIGHTS = ("ema.safetensors", "model.safetensors")
# Types of numbers that a tensor without a quantised form may have.
FLOATS = ("BF16", "F16", "F32", "F64", "F8_E4M3", "F8_E5M2")
# A name that every checkpoint has: what stands before it stands before all names.
FIRST = "language_model.model.embed_tokens.weight"


@dataclass(frozen=True)
class Missing:
    """A part that is not there and what that costs; without one that is ``needed``, the model does not open."""

    what: str
    costs: str
    needed: bool = False


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """A checkpoint, read from headers and JSON files alone.

    ``tensors`` are those that the network needs, ``quantised`` the formats of its quantised layers, both by the network's own
    names. ``given`` is ``config.json``, checked. ``tokenizer`` is a folder.
    """

    weights: Path
    files: tuple[Path, ...]
    kind: Kind
    prefix: str
    tensors: Mapping[str, TensorEntry]
    quantised: Mapping[str, LayerFormat]
    config: BagelConfig
    given: ConfigFile
    profile: Profile
    vit_rule: ResizeRule
    autoencoder: Path | None
    tokenizer: Path | None
    missing: tuple[Missing, ...]

    @property
    def parameters(self) -> int:
        """The network's parameters, quantised ones unpacked."""
        formats = self.quantised
        shapes = (logical_shape(e.shape, formats.get(key.removesuffix(".weight"))) for key, e in self.tensors.items())
        return sum(prod(shape) for shape in shapes)

    @property
    def nbytes(self) -> int:
        """Bytes of the network as it is stored, with the companions of quantised layers."""
        companions = (entry for layer in self.quantised.values() for entry in layer.companions.values())
        return sum(entry.nbytes for entry in (*self.tensors.values(), *companions))


def find_weights(path: Path) -> Path:
    """The weights file of a model folder, or the file itself; of shards, their index.

    In a folder: the published names, then an index with shards, then shards, then the only other safetensors file: the
    published folder's own index lists shards that a fine-tune or a cast does not have. Raises :class:`StrokesError` where
    there is none or not one alone.
    """
    if path.is_file():
        return path
    if not path.exists():
        raise StrokesError(f"no model at {path}: give a folder like BAGEL-7B-MoT's, or its ema.safetensors")
    if not path.is_dir():
        raise StrokesError(f"{path} is neither a file nor a folder: give a folder like BAGEL-7B-MoT's")
    for name in WEIGHTS:
        if (path / name).exists():
            return path / name
    indexes = _files_named(path, INDEX)
    for index in indexes:
        if any(shard.exists() for shard in shards_named(index)):
            return index
    found = [file for file in _files_named(path, ".safetensors", ".gguf") if file.name not in AUTOENCODERS]
    if found and (len(found) == 1 or shards_of(found[0]) == found):
        return found[0]
    if found:
        raise StrokesError(f"{path} holds several models ({found[0].name}, {found[1].name} …): give one of the files")
    if indexes:
        return indexes[0]
    raise StrokesError(f"{path} is no model folder: it holds no {' or '.join(WEIGHTS)}")


def _files_named(folder: Path, *endings: str) -> list[Path]:
    """The files of a folder with one of the ``endings``, by name."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name.endswith(endings))


def recognise(path: str | Path, places: Places | None = None) -> Recognised:
    """Everything known about the checkpoint of a folder or file without building it; ``places`` are for its companions.

    A companion that is not there is listed in :attr:`Recognised.missing`. Raises :class:`StrokesError` naming the file, the
    tensor or the key that is damaged, misshapen, out of range or of a kind that is not read.
    """
    places = places or Places()
    weights = find_weights(Path(path))
    folder = weights.parent
    files = tuple(shards_of(weights))
    signs = Signs(name=files[0].name, magic=_first_bytes(files[0]), config=read_optional(folder / "config.json"))
    check_file(signs, files[0])
    header = read_headers(files)
    kind = kind_of(replace(signs, tensors=header.tensors, metadata=header.metadata), weights)
    prefix, tensors = _without_prefix(header, weights)
    quantised = layer_formats(tensors, header.metadata, prefix, weights)
    found = model_json(weights, header.metadata, signs.config)
    config = _config_of(tensors, quantised, found, weights)
    own = _own_tensors(tensors, quantised, config, weights)
    autoencoder = find_autoencoder(folder, places, config.latent_channels)
    tokenizer = find_tokenizer(folder, places)
    where = str(folder / "config.json")
    return Recognised(
        weights=weights,
        files=files,
        kind=kind,
        prefix=prefix,
        tensors=own,
        quantised={layer: form for layer, form in quantised.items() if f"{layer}.weight" in own},
        config=config,
        given=found.config,
        profile=profile_of(found.config.strokes, _name_of(weights), config, where),
        vit_rule=vit_rule_of(found.config.strokes, config, where),
        autoencoder=autoencoder,
        tokenizer=tokenizer,
        missing=_missing(folder, config, autoencoder, tokenizer),
    )


def _first_bytes(path: Path) -> bytes:
    try:
        check_regular(path)
        with path.open("rb") as file:
            return file.read(4)
    except OSError as error:
        raise StrokesError(f"{path} cannot be read ({error.strerror or error}); {AGAIN}") from None


def _without_prefix(header: Header, path: Path) -> tuple[str, dict[str, TensorEntry]]:
    """The prefix in front of the network's names (``bagel.``, often none), and all tensors by their names without it.

    Raises StrokesError where two sets of the network's tensors lie in one file.
    """
    heads = sorted(key.removesuffix(FIRST) for key in header.tensors if key.endswith(FIRST))
    if len(heads) > 1:
        raise StrokesError(f"{path} holds two networks, '{heads[0]}' and '{heads[1]}': split it, and open one of them")
    prefix = heads[0] if heads else ""
    others = {key: entry for key, entry in header.tensors.items() if not key.startswith(prefix)}
    own = {key.removeprefix(prefix): entry for key, entry in header.tensors.items() if key.startswith(prefix)}
    return prefix, others | own


def _config_of(
    tensors: Mapping[str, TensorEntry], quantised: Mapping[str, LayerFormat], found: ModelJson, path: Path
) -> BagelConfig:
    """The network's sizes. Raises StrokesError as :func:`infer_config`, and where a file is needed that is not there."""
    shapes = {key: logical_shape(e.shape, quantised.get(key.removesuffix(".weight"))) for key, e in tensors.items()}
    needed: dict[str, LlmFile | VitFile | None] = {"llm_config.json": found.llm}
    if any(key.startswith("vit_model.") for key in tensors):
        needed["vit_config.json"] = found.vit
    absent = [name for name, part in needed.items() if part is None]
    # One head divides every width: an error is then of the tensors, not of the file that is not there.
    llm, vit = sizes_of(found.llm or LlmFile()), sizes_of(found.vit or VitFile(num_attention_heads=1))
    try:
        config = infer_config(shapes, llm, vit, sizes_of(found.config))
    except StrokesError as error:
        raise StrokesError(f"{path}: {error}") from None
    if config.vision is not None and found.vit is None:
        config = replace(config, vision=replace(config.vision, num_attention_heads=VitFile().num_attention_heads))
    if absent and not is_bagel_7b(config):
        raise StrokesError(
            f"{path.parent} holds no {absent[0]}, which is needed beside weights of other sizes than BAGEL-7B's"
        )
    return config


def _own_tensors(
    tensors: Mapping[str, TensorEntry], quantised: Mapping[str, LayerFormat], config: BagelConfig, path: Path
) -> dict[str, TensorEntry]:
    """The tensors that the network needs. Raises StrokesError for one that is missing or misshapen, for whole numbers without
    a scale, and for a companion of quantised tensors that nobody reads."""
    expected = expected_shapes(config)
    formats = {key: quantised.get(key.removesuffix(".weight")) for key in expected}
    found = {key: logical_shape(e.shape, formats.get(key)) for key, e in tensors.items()}
    check_shapes(found, {key: stored_shape(shape, formats[key]) for key, shape in expected.items()}, str(path))
    for key in expected:
        if formats[key] is None and tensors[key].dtype not in FLOATS:
            raise StrokesError(
                f"{path}: '{key}' is stored as {tensors[key].dtype} and nothing says its scale; take the bfloat16 or fp8 file"
            )
    companions = {entry.key for layer in quantised.values() for entry in layer.companions.values()}
    read = companions | {tensors[key].key for key in expected}
    left = (
        key
        for key, e in tensors.items()
        if e.key not in read and key != "scaled_fp8" and not key.endswith(".comfy_quant")
    )
    check_all_read(left, path)
    return {key: tensors[key] for key in expected}


def expected_shapes(config: BagelConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the network's tensors, of torch's layers: others may make their weights only when loaded."""
    from ..network.model import Bagel

    return {key: tuple(tensor.shape) for key, tensor in Bagel(config, device="meta").state_dict().items()}


def _name_of(weights: Path) -> str:
    """The name of a model without one: its folder's, or of a single file among others the file's."""
    alone = weights.name in WEIGHTS or weights.name.endswith(INDEX) or (weights.parent / "llm_config.json").exists()
    return weights.parent.name if alone else weights.stem


def _missing(
    folder: Path, config: BagelConfig, autoencoder: Path | None, tokenizer: Path | None
) -> tuple[Missing, ...]:
    """What is not there. The texts of needed parts are those of the errors."""
    found = []
    if autoencoder is None:
        costs = f"{folder} holds no ae.safetensors: take the autoencoder of any FLUX.1 or BAGEL download"
        found.append(Missing("autoencoder", costs, needed=True))
    if tokenizer is None:
        costs = f"{folder} holds no tokenizer.json (nor vocab.json with merges.txt): take BAGEL-7B-MoT's"
        found.append(Missing("tokenizer", costs, needed=True))
    if config.vision is None:
        found.append(Missing("vision model", "it cannot look at a picture: Inspect and Ask will not work"))
    return tuple(found)
