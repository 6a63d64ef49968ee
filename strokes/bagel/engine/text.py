"""Text decoding, token by token behind a prefix with a KV cache of its own, and the probabilities of given answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from .finite import check_finite
from .prefix import Block
from .runner import Runner, ScoreRequest

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
    on_token: Callable[[list[int]], object] | None = None,
) -> tuple[list[int], bool]:
    """Token ids of a text written behind ``past``, without markers, and whether its end marker was reached.

    The text begins with the ids ``forced``, which are prefilled in one call; at most ``max_tokens`` more are chosen.
    ``position`` is the rope position of its start marker. ``on_token`` is called with the ids so far after each chosen
    token; it ends the text by returning True, and may raise Cancelled. Raises :class:`.finite.NotFinite`.
    """
    decode_cache = runner.decode_cache(past, len(forced) + max_tokens + 1)
    ids = list(forced)
    feed = [runner.special.bos, *ids]
    for number in range(max_tokens):
        logits = runner.decode_tokens(decode_cache, feed, position)
        check_finite(logits.amax(), f"the logits of token {number + 1}")
        position += len(feed)
        token = choose(logits)
        if token == runner.special.eos:
            return ids, True
        ids.append(token)
        feed = [token]
        if on_token is not None and on_token(ids):
            return ids, False
    return ids, False


class OverlappingAnswers(ValueError):
    """Error of answers of which one begins with another: their probabilities would overlap."""


def answer_tree(
    bos: int, eos: int, start: Sequence[int], answers: Sequence[Sequence[int]]
) -> tuple[list[int], list[int], list[list[tuple[int, int]]]]:
    """The tree of ``answers``, token ids each, after the ids ``start`` of a text; an answer without ids is its end.

    Returns the ids of its rows, the parent of each row (-1 for the first), and the path of each answer as edges (row,
    token that follows it). Answers share their common beginnings. Raises OverlappingAnswers where one begins with another.
    """
    ids, parents = [bos, *start], list(range(-1, len(start)))
    children: dict[tuple[int, int], int] = {}
    paths: list[list[tuple[int, int]]] = []
    for answer in answers:
        row, path = len(start), list[tuple[int, int]]()
        tokens = list(answer) or [eos]
        for token in tokens[:-1]:
            path.append((row, token))
            if (row, token) not in children:
                children[row, token] = len(ids)
                ids.append(token)
                parents.append(row)
            row = children[row, token]
        paths.append([*path, (row, tokens[-1])])
    last = {path[-1] for path in paths}
    if len(last) < len(paths) or last & set(children):
        raise OverlappingAnswers("an answer begins with another")
    return ids, parents, paths


@torch.inference_mode()
def score(
    runner: Runner, past: Sequence[Block], position: int, start: Sequence[int], answers: Sequence[Sequence[int]]
) -> tuple[list[float], int]:
    """The natural log-probability of each of ``answers`` as what follows the ids ``start`` of a text behind ``past``, and
    the number of rows that were run: one call for all. Answers as in :func:`answer_tree`.

    Raises :class:`.finite.NotFinite`.
    """
    ids, parents, paths = answer_tree(runner.special.bos, runner.special.eos, start, answers)
    edges = sorted({edge for path in paths for edge in path})
    found = runner.score(ScoreRequest(past, position, ids, parents, edges))
    # A log-probability of minus infinity is one of 0, which float32 rounds to; NaN is none.
    check_finite(found.exp(), "the probabilities of the answers")
    logs = dict(zip(edges, found.double().tolist(), strict=True))
    return [sum(logs[edge] for edge in path) for path in paths], len(ids)
