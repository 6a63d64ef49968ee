"""Progress in the terminal: text as it is written, a bar a picture, a bar a stage of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from PIL import Image
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..process.dialects.protocol import Dialect
from ..process.loop import Events
from ..process.trajectory import Trajectory
from ..process.wording import closing, outcome, verdict

STAGES = {"plan": "Plan", "sketch": "Sketch", "inspect": "Inspect", "refine": "Refine"}


def bars(console: Console) -> Progress:
    """Progress bars with a ``note`` beside each; every task has to set that field."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


class PaintScreen:
    """Shows a painting process on ``console``: its ``events`` go to :func:`strokes.process.loop.run`. ``save`` is called with
    the trajectory after every turn."""

    def __init__(self, console: Console, save: Callable[[Trajectory], None], dialect: Dialect):
        """``dialect`` makes the texts in the making readable."""
        self.console, self.save, self.dialect = console, save, dialect
        self.stage = ""
        self.live: Live | None = None
        self.progress: Progress | None = None

    @property
    def events(self) -> Events:
        return Events(self._stage, self._turn, self._text, self._step)

    @contextmanager
    def showing(self) -> Iterator[PaintScreen]:
        """A context that ends the live display, also after an error."""
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
        self.live.update(Text.assemble((f"{STAGES[self.stage]:8}", "bold"), self._readable(text)))

    def _readable(self, text: str) -> str:
        return self.dialect.readable("inspect" if self.stage == "inspect" else "plan", text)

    def _step(self, done: int, total: int, preview: Callable[[], Image.Image]) -> None:
        if self.progress is None:
            self.progress = bars(self.console)
            self.progress.add_task(f"[bold]{STAGES[self.stage]:8}[/bold]", total=total, note="")
            self.progress.start()
        self.progress.update(self.progress.task_ids[0], completed=done)

    def _turn(self, trajectory: Trajectory) -> None:
        self._close()
        self.save(trajectory)
        round_ = trajectory.rounds[-1] if trajectory.rounds else None
        if trajectory.end is not None or round_ is None:
            self._line("plan", outcome(trajectory))
        elif self.stage == "plan" and round_.plan:
            self._line("plan", round_.plan.instruction)
            if round_.plan.description:
                self._line("", f"then the scene is: {round_.plan.description}")
        elif self.stage == "inspect" and round_.critique:
            critique = round_.critique
            found = f"[{verdict(critique)}] {critique.correction or critique.problem}".strip()
            self._line("inspect", f"{critique.explanation} {found}".strip())
        elif self.stage == "refine" and round_.refinement:
            self._line("refine", " ".join([closing(round_.refinement), round_.refinement.problem]).strip())

    def _line(self, stage: str, text: str) -> None:
        self.console.print(f"[bold]{STAGES.get(stage, ''):8}[/bold]{escape(text)}", highlight=False)
