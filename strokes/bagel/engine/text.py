"""Text decoding: token by token behind a prefix, with a KV cache of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from .prefix import Block
from .runner import Runner

# Chooses a token by its logits [V].
Choose = Callable[[Tensor], int]


def greedy(logits: Tensor) -> int:
    """The most probable token of ``logits [V]``."""
    return int(logits.argmax())


def sampled(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> int:
    """A token of ``logits [V]``, sampled from the smallest set of tokens whose probability reaches ``top_p``."""
    probabilities = torch.softmax(logits.float().cpu() / temperature, dim=-1)
    if top_p < 1:
        ordered, index = probabilities.sort(descending=True)
        # A token stays while the mass before it is below top_p, so the first always does.
        ordered[ordered.cumsum(0) - ordered >= top_p] = 0
        probabilities = torch.zeros_like(probabilities).scatter(0, index, ordered)
    return int(torch.multinomial(probabilities, 1, generator=generator))


def token_choice(temperature: float, top_p: float, seed: int) -> Choose:
    """Greedy at temperature 0, else :func:`sampled` with a random generator of its own."""
    if temperature <= 0:
        return greedy
    return partial(sampled, temperature=temperature, top_p=top_p, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def decode(
    runner: Runner,
    past: Sequence[Block],
    position: int,
    max_tokens: int,
    *,
    forced: Sequence[int] = (),
    choose: Choose = greedy,
    on_token: Callable[[list[int]], None] | None = None,
) -> tuple[list[int], bool]:
    """Token ids of a text written behind ``past``, without markers, and whether its end marker was reached.

    The text begins with the ids ``forced``; at most ``max_tokens`` more are chosen. ``position`` is the rope position
    of its start marker. ``on_token`` is called with the ids so far after each, and may raise Cancelled.
    """
    decode_cache = runner.decode_cache(past, len(forced) + max_tokens + 1)
    ids: list[int] = []
    feed = runner.special.bos
    while True:
        logits = runner.decode_token(decode_cache, feed, position)
        position += 1
        if len(ids) < len(forced):
            feed = forced[len(ids)]
        else:
            feed = choose(logits)
            if feed == runner.special.eos:
                return ids, True
        ids.append(feed)
        if on_token is not None:
            on_token(ids)
        if len(ids) - len(forced) >= max_tokens:
            return ids, False
