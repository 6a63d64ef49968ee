"""Model calls, tokens, scored rows and TFLOP of a process at BAGEL-7B's full size, counted on torch's meta device.

Nothing is computed: every call of the network runs with shapes alone, and a script says what the model answers. ``pytest -s``
prints the table that docs/results.md holds.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from strokes.bagel.engine.prefix_cache import PrefixCache
from strokes.bagel.engine.runner import Runner
from strokes.bagel.network.config import BAGEL_7B, RELEASED_VIT_RULE
from strokes.bagel.network.model import Bagel
from strokes.bagel.painter import BagelPainter
from strokes.bagel.weights.checkpoint import Checkpoint, load_tokenizer, special_tokens
from strokes.process import loop, stages
from strokes.process.dialects.plain import PLAIN
from strokes.process.settings import Profile

META = torch.device("meta")


class CountingRunner(Runner):
    """Runs every call on the meta device and counts its FLOPs by kind; what it answers, a script says."""

    def __init__(self, model, special, answer):
        super().__init__(model, special, META)
        self.answer, self.calls, self.flops = answer, Counter(), Counter()
        self._known: dict[tuple, int] = {}
        self._writing: list[int] = []

    def _count(self, kind, key, run):
        if (kind, key) not in self._known:
            with FlopCounterMode(display=False) as counter:
                run()
            self._known[kind, key] = counter.get_total_flops()
        self.calls[kind] += 1
        self.flops[kind] += self._known[kind, key]

    def prefill(self, past, position, segment):
        found = []
        key = (sum(b.rows for b in past), segment.kind, str(getattr(segment.content, "shape", len(segment.content))))
        self._count("prefill", key, lambda: found.append(super(CountingRunner, self).prefill(past, position, segment)))
        return found[0] if found else super().prefill(past, position, segment)

    def denoise(self, branches, x, grid, t):
        key = (len(x), *(sum(b.rows for b in blocks) for blocks, _ in branches))
        self._count("denoise", key, lambda: super(CountingRunner, self).denoise(branches, x.to(META), grid, t))
        return torch.zeros(len(branches), len(x), 1)

    def velocities(self, hidden):
        return [torch.zeros(len(rows), self.model.config.token_dim) for rows in hidden]

    def decode_cache(self, past, room):
        self._writing, self._behind = [], sum(block.rows for block in past)
        return super().decode_cache(past, room)

    def decode_tokens(self, decode_cache, tokens, position):
        # Every token of a text is counted as its first: behind 9,000 rows, the rows of the text itself change nothing.
        key = (self._behind, len(tokens))
        held = decode_cache.length
        self._count("write", key, lambda: super(CountingRunner, self).decode_tokens(decode_cache, tokens, position))
        decode_cache.length = held + len(tokens)
        if not self._writing:
            self._writing = [*self.answer.text_behind(tokens[1:]), self.special.eos]
        logits = torch.zeros(self.model.config.language.vocab_size)
        logits[self._writing.pop(0)] = 1.0
        return logits

    def _edges(self, request, hidden):
        self.model.logits(hidden[sorted({row for row, _ in request.edges})])
        return torch.empty(0)  # nothing can be read from the meta device

    def score(self, request):
        key = (sum(b.rows for b in request.past), len(request.ids))
        self._count("score", key, lambda: super(CountingRunner, self).score(request))
        return torch.tensor([self.answer.log_probability(token) for _, token in request.edges])


class Script:
    """What the model answers: yes or no to every step, no to every end, and these texts."""

    def __init__(self, tokenizer, accepts):
        self.encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
        self.accepts, self.asked = accepts, 0
        self.yes, self.no = ({self.encode(word)[0] for word in words} for words in (("Yes", " Yes"), ("No", " No")))

    def text_behind(self, forced):
        if forced:
            return self.encode(" Paint the smaller of the two red sofas in a dark green and move it to the left.\n")
        return self.encode("Add a tall wooden bookshelf with blue books on the right side of the room.\n")

    def log_probability(self, token):
        # Six questions a run: step, end, step, end …
        likely = self.yes if self.accepts and self.asked % 2 == 0 else self.no
        return -0.7 if token in likely else -9.0


class CountedPainter(BagelPainter):
    # Noise and sampler stay real: what the network would do with them is counted.
    device = torch.device("cpu")


class NoAutoencoder:
    is_flux, scale, shift, module = True, 0.3611, 0.1159, torch.nn.Identity()

    def encode(self, pixels):
        return torch.zeros(1, 16, pixels.shape[2] // 8, pixels.shape[3] // 8)

    def decode(self, latents):
        return torch.zeros(1, 3, 8 * latents.shape[2], 8 * latents.shape[3])


def counted(tokenizer, accepts):
    script = Script(tokenizer, accepts)
    with torch.device(META):
        model = Bagel(BAGEL_7B, device=META, dtype=torch.bfloat16)
    runner = CountingRunner(model, special_tokens(tokenizer), script)
    scored = runner.score

    def score(request):
        found = scored(request)
        script.asked += 1
        return found

    runner.score = score
    checkpoint = Checkpoint(
        model=model, tokenizer=tokenizer, special=runner.special, autoencoder=NoAutoencoder(),
        profile=Profile(name="BAGEL-7B-MoT"), dialect=PLAIN, vit_rule=RELEASED_VIT_RULE, codec="flux",
    )  # fmt: skip
    painter = CountedPainter(checkpoint, PrefixCache(runner, 10**12))
    painter.preview = lambda latents: Image.new("RGB", (8, 8))
    begun = stages.begin(painter, "a watercolour of a living room with two red sofas, a bookshelf and a black cat")
    return loop.run(painter, begun, 3), runner


@pytest.fixture(scope="module")
def tokenizer():
    root = Path(os.environ.get("COMFYUI_PATH", Path.home() / "comfy" / "ComfyUI"))
    folder = root / "comfy" / "text_encoders" / "qwen25_tokenizer"
    if not (folder / "vocab.json").exists():
        pytest.skip("no Qwen2.5 tokenizer: set COMFYUI_PATH to a ComfyUI checkout to count tokens")
    return load_tokenizer(folder)


@pytest.mark.slow
def test_three_rounds_of_plain_language_at_full_size(tokenizer):
    print(f"\n{'3 rounds at 1024²':20}{'calls':>7}{'tokens':>8}{'scored':>8}" + "".join(
        f"{kind + ' TFLOP':>15}" for kind in ("denoise", "prefill", "write", "score")
    ))  # fmt: skip
    for name, accepts in (("all accepted", True), ("all corrected", False)):
        done, runner = counted(tokenizer, accepts)
        cost = done.cost
        print(f"{name:20}{cost.model_calls:7}{cost.tokens:8}{cost.scored:8}" + "".join(
            f"{runner.flops[kind] / 1e12:15,.1f}" for kind in ("denoise", "prefill", "write", "score")
        ))  # fmt: skip
        assert len(done.rounds) == 3 and not done.ended
        assert all(r.critique.accepted == accepts for r in done.rounds)
        for round_ in done.rounds:
            tokens = sum(t.origin.cost.tokens for t in (round_.plan, round_.critique, round_.refinement))
            assert 0 < tokens <= (64 if accepts else 128)
            assert (round_.critique.origin.cost.tokens == 0) == accepts, "a verdict is scored, not written"
            assert round_.refinement.origin.cost.tokens == 0, "and so is the end"
            assert round_.critique.origin.cost.scored == round_.refinement.origin.cost.scored == 1
        # A first picture is 90 calls, an edit 147: section 3.6 of the reference's description.
        assert cost.model_calls == (90 + 2 * 147 if accepts else 90 + 5 * 147)
        assert runner.calls["score"] == 6 and cost.scored == 6
        # 14.2 billion parameters of one expert and the head: a scored row is about as dear as a written token.
        assert runner.flops["score"] < 0.02 * runner.flops["prefill"]
