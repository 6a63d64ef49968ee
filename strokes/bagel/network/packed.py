"""The training forward: packed samples, visibility, cross-entropy and flow matching.

Source: section 8 of the reference's behaviour (``train`` golden tensors). Samples are concatenated into one row axis;
positions restart at 0 in each; attention never crosses samples. Linears see the packed rows, attention a padded batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .config import BagelConfig, SpecialTokens
from .model import Bagel
from .vision import grid_index, patchify


@dataclass(frozen=True)
class TextItem:
    """A text segment. With ``loss``, the start marker and the ids predict the ids and the end marker.

    ``next_token`` is the label of the end marker's own row: the start/stop loss (an image or another text follows).
    """

    ids: Sequence[int]
    loss: bool = False
    next_token: int | None = None


@dataclass(frozen=True)
class LatentItem:
    """Latents ``[C, h, w]`` (scaled). ``time`` None = a clean condition image; else a target noised to that time.

    A target is seen by nothing but itself and consumes no position.
    """

    latent: Tensor
    time: float | None = None


@dataclass(frozen=True)
class PixelItem:
    """Pixels ``[3, H, W]`` in −1…1 for the vision model."""

    pixels: Tensor
    next_token: int | None = None


Item = TextItem | LatentItem | PixelItem


@dataclass
class AttentionLayout:
    """Where packed rows lie in padded batches of samples of like length.

    ``row_kinds``: for each batch ``[3, samples, longest]``, the segment, causal and noised of each row, −1 at padding;
    ``flat_index`` is each packed row's flat_index in all of them flattened.
    """

    row_kinds: list[Tensor]
    flat_index: Tensor


@dataclass
class Packed:
    """Row layout of a batch; indexes point into the packed row axis (order as the items came).

    Made without a device, so that it can be made in another process. Latents and pixels may be put in later, as one
    tensor or a list.
    """

    sample_lens: list[int]
    positions: Tensor
    segment: Tensor  # number of the segment that a row belongs to, unique in the batch
    causal: Tensor  # row's segment is causal
    noised: Tensor  # row's segment is a target
    text_ids: Tensor
    text_index: Tensor
    latents: Tensor | list[Tensor]
    latent_index: Tensor
    latent_position: Tensor
    latent_time: Tensor
    target_mask: Tensor  # per latent row: belongs to a target
    pixels: Tensor | list[Tensor]
    pixel_index: Tensor
    ce_index: Tensor
    labels: Tensor
    attention: AttentionLayout

    @property
    def rows(self) -> int:
        return len(self.positions)


@dataclass
class _Builder:
    length: int = 0
    positions: list[int] = field(default_factory=list)
    segment: list[int] = field(default_factory=list)
    causal: list[bool] = field(default_factory=list)
    noised: list[bool] = field(default_factory=list)

    def segment_of(self, rows: int, position: int, *, causal: bool = False, noised: bool = False) -> int:
        start, number = self.length, (self.segment[-1] + 1 if self.segment else 0)
        self.positions += range(position, position + rows) if causal else [position] * rows
        self.segment += [number] * rows
        self.causal += [causal] * rows
        self.noised += [noised] * rows
        self.length += rows
        return start


def pack(config: BagelConfig, samples: Sequence[Sequence[Item]], special: SpecialTokens) -> Packed:
    """Lay out samples. Latents are cut into tokens of the network's latent patch; no tensor's values are looked at."""
    b = _Builder()
    sample_lens: list[int] = []
    text_ids: list[int] = []
    text_index: list[int] = []
    latents: list[Tensor] = []
    latent_index: list[int] = []
    latent_position: list[Tensor] = []
    latent_time: list[float] = []
    target_mask: list[bool] = []
    pixels: list[Tensor] = []
    pixel_index: list[int] = []
    ce_index: list[int] = []
    labels: list[int] = []

    def markers(start: int, rows: int) -> range:
        text_ids.extend((special.start_of_image, special.end_of_image))
        text_index.extend((start, start + rows + 1))
        return range(start + 1, start + rows + 1)

    for sample in samples:
        begin, position = b.length, 0
        for item in sample:
            if isinstance(item, TextItem):
                ids = [special.bos, *item.ids, special.eos]
                start = b.segment_of(len(ids), position, causal=True)
                text_ids += ids
                text_index += range(start, start + len(ids))
                if item.loss:
                    ce_index += range(start, start + len(ids) - 1)
                    labels += ids[1:]
                position += len(ids)
                last = start + len(ids) - 1
            elif isinstance(item, LatentItem):
                grid = (
                    item.latent.shape[1] // config.latent_patch_size,
                    item.latent.shape[2] // config.latent_patch_size,
                )
                rows = grid[0] * grid[1]
                noised = item.time is not None
                start = b.segment_of(rows + 2, position, noised=noised)
                latent_index += markers(start, rows)
                latents.append(item.latent)
                latent_position.append(grid_index(grid, config.max_latent_size))
                latent_time += [item.time or 0.0] * rows
                target_mask += [noised] * rows
                position += 0 if noised else 1
                continue
            else:
                assert config.vision is not None
                patch = config.vision.patch_size
                rows = (item.pixels.shape[1] // patch) * (item.pixels.shape[2] // patch)
                start = b.segment_of(rows + 2, position)
                pixel_index += markers(start, rows)
                pixels.append(item.pixels)
                position += 1
                last = start + rows + 1
            if item.next_token is not None:
                ce_index.append(last)
                labels.append(item.next_token)
        sample_lens.append(b.length - begin)

    row_kinds = torch.tensor((b.segment, b.causal, b.noised))
    return Packed(
        sample_lens=sample_lens,
        positions=torch.tensor(b.positions),
        segment=row_kinds[0],
        causal=row_kinds[1] == 1,
        noised=row_kinds[2] == 1,
        text_ids=torch.tensor(text_ids),
        text_index=torch.tensor(text_index),
        latents=latents,
        latent_index=torch.tensor(latent_index, dtype=torch.long),
        latent_position=torch.cat(latent_position) if latent_position else torch.zeros(0, dtype=torch.long),
        latent_time=torch.tensor(latent_time),
        target_mask=torch.tensor(target_mask, dtype=torch.bool),
        pixels=pixels,
        pixel_index=torch.tensor(pixel_index, dtype=torch.long),
        ce_index=torch.tensor(ce_index, dtype=torch.long),
        labels=torch.tensor(labels, dtype=torch.long),
        attention=_attention_layout(sample_lens, row_kinds),
    )


def _attention_layout(sample_lens: Sequence[int], row_kinds: Tensor) -> AttentionLayout:
    flat_index = torch.empty(row_kinds.shape[1], dtype=torch.long)
    starts = torch.tensor([0, *sample_lens]).cumsum(0).tolist()
    batches, base = [], 0
    for members in bucket_by_length(sample_lens):
        longest = max(sample_lens[i] for i in members)
        batch = torch.full((3, len(members), longest), -1)
        for slot, i in enumerate(members):
            part, n = slice(starts[i], starts[i + 1]), sample_lens[i]
            flat_index[part] = torch.arange(base + slot * longest, base + slot * longest + n)
            batch[:, slot, :n] = row_kinds[:, part]
        batches.append(batch)
        base += len(members) * longest
    return AttentionLayout(batches, flat_index)


def visibility(packed: Packed) -> list[Tensor]:
    """One ``[n, n]`` boolean matrix a sample: True where the row may attend to the column."""
    masks, start = [], 0
    for length in packed.sample_lens:
        part = slice(start, start + length)
        masks.append(_visible(packed.segment[None, part], packed.causal[None, part], packed.noised[None, part])[0])
        start += length
    return masks


def _visible(segment: Tensor, causal: Tensor, noised: Tensor) -> Tensor:
    """``[B, T]`` descriptions of rows → ``[B, T, T]``."""
    order = torch.arange(segment.shape[1], device=segment.device)
    same = segment[:, :, None] == segment[:, None, :]
    earlier = order[:, None] >= order
    inside = same & (~causal[:, :, None] | earlier)
    before = (segment[:, None, :] < segment[:, :, None]) & ~noised[:, None, :]
    return inside | before


class _PackedAttention:
    """Scatter packed rows into padded batches of samples of like length, attend under masks, gather back."""

    def __init__(self, layout: AttentionLayout, order: Tensor):
        self.flat_index = layout.flat_index.to(order.device)[order]
        self.groups = [(batch.shape[1], batch.shape[2]) for batch in layout.row_kinds]
        self.size = sum(samples * longest for samples, longest in self.groups)
        self.masks = []
        for batch in layout.row_kinds:
            segment, causal, noised = batch.to(order.device)
            # A padding row sees itself and its fellows, so that no row of the softmax is empty.
            self.masks.append(_visible(segment, causal == 1, noised != 0)[:, None])

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.new_zeros(self.size, *x.shape[2:]).index_copy(0, self.flat_index, x[0]) for x in (q, k, v))
        out, base = [], 0
        for (samples, longest), mask in zip(self.groups, self.masks, strict=True):
            part = slice(base, base + samples * longest)
            q_, k_, v_ = (x[part].unflatten(0, (samples, longest)).transpose(1, 2) for x in (q, k, v))
            attended = nn.functional.scaled_dot_product_attention(
                q_, k_, v_, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1]
            )
            out.append(attended.transpose(1, 2).flatten(0, 1))
            base += samples * longest
        return torch.cat(out)[self.flat_index][None]


def bucket_by_length(lens: Sequence[int], waste: float = 1.3) -> list[list[int]]:
    """Indexes grouped so that the longest of a group is at most ``waste`` times its shortest."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lens)), key=lens.__getitem__):
        if groups and lens[i] <= waste * lens[groups[-1][0]]:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


@dataclass
class Losses:
    """``ce [tokens]`` and ``mse [target tokens, token_dim]``, not reduced."""

    ce: Tensor
    mse: Tensor


def training_forward(model: Bagel, packed: Packed, noise: Tensor, shift: float = 1.0) -> Losses:
    """Losses of a packed batch, everything on the model's device.

    ``noise [latent rows, token_dim]`` is used where a row belongs to a target. A target's time goes through
    ``t ← s·t/(1+(s−1)·t)``; input ``(1−t)·x0 + t·noise``; the wanted velocity is ``noise − x0``.
    """
    device = model.latent_pos_embed.pos_embed.device
    patch = model.config.latent_patch_size
    dim = model.config.language.hidden_size
    rows = torch.zeros(packed.rows, dim, device=device, dtype=model.dtype)
    rows = rows.index_copy(0, packed.text_index.to(device), model.embed_text(packed.text_ids.to(device)))
    clean = target = None
    if len(packed.latents):
        clean = _rows(packed.latents, lambda x: patchify(x, patch))
        t = packed.latent_time.to(device)
        t = shift * t / (1 + (shift - 1) * t)
        target = packed.target_mask.to(device)
        x = torch.where(target[:, None], (1 - t[:, None]) * clean + t[:, None] * noise, clean)
        embedded = model.embed_latents(x, t, packed.latent_position.to(device))
        rows = rows.index_copy(0, packed.latent_index.to(device), embedded.to(rows.dtype))
    if len(packed.pixels):
        embedded = _rows(packed.pixels, model.embed_pixels)
        rows = rows.index_copy(0, packed.pixel_index.to(device), embedded.to(rows.dtype))

    is_gen = torch.zeros(packed.rows, dtype=torch.bool)
    is_gen[packed.latent_index] = True
    order = torch.cat(((~is_gen).nonzero()[:, 0], packed.latent_index)).to(device)
    text_rows = packed.rows - len(packed.latent_index)
    text, gen = rows[order].split((text_rows, len(packed.latent_index)))
    text, gen = model.decode_rows(
        text[None], gen[None], packed.positions.to(device)[order][None], _PackedAttention(packed.attention, order)
    )

    flat_index = torch.empty_like(order)
    flat_index[order] = torch.arange(len(order), device=device)
    logits = model.logits(text[0, flat_index[packed.ce_index.to(device)]])
    ce = nn.functional.cross_entropy(logits.float(), packed.labels.to(device), reduction="none")
    mse = torch.zeros(0, model.config.token_dim, device=device)
    if clean is not None and target is not None and bool(packed.target_mask.any()):
        velocity = model.velocity(gen[0, target]).float()
        mse = (velocity - (noise - clean)[target]) ** 2
    return Losses(ce, mse)


def _rows(images: Tensor | list[Tensor], run: Callable[[Tensor], Tensor]) -> Tensor:
    """Run ``[B, ...]`` → ``[B, rows, *]`` work once for each distinct image shape; all rows ``[rows, *]``, images in order."""
    if isinstance(images, Tensor):
        return run(images).flatten(0, 1)
    out: list[Tensor] = [torch.empty(0)] * len(images)
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, image in enumerate(images):
        groups.setdefault(tuple(image.shape), []).append(i)
    for members in groups.values():
        for i, rows in zip(members, run(torch.stack([images[i] for i in members])), strict=True):
            out[i] = rows
    return torch.cat(out)
