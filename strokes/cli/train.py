"""``strokes train``: the embedded model and the ablations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import StrokesError
from .common import SeedOption, console

if TYPE_CHECKING:
    from accelerate import Accelerator
    from rich.progress import TaskID

    from ..recipes.run import OnProgress

OutOption = Annotated[Path, typer.Option("--out", help="Folder for the run; run again, it goes on there.")]
PresetOption = Annotated[str, typer.Option(help="cpu (overnight), small (five minutes), gpu or toy (seconds).")]
DeviceOption = Annotated[str, typer.Option(help="cpu, or cuda for the GPUs that accelerate finds.")]


def _accelerator(device: str) -> Accelerator:
    """An accelerator on the device, in bfloat16 on GPUs.

    Raises StrokesError where the packages for training or the device are missing.
    """
    try:
        import matplotlib  # noqa: F401
        import torch
        from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
    except ImportError as error:
        raise StrokesError(f'training needs {error.name}: pip install -e ".[train]" brings it') from None
    handlers = [
        # A process whose part of a batch has no picture to look at uses no vision model.
        DistributedDataParallelKwargs(find_unused_parameters=True),
        # The others wait while one makes the data.
        InitProcessGroupKwargs(timeout=timedelta(days=1)),
    ]
    if device == "cpu":
        return Accelerator(cpu=True, kwargs_handlers=handlers)
    if device != "cuda" or not torch.cuda.is_available():
        raise StrokesError(
            f"--device {device}: not there; choose cpu" + (" or cuda" if torch.cuda.is_available() else "")
        )
    return Accelerator(mixed_precision="bf16", kwargs_handlers=handlers)


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A callback that draws a progress bar for each part of a training run, with its losses."""
    from .terminal import bars

    with bars(console) as progress:
        tasks: dict[str, TaskID] = {}

        def report(part: str, done: int, of: int, losses: dict[str, float]) -> None:
            if part not in tasks:
                tasks[part] = progress.add_task(part, total=of, note="")
            note = "  ".join(f"{k} {v:.3f}" for k, v in losses.items() if k not in ("rows", "seconds", "norm"))
            progress.update(tasks[part], completed=done, note=note)

        yield report


def train_embedded_command(
    out: OutOption = Path("out/embedded"),
    preset: PresetOption = "cpu",
    steps: Annotated[int | None, typer.Option(help="Another length of the first stage.", min=1)] = None,
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
) -> None:
    """Train the small model from nothing: autoencoder, data, the network on it, its own pictures judged, and once more.

    Cut off and run again, it goes on where it was.
    """
    accelerator = _accelerator(device)
    from ..recipes.embedded import PRESETS, EmbeddedRun, with_steps

    if preset not in PRESETS:
        raise StrokesError(f"--preset {preset}: choose one of {', '.join(PRESETS)}")
    chosen = with_steps(PRESETS[preset], steps) if steps else PRESETS[preset]
    with _progress() as report:
        folder = EmbeddedRun(out, chosen, seed, accelerator, report)()
    if accelerator.is_main_process:
        print(folder)


def train_ablations_command(
    out: OutOption = Path("out/ablations"),
    preset: PresetOption = "cpu",
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
) -> None:
    """Train and measure the paper's ablations in miniature: one base, tuned on data that lacks one thing each.

    The folder ends with table.md, table.json and plot.png. Cut off and run again, it goes on where it was.
    """
    accelerator = _accelerator(device)
    from ..recipes.ablations import PRESETS, AblationRun

    if preset not in PRESETS:
        raise StrokesError(f"--preset {preset}: choose one of {', '.join(PRESETS)}")
    with _progress() as report:
        folder = AblationRun(out, PRESETS[preset], seed, accelerator, report)()
    if accelerator.is_main_process:
        print((folder / "table.md").read_text())
