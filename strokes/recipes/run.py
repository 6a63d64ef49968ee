"""A training run in a folder, made of steps that are each done once.

Run again after a cut, finished stages are found, data sets go on from the last whole shard and a stage from its last saved
state. Only the autoencoder's training, minutes long, begins anew.
"""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
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
from ..data.rollouts import build_selfsampled
from ..data.shapes.build import DataKind, DataPreset, build_synthetic
from ..data.shapes.rollouts import ShapesSelfSampling, rollout_task
from ..data.shards import ShardSet
from ..errors import StrokesError
from ..files import append, check_same_shapes, load_json, shapes_of, write_whole
from ..models import open_painter
from ..process.dialects.miniature import MINIATURE
from ..shapes import drawing
from ..shapes.vocabulary import write_tokenizer
from ..training.checksums import Checksums
from ..training.curves import read_log
from ..training.packing import Renderer, SampleFormat
from ..training.presets import StagePreset
from ..training.stream import Sources
from ..training.train import OnTrainStep, RunOptions, train
from .autoencoder import AutoencoderPreset, train_autoencoder
from .lock import RunLock
from .network import NetworkSize, write_folder

# Called as each part (the autoencoder, a data set, a stage) advances: (part, done, of, losses).
OnProgress = Callable[[str, int, int, dict[str, float]], None]

LOG_EVERY = 20
LOCK = "lock"
RENDERER = Renderer(drawing.table, drawing.render)
# Verdicts of a critique: one token each among many easy ones.
EMPHASISED = ("correct", "wrong", "nothing", "rest")


def check_is_run_folder(folder: Path) -> None:
    """Raise StrokesError where ``folder`` is not empty. Temporary files and a lock do not count: a run killed before it
    wrote its first file leaves them."""
    if folder.is_dir() and any(path.suffix != ".tmp" and path.name != LOCK for path in folder.iterdir()):
        raise StrokesError(f"{folder} is not empty and holds no training run: choose another --out")


class TrainingRun(ABC):
    """A run in the folder ``work``, to be called once.

    ``run.json`` holds its settings, ``log.jsonl`` its losses, ``files.json`` checksums, ``NAME.safetensors`` the weights of
    the finished stage NAME, ``lock`` the process at work. The number of processes that share the run is one of the
    settings, since they share each batch. Calling it raises StrokesError where the folder holds a run with other settings,
    something else, or damaged files, and while another process is at work there.
    """

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
        every = {"seed": seed, "processes": accelerator.num_processes, **settings}
        self.settings: dict[str, Any] = json.loads(json.dumps(every))
        self.checksums = Checksums(work, records=accelerator.is_main_process)

    def __call__(self) -> Path:
        """Run what is not done yet, and return the folder of the results."""
        if not self.accelerator.is_main_process:
            return self.make()
        if not (self.work / "run.json").exists():
            check_is_run_folder(self.work)
        self.work.mkdir(parents=True, exist_ok=True)
        with RunLock(self.work / LOCK):
            self._open()
            return self.make()

    @abstractmethod
    def make(self) -> Path:
        """The steps of the recipe, in order; each does what is not done yet."""

    def _open(self) -> None:
        """Record the settings in a new folder, or compare them with those recorded; check the log."""
        recorded = self.work / "run.json"
        if not recorded.exists():
            text = json.dumps(self.settings, indent=1) + "\n"
            write_whole(recorded, lambda path: path.write_text(text))
        elif _read_settings(recorded) != self.settings:
            raise StrokesError(f"{self.work} holds a run with other settings ({recorded.name}): choose another --out")
        self._repair_log()

    def _repair_log(self) -> None:
        """Cut off a last line without its end, which a kill leaves, so that the next one is a line of its own."""
        log = self.work / "log.jsonl"
        content = log.read_bytes() if log.exists() else b""
        if content and not content.endswith(b"\n"):
            whole = content[: content.rfind(b"\n") + 1]
            write_whole(log, lambda path: path.write_bytes(whole))
        read_log(log)  # a night's training should not end at a line that cannot be drawn

    def make_tokenizer_and_autoencoder(self, folder: Path, preset: AutoencoderPreset) -> None:
        """Write the tokenizer, train the autoencoder, or find them in ``folder``; load both."""
        weights, tokenizer = folder / "ae.safetensors", folder / "tokenizer.json"
        with self.accelerator.main_process_first():
            if not tokenizer.exists():
                self.checksums.write(tokenizer, write_tokenizer)
            if not weights.exists():
                tensors = train_autoencoder(preset, self.seed, self.device, self.log("autoencoder", preset.steps))
                self.checksums.write(weights, lambda to: save_file({k: v.bfloat16() for k, v in tensors.items()}, to))
            for path in (tokenizer, weights):
                self.checksums.check(path)
        self.autoencoder_folder, self.tokenizer = folder, load_tokenizer(folder)
        self.autoencoder = load_autoencoder(weights, {}, self.device)

    def synthetic_sources(self, name: str, preset: DataPreset) -> Sources:
        """The synthetic data sets in ``work/name``."""
        return Sources(self.synthetic(name, "one-shot", preset), self.synthetic(name, "rounds", preset))

    def synthetic(self, name: str, kind: DataKind, preset: DataPreset) -> ShardSet:
        """A synthetic data set in ``work/name/kind``."""
        with self.accelerator.main_process_first():
            report = partial(self._report_shards, kind)
            return build_synthetic(self.work / name, kind, preset, self.seed, report, self.workers)

    def selfsampled(self, name: str, model: Path, preset: ShapesSelfSampling, seed: int) -> ShardSet:
        """Rollouts of the model in the folder ``model``, a data set in ``work/name``."""
        with self.accelerator.main_process_first():
            painter = open_painter(model, self.device)
            report = partial(self._report_shards, "self-sampled")
            task = rollout_task(preset)
            return build_selfsampled(self.work / name, painter, model / "ema.safetensors", preset, seed, task, report)

    def fresh(self, size: NetworkSize) -> Bagel:
        """A network with random weights, a function of the seed."""
        model = Bagel(size.config(self.tokenizer.get_vocab_size(), self.autoencoder.module.config.latent_channels))
        model.initialise(torch.Generator().manual_seed(self.seed))
        return model

    def stage(
        self, name: str, preset: StagePreset, sources: Sources, size: NetworkSize, model: Bagel, before: int = 0
    ) -> Bagel:
        """Train ``model`` in stage ``name``, or load the weights of the finished stage.

        ``before`` is the number of stages that it has had: each draws its own batches and noise.
        """
        done = self.work / f"{name}.safetensors"
        if done.exists():
            self.load_weights(name, model)
            return model.to(self.device).eval()
        sample_format = SampleFormat(
            tokenizer=self.tokenizer,
            special=special_tokens(self.tokenizer),
            dialect=MINIATURE,
            renderer=RENDERER,
            canvas=size.canvas,
            emphasised=EMPHASISED,
        )
        options = RunOptions(
            seed=self.seed + before,
            report=self.log(name, preset.steps),
            resume=self.work / name,
            checksums=self.checksums,
            workers=self.workers,
        )
        trained = train(model, preset, sources, sample_format, self.autoencoder, self.accelerator, options)
        state = {k: v.detach().cpu().contiguous() for k, v in trained.state_dict().items()}
        if self.accelerator.is_main_process:
            self.checksums.write(done, lambda path: save_file(state, path))
        self.accelerator.wait_for_everyone()
        return trained

    def load_weights(self, name: str, model: Bagel) -> None:
        """Load the weights of a finished stage. Raises StrokesError where the file is damaged or of another network."""
        path = self.work / f"{name}.safetensors"
        found, wanted = shapes_of(path), {key: tuple(t.shape) for key, t in model.state_dict().items()}
        check_same_shapes(found, wanted, str(path))
        self.checksums.check(path)
        model.load_state_dict(load_file(path))

    def export(self, name: str, size: NetworkSize) -> Path:
        """Write the weights of a finished stage as a model folder, or find it."""
        folder = self.work / "models" / name
        weights, companions = folder / "ema.safetensors", ("ae.safetensors", "tokenizer.json")
        if self.accelerator.is_main_process:
            if not all((folder / file).exists() for file in (weights.name, *companions)):
                folder.mkdir(parents=True, exist_ok=True)
                for file in companions:
                    self.checksums.write(folder / file, partial(shutil.copyfile, self.autoencoder_folder / file))
                model = self.fresh(size)
                self.load_weights(name, model)
                write_folder(folder, model, size, self.checksums.write)
            for file in (weights.name, *companions):
                self.checksums.check(folder / file)
        self.accelerator.wait_for_everyone()
        return folder

    def _report_shards(self, kind: str, done: int, of: int) -> None:
        self.report(f"data: {kind}", done, of, {})

    def log(self, part: str, steps: int) -> OnTrainStep:
        """A callback that reports every step, and logs the means over every 20."""
        since: list[dict[str, float]] = []

        def log_step(step: int, losses: dict[str, float]) -> None:
            if not self.accelerator.is_main_process:
                return
            self.report(part, step + 1, steps, losses)
            since.append(losses)
            if (step + 1) % LOG_EVERY == 0 or step + 1 == steps:
                names = dict.fromkeys(name for row in since for name in row)
                means = {name: mean(row[name] for row in since if name in row) for name in names}
                since.clear()
                append(self.work / "log.jsonl", json.dumps({"part": part, "step": step + 1, **means}) + "\n")

        return log_step


def _read_settings(path: Path) -> Any:
    """The recorded settings. Raises StrokesError where they are no JSON: without them nothing can be checked."""
    try:
        return load_json(path)
    except ValueError as error:
        raise StrokesError(
            f"{path} is not valid JSON ({error}): put back what the run wrote there, or choose another --out"
        ) from None
