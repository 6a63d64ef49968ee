"""Training at toy length: it learns, resumes exactly, and feeds the samples it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch.utils.data import ConcatDataset

from strokes.bagel.network.model import Bagel
from strokes.bagel.network.packed import LatentItem, TextItem, pack, training_forward
from strokes.bagel.network.vision import patchify
from strokes.data.samples import OneShotSample, RoundSample, StoredPicture
from strokes.data.shapes.build import DataPreset, build_synthetic
from strokes.data.shapes.rounds import RoundMix, sample_round
from strokes.errors import StrokesError
from strokes.process.dialects.miniature import MINIATURE
from strokes.recipes.embedded import PRESETS
from strokes.recipes.run import EMPHASISED, RENDERER
from strokes.shapes.sampling import PromptMix
from strokes.training.packing import LOSSES, Batcher, Renderer, SampleFormat
from strokes.training.presets import StagePreset
from strokes.training.stream import Sources, draw
from strokes.training.train import RunOptions, train

TOY = PRESETS["toy"]
STAGE = TOY.first
CANVAS = TOY.size.canvas


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder, preset = tmp_path_factory.mktemp("data"), DataPreset(one_shot=60, rounds=120, shard=60)
    return Sources(*(build_synthetic(folder, part, preset, 0) for part in ("one-shot", "rounds")))


def fresh(checkpoint, size=TOY.size):
    model = Bagel(size.config(checkpoint.tokenizer.get_vocab_size(), 16))
    model.initialise(torch.Generator().manual_seed(0))
    return model


def sample_format(checkpoint, renderer=RENDERER, dialect=MINIATURE, emphasised=EMPHASISED):
    c = checkpoint
    return SampleFormat(
        tokenizer=c.tokenizer,
        special=c.special,
        dialect=dialect,
        renderer=renderer,
        canvas=CANVAS,
        emphasised=emphasised,
    )


def run(checkpoint, sources, preset=STAGE, model=None, **options):
    c, options = checkpoint, RunOptions(seed=0, **options)
    return train(model or fresh(c), preset, sources, sample_format(c), c.autoencoder, Accelerator(cpu=True), options)


def batcher(checkpoint, levels=3, **formats):
    config = TOY.size.config(checkpoint.tokenizer.get_vocab_size(), 16)
    return Batcher(sample_format(checkpoint, **formats), config, levels, text_free=0.0)


def painted(checkpoint, batch):
    return batch.with_pictures(sample_format(checkpoint), checkpoint.autoencoder, torch.device("cpu"))


def items_of(checkpoint, sample):
    return batcher(checkpoint).items(sample, iter(range(4)), np.random.default_rng(0))


def test_a_run_cut_off_and_resumed_ends_with_the_same_weights(toy_checkpoint, sources, tmp_path):
    whole = run(toy_checkpoint, sources)

    class Cut(Exception):
        pass

    def cut(step, losses):
        if step == 3:
            raise Cut

    with pytest.raises(Cut):
        run(toy_checkpoint, sources, report=cut, resume=tmp_path, save_every=2)
    assert int(load_file(tmp_path / "state.safetensors")["optimizer.vae2llm.weight.step"]) == 2
    for workers in (0, 1):
        resumed = run(toy_checkpoint, sources, resume=tmp_path, save_every=2, workers=workers)
        for name, tensor in whole.state_dict().items():
            assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_the_state_of_another_network_is_refused(toy_checkpoint, sources, tmp_path):
    run(toy_checkpoint, sources, resume=tmp_path, save_every=2)
    for size in (replace(TOY.size, hidden=64), replace(TOY.size, layers=1)):
        with pytest.raises(
            StrokesError, match=r"the state .*state.safetensors(: '.*' has shape| is of another network)"
        ):
            run(toy_checkpoint, sources, resume=tmp_path, model=fresh(toy_checkpoint, size))
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(StrokesError, match=r"state.safetensors is truncated .* delete it"):
        run(toy_checkpoint, sources, resume=tmp_path)


@pytest.mark.slow
def test_losses_of_every_kind_fall(toy_checkpoint, sources):
    rows: list[dict[str, float]] = []
    preset = replace(STAGE, steps=60, batch=12, warmup=5, learning_rate=4e-3)
    run(toy_checkpoint, sources, preset, report=lambda step, losses: rows.append(losses))
    for name in LOSSES:
        first, last = (np.mean([row[name] for row in part if name in row]) for part in (rows[:15], rows[-15:]))
        assert last < first, name


def test_the_rate_warms_up_holds_and_falls_to_nothing():
    preset = StagePreset(steps=1000, warmup=100, decay=0.2)
    rates = [preset.rate(step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01) and rates[500] == 1.0 and rates[-1] == pytest.approx(0.005)
    assert max(rates) == 1.0


def test_the_mix_is_what_the_preset_says(sources):
    preset = replace(STAGE, batch=20, one_shot=(0.8, 0.2), ramp=10)
    for step, count in ((0, 16), (5, 10), (10, 4), (30, 4)):
        drawn = draw(sources, preset, step, np.random.default_rng(0))
        assert sum(isinstance(s, OneShotSample) for s in drawn) == count and len(drawn) == 20
    own = replace(sources, self_sampled=ConcatDataset([sources.rounds]))
    assert len(draw(own, replace(preset, own=0.5), 30, np.random.default_rng(0))) == 20


def test_a_stage_on_self_sampled_rounds_needs_some(toy_checkpoint, sources):
    with pytest.raises(StrokesError, match="self-sampled"):
        run(toy_checkpoint, sources, replace(STAGE, own=0.5))


def rounds(seed, **shares):
    rng = np.random.default_rng(seed)
    return [sample_round(rng, PromptMix(), RoundMix(**shares)) for _ in range(60)]


def test_a_wrong_sketch_is_seen_and_never_a_target(toy_checkpoint):
    wrong = [r for r in rounds(2) if r.kind == "wrong picture"]
    assert wrong
    for sample in wrong:
        items = items_of(toy_checkpoint, sample)
        targets = {i.picture for i in items if isinstance(i, LatentItem) and i.time is not None}
        seen = [i.picture for i in items if isinstance(i, LatentItem) and i.time is None]
        assert seen[-1] not in targets
        assert len(targets) == 1 + (sample.refined != sample.sketch)
        assert [t.loss for t in items if isinstance(t, TextItem)] == [False, True, True]


def test_a_plan_against_the_prompt_is_read_and_not_learned(toy_checkpoint):
    conflicts = [r for r in rounds(4, conflict=0.5) if r.kind == "wrong step"]
    assert conflicts
    for sample in conflicts:
        texts = [i for i in items_of(toy_checkpoint, sample) if isinstance(i, TextItem)]
        assert [t.loss for t in texts] == [False, False, True]


def test_pictures_reach_the_items_that_show_them(toy_checkpoint):
    """Scenes and painted pictures mixed: each item carries the latents of its own picture, targets without noise."""
    c = toy_checkpoint
    rng = np.random.default_rng(0)
    own = StoredPicture(rng.integers(0, 256, (3, 64, 64), np.uint8), rng.normal(size=(16, 8, 8)).astype(np.float16))
    scenes = [r for r in rounds(5) if r.kind == "right" and r.canvas]
    mixed = [replace(scenes[0], canvas=own), scenes[1], replace(scenes[2], seen=own)]
    batch = batcher(c)(mixed, np.random.default_rng(0))
    packed = painted(c, batch)
    alone = [painted(c, batcher(c)([s], np.random.default_rng(0))) for s in mixed]
    assert torch.equal(packed.pixels, torch.cat([p.pixels for p in alone]))
    assert torch.equal(packed.pixels[0], torch.from_numpy(own.pixels).float() / 127.5 - 1)
    assert len(packed.latents) == len(batch.latent_picture) == sum(len(p.latents) for p in alone)
    clean = batch.latent_noise == 0
    assert len(batch.target_of) == int(clean.sum()) and len(batch.label_of) == len(packed.labels)
    shown = packed.latents[~clean][0] - torch.from_numpy(own.latents).float()
    assert shown.abs().mean() < 0.2


def test_what_a_critique_looks_at_is_also_described_by_itself(toy_checkpoint):
    """Behind that picture alone, whatever the round showed before."""
    c = toy_checkpoint
    looked = next(r for r in rounds(6) if r.kind == "wrong picture" and r.canvas)
    batch = batcher(c)([looked], np.random.default_rng(0))
    packed = painted(c, batch)
    assert len(packed.sample_lens) == 2 and torch.equal(packed.pixels[-1], packed.pixels[-2])
    assert not torch.equal(packed.pixels[-1], packed.pixels[0])
    labels = packed.labels[batch.label_of == LOSSES.index("caption")]
    assert c.tokenizer.decode(labels[:-1].tolist()) == looked.caption
    assert len(batcher(c)([replace(looked, caption="")], np.random.default_rng(0)).packed.sample_lens) == 1


def test_targets_share_their_prefix_without_seeing_each_other(toy_checkpoint):
    """Several noise levels behind one prefix give the losses each would have alone."""
    model, special = toy_checkpoint.model, toy_checkpoint.special
    latent = torch.randn(16, 8, 8, generator=torch.Generator().manual_seed(0))
    text = TextItem((7, 8, 9))
    times = (0.2, 0.5, 0.9)
    noise = patchify(torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(1)), 2)[0]
    with torch.inference_mode():
        together = pack(model.config, [[text, *(LatentItem(latent, t) for t in times)]], special)
        shared = training_forward(model, together, noise.repeat(3, 1)).mse.unflatten(0, (3, -1))
        for t, mse in zip(times, shared, strict=True):
            packed = pack(model.config, [[text, LatentItem(latent, t)]], special)
            assert torch.allclose(training_forward(model, packed, noise).mse, mse, atol=1e-4)


def test_training_renders_by_what_it_is_handed_and_looks_into_no_drawing(toy_checkpoint):
    """A world of grey squares: a drawing is a number from 0 to 1."""
    c = toy_checkpoint

    def table(drawings):
        return torch.tensor(drawings)

    def render(table, side):
        return table[:, None, None, None].expand(-1, 3, side, side)

    form = sample_format(c, Renderer(table, render))
    config = TOY.size.config(c.tokenizer.get_vocab_size(), 16)
    sample = RoundSample(
        prompt="a red circle", canvas=0.25, instruction="add a red circle", sketch=0.5, seen=0.75, explanation="wrong"
    )
    batch = Batcher(form, config, 1, text_free=0.0)([sample], np.random.default_rng(0))
    packed = batch.with_pictures(form, c.autoencoder, torch.device("cpu"))
    assert [float(p.mean()) for p in packed.pixels] == [-0.5, 0.5]


def test_the_dialect_that_is_handed_in_writes_the_texts(toy_checkpoint):
    class Loud:
        def opening(self, prompt):
            return f"paint {prompt}"

        def write_plan(self, instruction, description):
            return f"place {instruction}"

        def write_critique(self, explanation, correction):
            return f"again {explanation}"

    sample = RoundSample(
        prompt="red", canvas=None, instruction="blue", sketch=[], seen=[], explanation="circle", kind="right"
    )
    items = batcher(toy_checkpoint, dialect=Loud()).items(sample, iter(range(4)), np.random.default_rng(0))
    texts = [toy_checkpoint.tokenizer.decode(i.ids) for i in items if isinstance(i, TextItem)]
    assert texts == ["paint red", "place blue", "again circle"]
