"""The parts of a training run in a folder. Each is done once: run again after a cut, finished parts are found, data goes on
from the last whole shard, a stage from its last saved step; only the autoencoder's training, minutes long, from its start.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from ..bagel.checkpoint import load, load_autoencoder, load_tokenizer, read_json, special_tokens
from ..bagel.model import Bagel
from ..bagel.painter import BagelPainter
from ..errors import StrokesError
from ..files import write_whole
from .autoencoder import AutoencoderPreset, train_autoencoder
from .dataset import DataPreset, build_synthetic
from .selfsampled import SelfSampling, build_selfsampled
from .shards import ShardSet
from .train import NetworkSize, Report, Sources, StagePreset, train
from .vocabulary import write_tokenizer

# Called as each part advances: (part, done, of, losses).
PartReport = Callable[[str, int, int, dict[str, float]], None]

LOG_EVERY = 20


class TrainingRun:
    """A run in the folder ``work``: its settings in ``run.json``, its losses in ``log.jsonl``, the weights of each finished
    stage in a file of its name. Raises StrokesError where the folder holds a run with other settings."""

    def __init__(
        self,
        work: Path,
        settings: dict[str, Any],
        seed: int,
        accelerator: Accelerator,
        report: PartReport,
        workers: int = 0,
    ):
        self.work, self.seed, self.report, self.workers = work, seed, report, workers
        self.accelerator, self.device = accelerator, accelerator.device
        work.mkdir(parents=True, exist_ok=True)
        settings = json.loads(json.dumps({"seed": seed, **settings}))
        recorded = work / "run.json"
        if recorded.exists() and read_json(recorded) != settings:
            raise StrokesError(f"{work} holds a run with other settings ({recorded.name}): choose another --out")
        if accelerator.is_main_process:
            write_whole(recorded, lambda path: path.write_text(json.dumps(settings, indent=1) + "\n"))

    def make_codec(self, folder: Path, preset: AutoencoderPreset) -> None:
        """The tokenizer and the trained autoencoder, in ``folder``."""
        path = folder / "ae.safetensors"
        with self.accelerator.main_process_first():
            if not path.exists():
                write_whole(folder / "tokenizer.json", write_tokenizer)
                tensors = train_autoencoder(preset, self.seed, self.device, self.note("autoencoder", preset.steps))
                write_whole(path, lambda to: save_file({k: v.bfloat16() for k, v in tensors.items()}, to))
        self.tokenizer = load_tokenizer(folder)
        self.autoencoder = load_autoencoder(path, {}, self.device)

    def synthetic(self, name: str, preset: DataPreset) -> Sources:
        with self.accelerator.main_process_first():
            return Sources(*build_synthetic(self.work / name, preset, self.seed, self._shards, self.workers))

    def selfsampled(self, name: str, model: Path, preset: SelfSampling) -> ShardSet:
        """Rounds of the model in the folder ``model``, painting on its own."""
        with self.accelerator.main_process_first():
            painter = BagelPainter(load(model, self.device))
            report = partial(self._shards, "self-sampled")
            return build_selfsampled(self.work / name, painter, model / "ema.safetensors", preset, self.seed, report)

    def fresh(self, size: NetworkSize) -> Bagel:
        model = Bagel(size.config(self.tokenizer.get_vocab_size(), self.autoencoder.module.config.latent_channels))
        model.initialise(torch.Generator().manual_seed(self.seed))
        return model

    def stage(self, name: str, preset: StagePreset, sources: Sources, size: NetworkSize, model: Bagel) -> Bagel:
        """Train ``model`` further, or find the finished weights of the stage."""
        done = self.work / f"{name}.safetensors"
        if done.exists():
            model.load_state_dict(load_file(done))
            return model.to(self.device).eval()
        trained = train(
            model, preset, sources, self.tokenizer, special_tokens(self.tokenizer), self.autoencoder, size.canvas,
            self.seed, self.accelerator, self.note(name, preset.steps), self.work / name, workers=self.workers,
        )  # fmt: skip
        state = {k: v.detach().cpu().contiguous() for k, v in trained.state_dict().items()}
        if self.accelerator.is_main_process:
            write_whole(done, lambda path: save_file(state, path))
        self.accelerator.wait_for_everyone()
        return trained

    def _shards(self, part: str, done: int, of: int) -> None:
        self.report(f"data: {part}", done, of, {})

    def note(self, part: str, steps: int) -> Report:
        """A report that also logs the means of every 20 steps."""
        since: list[dict[str, float]] = []

        def note(step: int, losses: dict[str, float]) -> None:
            if not self.accelerator.is_main_process:
                return
            self.report(part, step + 1, steps, losses)
            since.append(losses)
            if (step + 1) % LOG_EVERY == 0 or step + 1 == steps:
                names = dict.fromkeys(name for row in since for name in row)
                means = {name: mean(row[name] for row in since if name in row) for name in names}
                since.clear()
                with (self.work / "log.jsonl").open("a", encoding="utf-8") as log:
                    log.write(json.dumps({"part": part, "step": step + 1, **means}) + "\n")

        return note
