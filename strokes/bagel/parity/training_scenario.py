"""The training scenario of a set of golden tensors: the packed batch, its losses and its gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...errors import StrokesError
from ..images import resize, to_tensor
from ..network.config import SpecialTokens
from ..network.model import Bagel
from ..network.packed import Item, LatentItem, Packed, PixelItem, TextItem, pack, training_forward, visibility
from ..network.vision import grid_index
from .golden import GoldenSet
from .values import Produced, Scaled


def train(s: GoldenSet) -> Produced:
    """The training forward and its gradients on the batch of the format."""
    packed = pack(s.config, _samples(s), s.runner.special)
    yield from _layout(s, packed)
    model = s.model
    # Loading froze the weights; a fresh network says which of them train.
    for parameter, fresh in zip(model.parameters(), Bagel(s.config, device="meta").parameters(), strict=True):
        parameter.requires_grad_(fresh.requires_grad)
    with torch.enable_grad():
        losses = training_forward(model, packed, s.tensor("train.noise"), float(s.bagel.get("timestep_shift", 1.0)))
        ce, mse = losses.ce.mean(), losses.mse.mean()
        (ce + mse).backward()
    yield "train.ce_per_token", losses.ce
    yield "train.mse_per_element", losses.mse
    yield "train.ce_mean", ce.item()
    yield "train.mse_mean", mse.item()
    yield "train.loss", (ce + mse).item()
    yield from _gradients(s)
    model.zero_grad()
    model.requires_grad_(False)


def _samples(s: GoldenSet) -> list[list[Item]]:
    """The batch of the format: three samples of fixed items."""
    patch = s.config.latent_patch_size
    # Latents are padded to one size; the real sizes stand in the facts.
    shapes = s.facts["train"]["latent_shapes"]
    padded = s.tensor("train.padded_latent")
    latents = [x[:, : h * patch, : w * patch] for x, (h, w) in zip(padded, shapes, strict=True)]
    texts = _texts(s.tensor("train.packed_text_ids").tolist(), s.runner.special)
    if (len(texts), len(latents)) != (5, 5):
        raise StrokesError(f"the batch holds {len(texts)} texts and {len(latents)} latents; the format has 5 and 5")
    starts = torch.tensor([0, *(h * w for h, w in shapes)]).cumsum(0)[:-1]
    # The set has times before the sigmoid: a clean image, at time 0, has −inf.
    times = s.tensor("train.packed_timesteps")[starts].sigmoid().tolist()
    a, b, c, d, e = (LatentItem(x, t if t > 0 else None) for x, t in zip(latents, times, strict=True))
    look = PixelItem(to_tensor(resize(s.original("image"), s.vit_rule)))
    return [
        [TextItem(texts[0]), a],
        [b, look, TextItem(texts[1]), c],
        [TextItem(texts[2]), TextItem(texts[3], loss=True), d, e, look, TextItem(texts[4], loss=True)],
    ]


def _texts(ids: Sequence[int], special: SpecialTokens) -> list[list[int]]:
    """The ids of each text, without markers, in the ids of a packed batch."""
    found: list[list[int]] = []
    inside = False
    for i in ids:
        if i == special.bos:
            found.append([])
        elif inside and i != special.eos:
            found[-1].append(i)
        inside = i == special.bos or (inside and i != special.eos)
    return found


def _layout(s: GoldenSet, packed: Packed) -> Produced:
    """The columns of the packed batch, and its attention masks."""
    patch, vision = s.config.latent_patch_size, s.config.vision
    assert vision is not None
    grids = [(x.shape[1] // vision.patch_size, x.shape[2] // vision.patch_size) for x in packed.pixels]
    yield "train.sample_lens", packed.sample_lens
    yield "train.latent_shapes", [[x.shape[1] // patch, x.shape[2] // patch] for x in packed.latents]
    yield "train.packed_text_ids", packed.text_ids
    yield "train.packed_text_indexes", packed.text_index
    yield "train.packed_position_ids", packed.positions
    yield "train.packed_vae_token_indexes", packed.latent_index
    yield "train.packed_latent_position_ids", packed.latent_position
    yield "train.packed_vit_token_indexes", packed.pixel_index
    yield "train.packed_vit_position_ids", torch.cat([grid_index(grid, vision.patches_per_side) for grid in grids])
    yield "train.vit_token_seqlens", torch.tensor([h * w for h, w in grids])
    yield "train.packed_timesteps", packed.latent_time.logit()
    yield "train.mse_loss_indexes", packed.latent_index[packed.target_mask]
    yield "train.ce_loss_indexes", packed.ce_index
    yield "train.packed_label_ids", packed.labels
    for i, mask in enumerate(visibility(packed)):
        yield f"train.visible.{i}", mask


def _gradients(s: GoldenSet) -> Produced:
    """The norm of each weight's gradient, and the weights without one."""
    found = {name: p.grad.norm().item() for name, p in s.model.named_parameters() if p.grad is not None}
    yield "train.params_without_grad", sorted(name for name, _ in s.model.named_parameters() if name not in found)
    wanted = s.facts.get("train", {}).get("grad_norms", {})
    largest = max(wanted.values(), default=0.0)
    for name in wanted:
        if name in found:
            # A key bias shifts all scores of a query alike, so the ViT's has a gradient of zero, computed as rounding
            # noise of about 1e-8. Such a norm is compared on the scale of the largest.
            scale = wanted[name] if wanted[name] > 1e-6 * largest else largest
            yield f"train.grad_norms.{name}", Scaled(found[name], scale)
