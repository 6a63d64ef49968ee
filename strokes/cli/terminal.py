"""What the command line shows while it works: text as it is written, a bar per picture, a bar per training run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager

from PIL import Image
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..process.grammar import readable
from ..process.loop import Events
from ..process.trajectory import Trajectory

STAGES = {"plan": "Plan", "sketch": "Sketch", "inspect": "Inspect", "refine": "Refine"}


def bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


class PaintScreen:
    """Shows the stages of a run on ``console``; ``events`` goes to :func:`strokes.process.loop.run`."""

    def __init__(self, console: Console, saved):
        self.console, self.saved = console, saved
        self.stage = ""
        self.live: Live | None = None
        self.progress: Progress | None = None

    @property
    def events(self) -> Events:
        return Events(self._stage, self._turn, self._text, self._step)

    @contextmanager
    def showing(self):
        """Whatever happens inside, the terminal is left in order."""
        try:
            yield self
        finally:
            self._close()

    def _stage(self, stage: str, index: int) -> None:
        self._close()
        self.stage = stage
        if stage == "plan":
            self.console.rule(f"Round {index + 1}")

    def _close(self) -> None:
        if self.live is not None:
            self.live.stop()
        if self.progress is not None:
            self.progress.stop()
        self.live = self.progress = None

    def _text(self, text: str, tokens: int) -> None:
        if self.live is None:
            self.live = Live(console=self.console, refresh_per_second=10, transient=True)
            self.live.start()
        self.live.update(Text.assemble((f"{STAGES[self.stage]:8}", "bold"), readable(self.stage, text)))

    def _step(self, done: int, total: int, preview: Callable[[], Image.Image]) -> None:
        if self.progress is None:
            self.progress = bars(self.console)
            self.progress.add_task(f"[bold]{STAGES[self.stage]:8}[/bold]", total=total, note="")
            self.progress.start()
        self.progress.update(self.progress.task_ids[0], completed=done)

    def _turn(self, trajectory: Trajectory) -> None:
        self._close()
        self.saved(trajectory)
        step = trajectory.rounds[-1] if trajectory.rounds else None
        if trajectory.end is not None or step is None:
            self._line("plan", "the picture is finished")
        elif self.stage == "plan":
            self._line("plan", step.plan.instruction)
            if step.plan.description:
                self._line("", f"then the scene is: {step.plan.description}")
        elif self.stage == "inspect" and step.critique:
            verdict = "accepted" if step.critique.accepted else f"correct: {step.critique.correction}"
            self._line("inspect", f"{step.critique.explanation} [{verdict}]".strip())
        elif self.stage == "refine" and step.refinement:
            done = "repainted" if step.refinement.picture else "nothing to repaint"
            self._line("refine", done + ("; the picture is finished" if step.refinement.ended else ""))

    def _line(self, stage: str, text: str) -> None:
        self.console.print(f"[bold]{STAGES.get(stage, ''):8}[/bold]{escape(text)}", highlight=False)
