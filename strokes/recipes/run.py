"""The parts of a training run in a folder. Each is done once: run again after a cut, finished parts are found, data goes on
from the last whole shard, a stage from its last saved step; only the autoencoder's training, minutes long, from its start.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from ..bagel.network.model import Bagel
from ..bagel.weights.checkpoint import load_autoencoder, load_tokenizer, special_tokens
from ..data.rollouts import SelfSampling, build_selfsampled
from ..data.shapes.build import DataPreset, Part, build_part
from ..data.shards import ShardSet
from ..errors import StrokesError
from ..files import append, check_same_shapes, read_json, shapes_of, write_whole
from ..models import open_painter
from ..shapes.vocabulary import write_tokenizer
from ..training.presets import StagePreset
from ..training.stream import Sources
from ..training.train import OnTrainStep, train
from .autoencoder import AutoencoderPreset, train_autoencoder
from .network import NetworkSize, write_folder

# Called as each part advances: (part, done, of, losses).
OnProgress = Callable[[str, int, int, dict[str, float]], None]

LOG_EVERY = 20


def check_is_run_folder(folder: Path) -> None:
    """Raise StrokesError where a run would be mixed up with files that are none of its own; a run killed at its very first
    file leaves no more than a temporary one."""
    if folder.is_dir() and any(path.suffix != ".tmp" for path in folder.iterdir()):
        raise StrokesError(f"{folder} is not empty and holds no training run: choose another --out")


class TrainingRun:
    """A run in the folder ``work``: its settings in ``run.json``, its losses in ``log.jsonl``, the weights of each finished
    stage in a file of its name. How many processes share it is one of the settings, since they share each batch.
    Raises StrokesError where the folder holds a run with other settings, or something else."""

    def __init__(
        self,
        work: Path,
        settings: dict[str, Any],
        seed: int,
        accelerator: Accelerator,
        report: OnProgress,
        workers: int = 0,
    ):
        self.work, self.seed, self.report, self.workers = work, seed, report, workers
        self.accelerator, self.device = accelerator, accelerator.device
        if not accelerator.is_main_process:
            return
        settings = json.loads(json.dumps({"seed": seed, "processes": accelerator.num_processes, **settings}))
        recorded = work / "run.json"
        if not recorded.exists():
            check_is_run_folder(work)
            work.mkdir(parents=True, exist_ok=True)
            write_whole(recorded, lambda path: path.write_text(json.dumps(settings, indent=1) + "\n"))
        elif read_json(recorded) != settings:
            raise StrokesError(f"{work} holds a run with other settings ({recorded.name}): choose another --out")
        self._repair_log()

    def _repair_log(self) -> None:
        """Take off a last line that was cut off in the middle, so that the next one is a line of its own."""
        log = self.work / "log.jsonl"
        text = log.read_text(encoding="utf-8") if log.exists() else ""
        if not text.endswith("\n") and text:
            whole = text[: text.rfind("\n") + 1]
            write_whole(log, lambda path: path.write_text(whole, encoding="utf-8"))

    def make_tokenizer_and_autoencoder(self, folder: Path, preset: AutoencoderPreset) -> None:
        """The tokenizer and the trained autoencoder, in ``folder``."""
        path = folder / "ae.safetensors"
        with self.accelerator.main_process_first():
            if not path.exists():
                write_whole(folder / "tokenizer.json", write_tokenizer)
                tensors = train_autoencoder(preset, self.seed, self.device, self.log("autoencoder", preset.steps))
                write_whole(path, lambda to: save_file({k: v.bfloat16() for k, v in tensors.items()}, to))
        self.autoencoder_folder, self.tokenizer = folder, load_tokenizer(folder)
        self.autoencoder = load_autoencoder(path, {}, self.device)

    def synthetic(self, name: str, preset: DataPreset) -> Sources:
        return Sources(self.part(name, "one-shot", preset), self.part(name, "rounds", preset))

    def part(self, name: str, part: Part, preset: DataPreset) -> ShardSet:
        with self.accelerator.main_process_first():
            report = partial(self._shards, part)
            return build_part(self.work / name, part, preset, self.seed, report, self.workers)

    def selfsampled(self, name: str, model: Path, preset: SelfSampling, seed: int) -> ShardSet:
        """Rounds of the model in the folder ``model``, painting on its own."""
        with self.accelerator.main_process_first():
            painter = open_painter(model, self.device)
            report = partial(self._shards, "self-sampled")
            return build_selfsampled(self.work / name, painter, model / "ema.safetensors", preset, seed, report)

    def fresh(self, size: NetworkSize) -> Bagel:
        model = Bagel(size.config(self.tokenizer.get_vocab_size(), self.autoencoder.module.config.latent_channels))
        model.initialise(torch.Generator().manual_seed(self.seed))
        return model

    def stage(
        self, name: str, preset: StagePreset, sources: Sources, size: NetworkSize, model: Bagel, before: int = 0
    ) -> Bagel:
        """Train ``model`` further, or find the finished weights of the stage. It has had ``before`` stages, and draws other
        batches and other noise than they did."""
        done = self.work / f"{name}.safetensors"
        if done.exists():
            self.weights(name, model)
            return model.to(self.device).eval()
        trained = train(
            model, preset, sources, self.tokenizer, special_tokens(self.tokenizer), self.autoencoder, size.canvas,
            self.seed + before, self.accelerator, self.log(name, preset.steps), self.work / name, workers=self.workers,
        )  # fmt: skip
        state = {k: v.detach().cpu().contiguous() for k, v in trained.state_dict().items()}
        if self.accelerator.is_main_process:
            write_whole(done, lambda path: save_file(state, path))
        self.accelerator.wait_for_everyone()
        return trained

    def weights(self, name: str, model: Bagel) -> None:
        """Load the weights of a finished stage; StrokesError where its file is damaged or of another network."""
        path = self.work / f"{name}.safetensors"
        found, wanted = shapes_of(path), {key: tuple(t.shape) for key, t in model.state_dict().items()}
        check_same_shapes(found, wanted, str(path))
        model.load_state_dict(load_file(path))

    def export(self, name: str, size: NetworkSize) -> Path:
        """The weights of a finished stage as a model folder."""
        folder = self.work / "models" / name
        if not (folder / "ema.safetensors").exists() and self.accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            for part in ("ae.safetensors", "tokenizer.json"):
                shutil.copyfile(self.autoencoder_folder / part, folder / part)
            model = self.fresh(size)
            self.weights(name, model)
            write_folder(folder, model, size)
        self.accelerator.wait_for_everyone()
        return folder

    def _shards(self, part: str, done: int, of: int) -> None:
        self.report(f"data: {part}", done, of, {})

    def log(self, part: str, steps: int) -> OnTrainStep:
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
                append(self.work / "log.jsonl", json.dumps({"part": part, "step": step + 1, **means}) + "\n")

        return note
