"""Writing text: token by token behind a prefix, on a throwaway copy of its keys and values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .prefix import Block
from .runner import Runner


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
    generator = torch.Generator().manual_seed(seed)
    decode_cache = runner.decode_cache(past, len(forced) + max_tokens + 1)
    ids: list[int] = []
    feed = runner.special.bos
    while True:
        logits = runner.decode_token(decode_cache, feed, position)
        position += 1
        if len(ids) < len(forced):
            feed = forced[len(ids)]
        else:
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
