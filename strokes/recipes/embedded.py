"""``strokes train embedded``: the recipe of the small model, from nothing to a model folder, and its presets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from accelerate import Accelerator
from torch.utils.data import ConcatDataset

from ..data.shapes.build import DataPreset
from ..data.shapes.rollouts import ShapesSelfSampling
from ..data.shards import ShardSet
from ..training.curves import plot_log
from ..training.presets import StagePreset
from .autoencoder import AutoencoderPreset
from .network import NetworkSize, write_folder
from .run import OnProgress, TrainingRun, check_is_run_folder

SECOND = StagePreset(steps=2000, one_shot=(0.3, 0.3), own=0.6, learning_rate=1e-3, warmup=100, decay=0.7)


@dataclass(frozen=True, kw_only=True)
class EmbeddedPreset:
    """Preset of ``strokes train embedded``.

    autoencoder, size: autoencoder and network.
    data, first: synthetic data sets, and the stage on them.
    own: rollouts of the model so far, added to the data before each stage of ``second``.
    second: the stages on all rollouts so far and the synthetic data.
    workers: processes that make data and batches.
    """

    autoencoder: AutoencoderPreset = field(default_factory=AutoencoderPreset)
    size: NetworkSize = field(default_factory=NetworkSize)
    data: DataPreset = field(default_factory=DataPreset)
    first: StagePreset = field(default_factory=StagePreset)
    own: ShapesSelfSampling = field(default_factory=ShapesSelfSampling)
    second: tuple[StagePreset, ...] = (SECOND,)
    workers: int = 0


PRESETS = {
    # Two CPU cores, overnight.
    "cpu": EmbeddedPreset(
        own=ShapesSelfSampling(processes=3000),
        second=tuple(replace(SECOND, steps=n) for n in (1800, 1400, 1200, 1250)),
    ),
    # Two CPU cores, five minutes: a working, if poor, model.
    "small": EmbeddedPreset(
        autoencoder=AutoencoderPreset(widths=(32, 32, 32, 32), steps=200, batch=8),
        size=NetworkSize(
            hidden=96,
            intermediate=256,
            layers=4,
            heads=3,
            kv_heads=1,
            vision_hidden=64,
            vision_layers=1,
            vision_heads=2,
        ),
        data=DataPreset(one_shot=1500, rounds=2000, shard=500),
        first=StagePreset(steps=220, batch=24, ramp=130, warmup=20),
        own=ShapesSelfSampling(processes=40, shard=20),
        second=(
            StagePreset(steps=40, batch=24, one_shot=(0.3, 0.3), own=0.6, learning_rate=1e-3, warmup=5, decay=0.7),
        ),
    ),
    # One data-centre GPU, under half an hour; it goes on where it was when a lease cuts it off.
    "gpu": EmbeddedPreset(
        autoencoder=AutoencoderPreset(widths=(32, 64, 64, 64), steps=3000, batch=64),
        size=NetworkSize(
            hidden=256, intermediate=704, heads=8, layers=8, vision_hidden=192, vision_layers=4, vision_heads=6
        ),
        data=DataPreset(one_shot=300_000, rounds=600_000, shard=10_000, filtered=False),
        first=StagePreset(steps=6000, batch=512, one_shot=(0.5, 0.3), learning_rate=1.5e-3, warmup=300),
        own=ShapesSelfSampling(processes=6_000, shard=1_000, width=500),
        second=(replace(SECOND, batch=512),),
        workers=14,
    ),
    # Seconds: shows that every part runs.
    "toy": EmbeddedPreset(
        autoencoder=AutoencoderPreset(widths=(32, 32, 32, 32), steps=2, batch=2),
        size=NetworkSize(
            hidden=32,
            intermediate=48,
            layers=2,
            heads=2,
            kv_heads=1,
            vision_hidden=32,
            vision_layers=1,
            vision_heads=2,
        ),
        data=DataPreset(one_shot=8, rounds=16, shard=8),
        first=StagePreset(steps=4, batch=6, one_shot=(0.5, 0.5), warmup=1),
        own=ShapesSelfSampling(processes=4, shard=2, width=2),
        second=(StagePreset(steps=2, batch=4, one_shot=(0.25, 0.25), own=0.5, warmup=1),) * 2,
    ),
}


class EmbeddedRun(TrainingRun):
    """``strokes train embedded``: the model lies in ``folder``, all else of the run in ``folder/run``.

    Raises StrokesError for a folder that holds something else.
    """

    def __init__(self, folder: Path, preset: EmbeddedPreset, seed: int, accelerator: Accelerator, report: OnProgress):
        if accelerator.is_main_process and not (folder / "run").exists():
            check_is_run_folder(folder)
        super().__init__(folder / "run", asdict(preset), seed, accelerator, report, preset.workers)
        self.folder, self.preset = folder, preset

    def make(self) -> Path:
        preset = self.preset
        self.make_tokenizer_and_autoencoder(self.folder, preset.autoencoder)
        sources = self.synthetic_sources("data", preset.data)
        model = self.stage("first", preset.first, sources, preset.size, self.fresh(preset.size))
        name, rollouts = "first", list[ShardSet]()
        for i, second in enumerate(preset.second):
            folder = self.export(name, preset.size)
            rollouts.append(self.selfsampled(f"data/own-{i + 1}", folder, preset.own, self.seed + i))
            name, both = f"second-{i + 1}", replace(sources, self_sampled=ConcatDataset(rollouts))
            model = self.stage(name, second, both, preset.size, model, i + 1)
        if self.accelerator.is_main_process:
            write_folder(self.folder, model, preset.size)
            plot_log(self.work / "log.jsonl", self.work / "curves.png")
        self.accelerator.wait_for_everyone()
        return self.folder


def with_steps(preset: EmbeddedPreset, steps: int) -> EmbeddedPreset:
    """The same run with another length of the first stage."""
    return replace(preset, first=replace(preset.first, steps=steps))
