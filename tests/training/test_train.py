"""Training at toy length: it learns, resumes exactly, and feeds the samples it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from strokes.bagel.training import LatentItem, TextItem, pack, training_forward
from strokes.bagel.vision import patchify
from strokes.training.embedded import PRESETS
from strokes.training.train import Batcher, OneShot, TrainPreset, learning_rate, sample_batch, train
from strokes.training.trajectories import Round

TOY = PRESETS["toy"].network
CPU = torch.device("cpu")


def run(checkpoint, preset, report=lambda *_: None, **more):
    parts = (checkpoint.tokenizer, checkpoint.special, checkpoint.autoencoder)
    return train(preset, *parts, 0, CPU, report, **more)


def test_a_run_cut_off_and_resumed_ends_with_the_same_weights(toy_checkpoint, tmp_path):
    whole = run(toy_checkpoint, TOY)

    class Cut(Exception):
        pass

    def cut(step, losses):
        if step == 3:
            raise Cut

    with pytest.raises(Cut):
        run(toy_checkpoint, TOY, cut, resume=tmp_path, save_every=2)
    assert int(load_file(tmp_path / "state.safetensors")["optimizer.vae2llm.weight.step"]) == 2
    resumed = run(toy_checkpoint, TOY, resume=tmp_path, save_every=2)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_losses_of_both_kinds_fall(toy_checkpoint):
    losses = []
    preset = replace(TOY, steps=40, batch=8, warmup=5)
    run(toy_checkpoint, preset, lambda step, loss: losses.append((loss["text"], loss["paint"])))
    first, last = np.mean(losses[:5], axis=0), np.mean(losses[-5:], axis=0)
    assert last[0] < 0.8 * first[0] and last[1] < first[1]


def test_the_rate_warms_up_holds_and_falls_to_nothing():
    preset = TrainPreset(steps=1000, warmup=100, decay=0.2)
    rates = [learning_rate(preset, step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01) and rates[500] == 1.0 and rates[-1] == pytest.approx(0.005)
    assert max(rates) == 1.0


def test_the_share_of_one_shot_samples_falls():
    preset = replace(TOY, batch=20, one_shot_first=0.8, one_shot_last=0.2)
    share = [sum(isinstance(s, OneShot) for s in sample_batch(np.random.default_rng(0), preset, p)) for p in (0.0, 1.0)]
    assert share == [16, 4]


def test_a_wrong_sketch_is_seen_and_never_a_target(toy_checkpoint):
    c = toy_checkpoint
    batcher = Batcher(TOY, c.tokenizer, c.special, c.autoencoder, CPU)
    samples = sample_batch(np.random.default_rng(2), replace(TOY, batch=60, one_shot_first=0, one_shot_last=0), 0)
    wrong = [s for s in samples if isinstance(s, Round) and s.refined is not None and not s.conflict]
    assert wrong
    for sample in wrong:
        items = batcher([sample], np.random.default_rng(0))[0]
        targets = {id(i.latent) for i in items if isinstance(i, LatentItem) and i.time is not None}
        assert len(targets) == 1, "sketch and refinement aim at the same right picture"
        texts = [i for i in items if isinstance(i, TextItem)]
        assert [t.loss for t in texts] == [False, True, True]


def test_a_plan_against_the_prompt_is_read_and_not_learned(toy_checkpoint):
    c = toy_checkpoint
    batcher = Batcher(TOY, c.tokenizer, c.special, c.autoencoder, CPU)
    rounds = sample_batch(np.random.default_rng(4), replace(TOY, batch=120, one_shot_first=0, one_shot_last=0), 0)
    conflicts = [s for s in rounds if isinstance(s, Round) and s.conflict]
    assert conflicts
    for sample in conflicts:
        texts = [i for i in batcher([sample], np.random.default_rng(0))[0] if isinstance(i, TextItem)]
        assert [t.loss for t in texts] == [False, False, True]


def test_targets_share_their_prefix_without_seeing_each_other(toy_checkpoint):
    """Several noise levels behind one prefix give the losses each would have alone."""
    model, special = toy_checkpoint.model, toy_checkpoint.special
    latent = torch.randn(16, 8, 8, generator=torch.Generator().manual_seed(0))
    text = TextItem((7, 8, 9))
    times = (0.2, 0.5, 0.9)
    noise = patchify(torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(1)), 2)[0]
    with torch.inference_mode():
        together = pack(model, [[text, *(LatentItem(latent, t) for t in times)]], special)
        shared = training_forward(model, together, noise.repeat(3, 1)).mse.unflatten(0, (3, -1))
        for t, mse in zip(times, shared, strict=True):
            alone = training_forward(model, pack(model, [[text, LatentItem(latent, t)]], special), noise).mse
            assert torch.allclose(alone, mse, atol=1e-4)
