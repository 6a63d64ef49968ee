"""A set of golden tensors: a folder with weights, inputs, and what the reference computed from them.

Source of the format: the README beside the sets (``tests/golden``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ...errors import StrokesError
from ...files import open_safetensors, read_json, shapes_of
from ..engine.prefix import Segment
from ..engine.prefix_cache import PrefixCache
from ..engine.runner import Runner
from ..images import resize
from ..network.autoencoder import Autoencoder
from ..network.config import RELEASED_VAE_RULE, RELEASED_VIT_RULE, BagelConfig, ResizeRule, SpecialTokens, infer_config
from ..network.model import Bagel
from ..network.operations import Operations
from ..weights.checkpoint import find_weights, load_autoencoder, load_network


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file by name."""
    with open_safetensors(path) as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def _read_autoencoder(path: Path, bagel: dict[str, Any]) -> Autoencoder | None:
    """The autoencoder of a file; None where there is no file."""
    return load_autoencoder(path, bagel) if path.exists() else None


@dataclass(kw_only=True)
class GoldenSet:
    """A set of golden tensors, its network loaded in float32.

    ``meta`` is ``meta.json``; ``inputs`` and ``expected`` are tensors by name; ``bagel`` are the values of BAGEL's
    ``config.json``. ``autoencoder`` is None where the set has none.
    """

    meta: dict[str, Any]
    inputs: dict[str, Tensor]
    expected: dict[str, Tensor]
    bagel: dict[str, Any]
    runner: Runner
    prefix_cache: PrefixCache
    vae_rule: ResizeRule
    vit_rule: ResizeRule
    autoencoder: Autoencoder | None

    @classmethod
    def read(cls, folder: Path, operations: Operations = nn) -> GoldenSet:
        """The set of a folder. Raises :class:`StrokesError` naming a file, key or tensor missing or unreadable."""
        if not folder.is_dir():
            raise StrokesError(f"no folder {folder}: give a set of golden tensors, such as tests/golden/toy")
        meta, model = read_json(folder / "meta.json"), folder / "model"
        inputs, expected = (read_tensors(folder / f"{name}.safetensors") for name in ("inputs", "expected_fp32"))
        weights = find_weights(model)
        release = next(iter(sorted(model.glob("*bagel_config.json"))), model / "toy_bagel_config.json")
        given = read_json(release)
        bagel = {**given.get("bagel", {}), "vae_config": given.get("ae", {})}
        llm, vit = read_json(model / "llm_config.json"), read_json(model / "vit_config.json")
        config = infer_config(shapes_of(weights), llm, vit, bagel)
        if config.vision is None:
            raise StrokesError(f"{weights} lacks the tensors of the vision model ('vit_model.vision_model…')")
        try:
            ids = given["special_token_ids"]
            names = ("bos_token_id", "eos_token_id", "start_of_image", "end_of_image")
            special = SpecialTokens(*(int(ids[name]) for name in names))
            vae_rule = ResizeRule(**given["vae_transform"]) if "vae_transform" in given else RELEASED_VAE_RULE
            vit_rule = ResizeRule(**given["vit_transform"]) if "vit_transform" in given else RELEASED_VIT_RULE
        except (KeyError, TypeError, ValueError) as error:
            raise StrokesError(f"{release} misses or misnames a value ({error})") from None
        runner = Runner(load_network(weights, config, dtype=torch.float32, operations=operations), special)
        return cls(
            meta=meta,
            inputs=inputs,
            expected=expected,
            bagel=bagel,
            runner=runner,
            prefix_cache=PrefixCache(runner),
            vae_rule=vae_rule,
            vit_rule=vit_rule,
            autoencoder=_read_autoencoder(model / "ae.safetensors", bagel),
        )

    @property
    def model(self) -> Bagel:
        return self.runner.model

    @property
    def config(self) -> BagelConfig:
        return self.model.config

    @property
    def facts(self) -> dict[str, dict[str, Any]]:
        """What ``meta.json`` says of each scenario: its hyper-parameters (``hyper``) and the expected facts."""
        return self.meta.get("scenarios", {})

    def find(self, name: str) -> Tensor | None:
        """An input or expected tensor by its name or alias; None where there is none."""
        name = self.meta.get("aliases", {}).get(name, name)
        found = self.inputs.get(name)
        return self.expected.get(name) if found is None else found

    def tensor(self, name: str) -> Tensor:
        """:meth:`find`, but raises :class:`StrokesError` where there is none."""
        found = self.find(name)
        if found is None:
            raise StrokesError(f"the set holds no tensor '{name}'")
        return found

    def text(self, name: str) -> Segment:
        """The segment of a prompt by its name in ``meta.json``."""
        return Segment("text", tuple(self.meta["prompt_ids"][name]))

    def original(self, name: str) -> Image.Image:
        """An input image by its name, "image" or "image2"."""
        return Image.fromarray(self.tensor(f"{name}_u8").numpy())

    def vae_picture(self, name: str) -> Image.Image:
        """An input image as the autoencoder reads it."""
        return resize(self.original(name), self.vae_rule)

    def vit_picture(self, name: str) -> Image.Image:
        """An input image as the vision model reads it: resized twice, as the reference's inferencer does."""
        return resize(self.vae_picture(name), self.vit_rule)
