"""``strokes train ablations``: the paper's ablations in miniature. One base model that paints in one go is tuned to the
process on data that lacks one thing each.

Every variant of a table starts from the same weights, trains the same number of steps with the same seed, and paints the
same prompts.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from matplotlib.figure import Figure
from torch.utils.data import ConcatDataset

from ..bagel.scheduler import run_batched
from ..data.shapes.build import DataPreset
from ..data.shapes.rollouts import ShapesSelfSampling
from ..data.shapes.rounds import RoundMix
from ..evaluation.shapes.benchmark import evaluate
from ..evaluation.shapes.prompts import write_prompts
from ..files import read_json, write_whole
from ..models import open_painter
from ..shapes.scene_graph import CATEGORIES
from ..training.presets import StagePreset
from ..training.stream import Sources
from .autoencoder import AutoencoderPreset
from .embedded import PRESETS as EMBEDDED
from .embedded import SECOND
from .network import NetworkSize
from .run import OnProgress, TrainingRun


@dataclass(frozen=True)
class Variant:
    """One row of the tables.

    mix: its rounds; without ``mix.inspected`` the model is neither trained on critiques nor asked for one.
    after: the model that it starts from.
    own: share of self-sampled rounds.
    """

    name: str
    mix: RoundMix = RoundMix()
    after: str = "base"
    own: float = 0.0

    @property
    def data(self) -> str:
        """Name of its data set: that of the first variant with the same mix."""
        return next(variant.name for variant in VARIANTS if variant.mix == self.mix)


BASE = "base, one-shot"
VARIANTS = (
    Variant("additive steps, no inspection", RoundMix(damaged_canvas=0.0, inspected=False)),
    Variant("additive steps, inspection", RoundMix(damaged_canvas=0.0)),
    Variant("all steps, no inspection", RoundMix(inspected=False)),
    Variant("all steps, text conflicts", RoundMix(wrong=0.0, conflict=0.35)),
    Variant("all steps, image alignment", RoundMix(conflict=0.0)),
    Variant("all steps, inspection"),
    Variant("then scene-graph critiques", after="all steps, inspection"),
    Variant("then self-sampled critiques", after="all steps, inspection", own=0.6),
)
# As in the paper: what is added from one row to the next.
TABLES = {
    "Kinds of steps": (VARIANTS[0], VARIANTS[1], VARIANTS[2], VARIANTS[5]),
    "Inspection": (VARIANTS[2], VARIANTS[3], VARIANTS[4], VARIANTS[5]),
    "Critiques": (VARIANTS[6], VARIANTS[7]),
}


@dataclass(frozen=True, kw_only=True)
class AblationPreset:
    """Preset of ``strokes train ablations``.

    base: the stage on one-shot pictures alone.
    tune: the stage of each variant that starts from the base.
    again: the stage of those that start from another variant.
    prompts: prompts of each split; each is painted with each of ``seeds``.
    workers: processes that make data and batches.
    """

    autoencoder: AutoencoderPreset = field(default_factory=AutoencoderPreset)
    size: NetworkSize = field(default_factory=NetworkSize)
    data: DataPreset = field(default_factory=lambda: DataPreset(one_shot=40_000, rounds=30_000, filtered=False))
    base: StagePreset = StagePreset(steps=1500, one_shot=(1.0, 1.0))
    tune: StagePreset = replace(SECOND, steps=1200, batch=32, learning_rate=2e-3, decay=0.5)
    again: StagePreset = replace(SECOND, steps=500, batch=32)
    own: ShapesSelfSampling = field(default_factory=lambda: ShapesSelfSampling(processes=800))
    prompts: int = 400
    seeds: tuple[int, ...] = (0,)
    workers: int = 0


_GPU, _TOY = EMBEDDED["gpu"], EMBEDDED["toy"]
PRESETS = {
    "cpu": AblationPreset(),
    "gpu": AblationPreset(
        autoencoder=_GPU.autoencoder,
        size=_GPU.size,
        data=DataPreset(one_shot=200_000, rounds=200_000, shard=10_000, filtered=False),
        base=replace(_GPU.first, steps=2500, one_shot=(1.0, 1.0)),
        tune=replace(_GPU.second[0], steps=1000),
        again=replace(_GPU.second[0], steps=1000),
        own=_GPU.own,
        prompts=2000,
        seeds=(0, 1, 2),
        workers=_GPU.workers,
    ),
    "toy": AblationPreset(
        autoencoder=_TOY.autoencoder,
        size=_TOY.size,
        data=_TOY.data,
        base=replace(_TOY.first, steps=2, one_shot=(1.0, 1.0)),
        tune=_TOY.second[0],
        again=_TOY.second[0],
        own=_TOY.own,
        prompts=4,
    ),
}


class AblationRun(TrainingRun):
    """``strokes train ablations`` in the folder ``out``: trains and measures every variant.

    Writes ``table.md``, ``table.json`` and ``plot.png``.
    """

    def __init__(self, out: Path, preset: AblationPreset, seed: int, accelerator: Accelerator, report: OnProgress):
        super().__init__(out, asdict(preset), seed, accelerator, report, preset.workers)
        self.preset = preset

    def make(self) -> Path:
        preset = self.preset
        self.make_tokenizer_and_autoencoder(self.work, preset.autoencoder)
        sources = Sources(self.synthetic("data", "one-shot", preset.data))
        self.stage("base", preset.base, sources, preset.size, self.fresh(preset.size))
        for variant in VARIANTS:
            self._tune(variant, sources)
        for name in ("base", *(variant.name for variant in VARIANTS)):
            self.export(name, preset.size)
        if self.accelerator.is_main_process:
            results = {BASE: self._measure("base", "one-shot")}
            for variant in VARIANTS:
                results[variant.name] = self._measure(
                    variant.name, "process" if variant.mix.inspected else "no-inspect"
                )
            text = json.dumps(results, indent=1) + "\n"
            write_whole(self.work / "table.json", lambda path: path.write_text(text))
            write_whole(self.work / "table.md", lambda path: path.write_text(markdown(results)))
            plot(results, self.work / "plot.png")
        return self.work

    def _tune(self, variant: Variant, sources: Sources) -> None:
        preset = self.preset
        rounds = self.synthetic(f"data/{variant.data}", "rounds", replace(preset.data, mix=variant.mix))
        sources = replace(sources, rounds=rounds)
        if variant.own:
            parent = self.export(variant.after, preset.size)
            rollouts = self.selfsampled(f"data/{variant.name}/own", parent, preset.own, self.seed)
            sources = replace(sources, self_sampled=ConcatDataset([rollouts]))
        model = self.fresh(preset.size)
        self.load_weights(variant.after, model)
        stage, before = (preset.tune, 1) if variant.after == "base" else (preset.again, 2)
        self.stage(variant.name, replace(stage, own=variant.own), sources, preset.size, model, before)

    def _measure(self, name: str, arm: str) -> dict[str, Any]:
        path = self.work / f"{name}.json"
        if not path.exists():
            painter = open_painter(self.work / "models" / name, self.device)
            prompts = write_prompts(self.preset.prompts, self.seed)

            def progress(done: int, total: int, prompt: str) -> None:
                self.report(f"paint: {name}", done, total, {})

            report = evaluate(
                painter, prompts, (arm,), seeds=self.preset.seeds, progress=progress, run_batched=run_batched
            )
            found = {group: asdict(report.get("exact match", arm, group)) for group in report.groups}
            text = json.dumps(found, indent=1) + "\n"
            self.checksums.write(path, lambda to: to.write_text(text))
        self.checksums.check(path)
        return read_json(path)


def _columns(results: dict[str, dict[str, Any]]) -> list[str]:
    return [group for group in (*CATEGORIES, "held out", "3 or more", "all") if group in results[BASE]]


def markdown(results: dict[str, dict[str, Any]]) -> str:
    """The results as one Markdown table: the base, then the variants of each of the paper's tables. Values are shares of
    exact matches, the last column their 95 % interval over all groups."""
    columns = _columns(results)
    lines = [f"| | {' | '.join(columns)} | 95 % |", "|---" * (len(columns) + 2) + "|"]

    def row(name: str) -> str:
        found = results[name]
        every = found["all"]
        shares = " | ".join(f"{found[group]['value']:.2f}" for group in columns)
        return f"| {name} | {shares} | {every['low']:.2f} to {every['high']:.2f} |"

    lines.append(row(BASE))
    for title, variants in TABLES.items():
        lines += [f"| **{title}** |{' |' * (len(columns) + 1)}", *(row(variant.name) for variant in variants)]
    return "\n".join(lines) + "\n"


def plot(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the results as a PNG: a bar with its interval for every variant, one panel a table, the base as a line."""
    figure = Figure(figsize=(4.6 * len(TABLES), 4.2), layout="constrained")
    base = results[BASE]["all"]["value"]
    for i, (title, variants) in enumerate(TABLES.items(), 1):
        axes = figure.add_subplot(1, len(TABLES), i, title=title, ylim=(0, 1), ylabel="exact match" if i == 1 else "")
        found = [results[variant.name]["all"] for variant in variants]
        values = [f["value"] for f in found]
        reach = [[f["value"] - f["low"] for f in found], [f["high"] - f["value"] for f in found]]
        bars = axes.bar(range(len(found)), values, yerr=reach, capsize=4, color="#1f6fb2", alpha=0.85)
        axes.bar_label(bars, [f"{value:.2f}" for value in values], label_type="center", color="white")
        axes.set_xticks(range(len(found)), [v.name.replace(", ", "\n") for v in variants], rotation=20, ha="right")
        axes.axhline(base, color="#b25a00", linestyle="--", label=f"{BASE} {base:.2f}")
        axes.legend(frameon=False, loc="upper left")
    write_whole(path, lambda to: figure.savefig(to, format="png", dpi=110))
