"""The training forward: samples packed along one row axis, cross-entropy and flow matching.

Positions start at 0 in each sample, and attention never crosses samples. Linears run over the packed rows, attention
over padded batches. Source: the reference's training code, held to by the ``train`` golden tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor, nn

from .config import BagelConfig, SpecialTokens
from .model import Bagel
from .vision import grid_index, patchify


@dataclass(frozen=True)
class TextItem:
    """A text segment: token ids, without markers.

    With ``loss``, the start marker and the ids predict the ids and the end marker. ``next_token`` is the label of the
    end marker's own row, the start/stop loss: whether an image or another text follows.
    """

    ids: Sequence[int]
    loss: bool = False
    next_token: int | None = None


@dataclass(frozen=True)
class LatentItem:
    """An image as scaled latents ``[C, h, w]``: a clean condition where ``time`` is None, else a target noised to it.

    No other segment attends to a target, and it consumes no position.
    """

    latent: Tensor
    time: float | None = None


@dataclass(frozen=True)
class PixelItem:
    """An image as pixels ``[3, H, W]`` in −1…1 for the vision model; ``next_token`` as in :class:`TextItem`."""

    pixels: Tensor
    next_token: int | None = None


Item = TextItem | LatentItem | PixelItem


@dataclass(frozen=True, eq=False)
class AttentionLayout:
    """Where packed rows lie in padded batches of samples of like length.

    ``row_kinds``: one ``[3, samples, longest]`` a batch: segment, causal and noised of each row, −1 at padding.
    ``flat_index [rows]``: each packed row's place in all batches flattened one after the other.
    """

    row_kinds: list[Tensor]
    flat_index: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """A batch of samples laid out along one row axis, in the order of their items; an index is a row number.

    Axes: R rows, T text rows (markers of images among them), L latent rows, Q image rows of the vision model, Y labels.
    It is made without a device, so that another process can make it. Where its items stood for pictures by shape alone
    (tensors on the meta device), :meth:`with_pictures` gives the one to train on.
    """

    sample_lens: list[int]  # rows of each sample
    positions: Tensor  # [R] rope positions, from 0 in each sample
    segment: Tensor  # [R] number of the row's segment, unique in the batch
    causal: Tensor  # [R] bool: the segment is a text
    noised: Tensor  # [R] bool: the segment is a target
    text_ids: Tensor  # [T] token ids
    text_index: Tensor  # [T]
    latents: Tensor | list[Tensor]  # [C, h, w] of each latent item, as a list or as one tensor
    latent_index: Tensor  # [L]
    latent_position: Tensor  # [L] row numbers in the latent position table
    latent_time: Tensor  # [L] times before the shift, 0 where clean
    target_mask: Tensor  # [L] bool: the row belongs to a target
    pixels: Tensor | list[Tensor]  # [3, H, W] of each pixel item, as a list or as one tensor
    pixel_index: Tensor  # [Q]
    ce_index: Tensor  # [Y] the rows that predict the labels
    labels: Tensor  # [Y] token ids
    attention: AttentionLayout

    @property
    def rows(self) -> int:
        """R, the rows of all samples."""
        return len(self.positions)

    def with_pictures(self, latents: Tensor, pixels: Tensor) -> Packed:
        """This layout with latents ``[items, C, h, w]`` and pixels ``[items, 3, H, W]`` in the order of their items."""
        return replace(self, latents=latents, pixels=pixels)


def pack(config: BagelConfig, samples: Sequence[Sequence[Item]], special: SpecialTokens) -> Packed:
    """Lay out samples. Of latents and pixels only the shapes are read."""
    columns = _Columns(config, special)
    for sample in samples:
        columns.add(sample)
    return columns.packed()


class _Columns:
    """The columns of :class:`Packed` as lists that grow item by item."""

    def __init__(self, config: BagelConfig, special: SpecialTokens):
        self.config, self.special = config, special
        self.sample_lens: list[int] = []
        self.positions: list[int] = []
        self.segment: list[int] = []
        self.causal: list[bool] = []
        self.noised: list[bool] = []
        self.text_ids: list[int] = []
        self.text_index: list[int] = []
        self.latents: list[Tensor] = []
        self.latent_index: list[int] = []
        self.latent_position: list[Tensor] = []
        self.latent_time: list[float] = []
        self.target_mask: list[bool] = []
        self.pixels: list[Tensor] = []
        self.pixel_index: list[int] = []
        self.ce_index: list[int] = []
        self.labels: list[int] = []

    def add(self, sample: Sequence[Item]) -> None:
        """Append one sample: positions start again at 0."""
        begin, position = len(self.positions), 0
        for item in sample:
            if isinstance(item, TextItem):
                position += self._text(item, position)
            elif isinstance(item, LatentItem):
                position += self._latents(item, position)
            else:
                position += self._pixels(item, position)
        self.sample_lens.append(len(self.positions) - begin)

    def _text(self, item: TextItem, position: int) -> int:
        """Append a text; returns the positions that it consumes, as the next two do."""
        ids = [self.special.bos, *item.ids, self.special.eos]
        rows = self._segment(range(position, position + len(ids)), causal=True)
        self.text_ids += ids
        self.text_index += rows
        if item.loss:
            self.ce_index += rows[:-1]
            self.labels += ids[1:]
        self._next_token(item, rows)
        return len(ids)

    def _latents(self, item: LatentItem, position: int) -> int:
        patch, noised = self.config.latent_patch_size, item.time is not None
        grid = (item.latent.shape[1] // patch, item.latent.shape[2] // patch)
        count = grid[0] * grid[1]
        self.latent_index += self._image(count, position, noised=noised)[1:-1]
        self.latents.append(item.latent)
        self.latent_position.append(grid_index(grid, self.config.max_latent_size))
        self.latent_time += [item.time or 0.0] * count
        self.target_mask += [noised] * count
        return 0 if noised else 1

    def _pixels(self, item: PixelItem, position: int) -> int:
        assert self.config.vision is not None
        patch = self.config.vision.patch_size
        count = (item.pixels.shape[1] // patch) * (item.pixels.shape[2] // patch)
        rows = self._image(count, position)
        self.pixel_index += rows[1:-1]
        self.pixels.append(item.pixels)
        self._next_token(item, rows)
        return 1

    def _image(self, count: int, position: int, *, noised: bool = False) -> range:
        """Append the rows of an image: start marker, ``count`` image rows, end marker, all at one position."""
        rows = self._segment([position] * (count + 2), noised=noised)
        self.text_ids += (self.special.start_of_image, self.special.end_of_image)
        self.text_index += (rows[0], rows[-1])
        return rows

    def _segment(self, positions: Sequence[int], *, causal: bool = False, noised: bool = False) -> range:
        """Append the rows of a segment; returns their row numbers."""
        start, count = len(self.positions), len(positions)
        self.positions += positions
        self.segment += [self.segment[-1] + 1 if self.segment else 0] * count
        self.causal += [causal] * count
        self.noised += [noised] * count
        return range(start, start + count)

    def _next_token(self, item: TextItem | PixelItem, rows: range) -> None:
        """The label of the end marker's own row, where there is one."""
        if item.next_token is not None:
            self.ce_index.append(rows[-1])
            self.labels.append(item.next_token)

    def packed(self) -> Packed:
        row_kinds = torch.tensor((self.segment, self.causal, self.noised))
        position = self.latent_position
        return Packed(
            sample_lens=self.sample_lens,
            positions=torch.tensor(self.positions),
            segment=row_kinds[0],
            causal=row_kinds[1] == 1,
            noised=row_kinds[2] == 1,
            text_ids=torch.tensor(self.text_ids),
            text_index=torch.tensor(self.text_index),
            latents=self.latents,
            latent_index=torch.tensor(self.latent_index, dtype=torch.long),
            latent_position=torch.cat(position) if position else torch.zeros(0, dtype=torch.long),
            latent_time=torch.tensor(self.latent_time),
            target_mask=torch.tensor(self.target_mask, dtype=torch.bool),
            pixels=self.pixels,
            pixel_index=torch.tensor(self.pixel_index, dtype=torch.long),
            ce_index=torch.tensor(self.ce_index, dtype=torch.long),
            labels=torch.tensor(self.labels, dtype=torch.long),
            attention=_attention_layout(self.sample_lens, row_kinds),
        )


def _attention_layout(sample_lens: Sequence[int], row_kinds: Tensor) -> AttentionLayout:
    """``row_kinds [3, R]``: segment, causal and noised of each packed row."""
    flat_index = torch.empty(row_kinds.shape[1], dtype=torch.long)
    starts = torch.tensor([0, *sample_lens]).cumsum(0).tolist()
    batches, base = [], 0
    for members in bucket_by_length(sample_lens):
        longest = max(sample_lens[i] for i in members)
        batch = torch.full((3, len(members), longest), -1)
        for slot, i in enumerate(members):
            rows, n = slice(starts[i], starts[i + 1]), sample_lens[i]
            flat_index[rows] = torch.arange(base + slot * longest, base + slot * longest + n)
            batch[:, slot, :n] = row_kinds[:, rows]
        batches.append(batch)
        base += len(members) * longest
    return AttentionLayout(batches, flat_index)


def visibility(packed: Packed) -> list[Tensor]:
    """Attention masks, bool ``[n, n]`` for each sample of n rows: True where the row attends to the column."""
    masks, start = [], 0
    for length in packed.sample_lens:
        rows = slice(start, start + length)
        masks.append(_visible(packed.segment[None, rows], packed.causal[None, rows], packed.noised[None, rows])[0])
        start += length
    return masks


def _visible(segment: Tensor, causal: Tensor, noised: Tensor) -> Tensor:
    """Attention mask, bool ``[B, N, N]``, of the kinds ``[B, N]`` of rows.

    A row attends to its own segment, in a causal one up to itself, and to all earlier segments that are not noised.
    """
    order = torch.arange(segment.shape[1], device=segment.device)
    same = segment[:, :, None] == segment[:, None, :]
    earlier = order[:, None] >= order
    inside = same & (~causal[:, :, None] | earlier)
    before = (segment[:, None, :] < segment[:, :, None]) & ~noised[:, None, :]
    return inside | before


class _PackedAttention:
    """An :data:`.decoder.Attend` over packed rows: scatters into padded batches, attends under masks, gathers back."""

    def __init__(self, layout: AttentionLayout, order: Tensor):
        """``order [R]``: the packed rows in the order in which the decoder has them, understanding rows first."""
        self.flat_index = layout.flat_index.to(order.device)[order]
        self.groups = [(batch.shape[1], batch.shape[2]) for batch in layout.row_kinds]
        self.size = sum(samples * longest for samples, longest in self.groups)
        self.masks = []
        for batch in layout.row_kinds:
            segment, causal, noised = batch.to(order.device)
            # Padding attends to padding, so that no row of the softmax is empty.
            self.masks.append(_visible(segment, causal == 1, noised != 0)[:, None])

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.new_zeros(self.size, *x.shape[2:]).index_copy(0, self.flat_index, x[0]) for x in (q, k, v))
        out, base = [], 0
        for (samples, longest), mask in zip(self.groups, self.masks, strict=True):
            rows = slice(base, base + samples * longest)
            q_, k_, v_ = (rearrange(x[rows], "(b n) h d -> b h n d", b=samples) for x in (q, k, v))
            attended = nn.functional.scaled_dot_product_attention(
                q_, k_, v_, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1]
            )
            out.append(rearrange(attended, "b h n d -> (b n) h d"))
            base += samples * longest
        return torch.cat(out)[self.flat_index][None]


def bucket_by_length(lens: Sequence[int], waste: float = 1.3) -> list[list[int]]:
    """Indexes of ``lens`` in groups, shortest first; the longest of a group is at most ``waste`` times its shortest."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lens)), key=lens.__getitem__):
        if groups and lens[i] <= waste * lens[groups[-1][0]]:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


@dataclass
class Losses:
    """Not reduced: cross-entropy ``[Y]`` of labels, squared error ``[target rows, token_dim]`` of velocities."""

    ce: Tensor
    mse: Tensor


def training_forward(model: Bagel, packed: Packed, noise: Tensor, shift: float = 1.0) -> Losses:
    """Losses of a packed batch whose pictures are on the model's device.

    ``noise [L, token_dim]``, standard normal, is used where a row belongs to a target. A target's time becomes
    ``s·t/(1+(s−1)·t)`` for ``shift`` s. Its input is ``(1−t)·x0 + t·noise``, the velocity to predict ``noise − x0``.
    """
    device = noise.device
    rows, clean = _input_rows(model, packed, noise, shift)

    is_gen = torch.zeros(packed.rows, dtype=torch.bool)
    is_gen[packed.latent_index] = True
    order = torch.cat(((~is_gen).nonzero()[:, 0], packed.latent_index)).to(device)
    text_rows = packed.rows - len(packed.latent_index)
    text, gen = rows[order].split((text_rows, len(packed.latent_index)))
    text, gen = model.decode_rows(
        text[None], gen[None], packed.positions.to(device)[order][None], _PackedAttention(packed.attention, order)
    )

    decoder_index = torch.empty_like(order)  # where each packed row is among the decoder's
    decoder_index[order] = torch.arange(len(order), device=device)
    logits = model.logits(text[0, decoder_index[packed.ce_index.to(device)]])
    ce = nn.functional.cross_entropy(logits.float(), packed.labels.to(device), reduction="none")
    mse = torch.zeros(0, model.config.token_dim, device=device)
    if bool(packed.target_mask.any()):
        target = packed.target_mask.to(device)
        velocity = model.velocity(gen[0, target]).float()
        mse = (velocity - (noise - clean)[target]) ** 2
    return Losses(ce, mse)


def _input_rows(model: Bagel, packed: Packed, noise: Tensor, shift: float) -> tuple[Tensor, Tensor]:
    """Rows ``[R, D]`` for the decoder, in packed order, and the clean latent tokens ``[L, token_dim]``."""
    device, dim, patch = noise.device, model.config.language.hidden_size, model.config.latent_patch_size
    rows = torch.zeros(packed.rows, dim, device=device, dtype=model.dtype)
    rows = rows.index_copy(0, packed.text_index.to(device), model.embed_text(packed.text_ids.to(device)))
    clean = noise[:0]
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
    return rows, clean


def _rows(images: Tensor | list[Tensor], run: Callable[[Tensor], Tensor]) -> Tensor:
    """Rows ``[rows, *]`` of all images, in order; ``run`` makes ``[B, rows, *]`` of a batch of images of one shape."""
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
