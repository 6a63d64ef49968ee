"""Writing text: token by token behind a prefix, on a throwaway copy of its keys and values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .context import Block, Runner, attention


class Scratch:
    """Preallocated keys and values ``[L, K, rows, d]``: a prefix joined once, then one row a token."""

    def __init__(self, past: Sequence[Block], room: int, like: Tensor, shape: tuple[int, int, int]):
        layers, heads, dim = shape
        self.length = sum(block.rows for block in past)
        self.keys = like.new_empty(layers, heads, self.length + room, dim)
        self.values = torch.empty_like(self.keys)
        row = 0
        for block in past:
            self.keys[:, :, row : row + block.rows] = block.keys
            self.values[:, :, row : row + block.rows] = block.values
            row += block.rows

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """One new row; see :data:`.decoder.Attend`."""
        end = self.length + 1
        self.keys[layer, :, self.length : end] = k[0].transpose(0, 1)
        self.values[layer, :, self.length : end] = v[0].transpose(0, 1)
        return attention(q[0].transpose(0, 1), self.keys[layer, :, :end], self.values[layer, :, :end])[None]


def choose(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> int:
    """A token from ``logits [V]``: the largest at temperature 0, else sampled from the smallest set of mass ``top_p``."""
    if temperature <= 0:
        return int(logits.argmax())
    probabilities = torch.softmax(logits.float().cpu() / temperature, dim=-1)
    if top_p < 1:
        ordered, index = probabilities.sort(descending=True)
        # A token stays while the mass before it is below top_p, so the first always does.
        ordered[ordered.cumsum(0) - ordered >= top_p] = 0
        probabilities = torch.zeros_like(probabilities).scatter(0, index, ordered)
    return int(torch.multinomial(probabilities, 1, generator=generator))


@torch.inference_mode()
def decode(
    runner: Runner,
    past: Sequence[Block],
    position: int,
    max_tokens: int,
    *,
    forced: Sequence[int] = (),
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    on_token: Callable[[list[int]], None] | None = None,
    on_logits: Callable[[Tensor], None] | None = None,
) -> tuple[list[int], bool]:
    """Write at most ``max_tokens`` ids behind a prefix, ``forced`` first.

    Feeds the start marker, then each token. Returns the ids without markers, and whether the end marker was reached.
    """
    model, config = runner.model, runner.model.config.language
    generator = torch.Generator().manual_seed(seed)
    shape = (config.num_hidden_layers, config.num_key_value_heads, config.head_dim)
    room = len(forced) + max_tokens + 1
    like = past[0].keys if past else torch.empty(0, device=runner.device, dtype=model.dtype)
    scratch = Scratch(past, room, like, shape)
    ids: list[int] = []
    feed = runner.special.bos
    while True:
        rows = model.embed_text(torch.tensor([[feed]], device=runner.device))
        at = torch.tensor([[position]], device=runner.device)
        hidden = model.decode_rows(rows, rows[:, :0], at, scratch.attend)[0]
        scratch.length += 1
        position += 1
        if len(ids) < len(forced):
            feed = forced[len(ids)]
        else:
            logits = model.logits(hidden[0, -1])
            if on_logits is not None:
                on_logits(logits)
            feed = choose(logits, temperature, top_p, generator)
            if feed == runner.special.eos:
                return ids, True
        ids.append(feed)
        if on_token is not None:
            on_token(ids)
        if len(ids) - len(forced) >= max_tokens:
            return ids, False
