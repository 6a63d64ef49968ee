"""A painter that knows the world and errs as told, so that a test knows the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from strokes.data.shapes.rounds import recolour
from strokes.errors import StrokesError
from strokes.process.dialects.miniature import ACCEPTS, MINIATURE, REJECTS
from strokes.process.grammar import parse_plan
from strokes.process.painter import Painter
from strokes.process.pictures import Picture
from strokes.process.settings import (
    LatentFormat,
    OnStep,
    OnText,
    Painted,
    PaintSettings,
    PictureForm,
    Preserve,
    Profile,
    Scored,
    TextSettings,
    Written,
)
from strokes.shapes.drawing import Scene, render
from strokes.shapes.language import add_instruction, read_prompt, write_prompt
from strokes.shapes.layout import sample_layout
from strokes.shapes.scene_graph import SceneGraph

OPENING = "Please create the image step-by-step: "
State = tuple[Any, ...]


class OraclePainter:
    """Draws what it is told with the ground-truth renderer, one object a round, all others where they were. A share
    ``errors`` of its sketches and one-shot pictures has a wrong object, of its repaintings ``botched``; ``verdict`` is
    "truth", "accept" or "reject"; ``drifts`` lays every picture out anew."""

    profile = Profile(name="oracle", size=(64, 64), max_side=256)
    dialect = MINIATURE
    latent_format = LatentFormat(name="oracle", codec="oracle", channels=1, scale=1.0, shift=0.0)

    def __init__(
        self,
        errors: float = 0.0,
        verdict: str = "truth",
        botched: float = 0.0,
        never_ends: bool = False,
        drifts: bool = False,
        describe: Callable[[SceneGraph], str] = write_prompt,
    ):
        self.errors, self.verdict, self.botched = errors, verdict, botched
        self.never_ends, self.drifts, self.describe = never_ends, drifts, describe
        self.drawn: dict[str, tuple[Scene, bool]] = {}  # digest → (shapes, right)
        self.sketches, self.repainted = Counter[tuple[bool, bool]](), Counter[tuple[bool, bool]]()
        self.one_shots = Counter[bool]()
        self.told: list[tuple[str, str]] = []  # (prompt, what it was told when it repainted)

    def blank(self) -> State:
        return ()

    def read_text(self, state: State, text: str) -> State:
        self.check_text(text)
        return (*state, text)

    def read_picture(self, state: State, picture: Picture, form: PictureForm) -> State:
        return (*state, picture)

    def encode(self, picture: Picture) -> Picture:
        return picture

    def decode(self, latents: np.ndarray) -> Picture:
        raise StrokesError("the oracle has no autoencoder")

    def check_text(self, text: str) -> None:
        if "<|" in text:
            raise StrokesError("the text contains the special token <|")

    def write_text(
        self,
        state: State,
        settings: TextSettings,
        seed: int,
        on_text: OnText | None = None,
        start: str = "",
        stop: Sequence[str] = (),
    ) -> Written:
        text = self._reply(state, start)
        return Written(text, 7 if start in (ACCEPTS, *REJECTS) else 5 if text else 1, True)

    def score(self, state: State, answers: Sequence[str], start: str = "") -> Scored:
        reply = self._reply(state, start)
        said = [reply.startswith(a) if a else not reply for a in answers]
        return Scored(tuple(0.0 if hit else -50.0 for hit in said), 1)

    def _reply(self, state: State, start: str) -> str:
        """The whole text that it writes."""
        prompt = state[0].removeprefix(OPENING)
        graph = read_prompt(prompt)
        n = len(graph.objects)
        if start.startswith("<ins>"):
            return f"{start}{self.describe(graph)}</des>"
        pictures = [p for p in state if isinstance(p, Picture)]
        shapes, right = self.drawn[pictures[-1].digest] if pictures else ([], True)
        if any(isinstance(text, str) and text.startswith("<ins>") for text in state):
            accepted = right if self.verdict == "truth" else self.verdict == "accept"
            if not start:
                self.sketches[right, accepted] += 1
            return f"{ACCEPTS}." if accepted else f"{REJECTS[0]}. <refine>mend {prompt}</refine>"
        if len(shapes) == n and not self.never_ends:
            return ""
        new = min(len(shapes), n - 1)
        after = graph.subgraph(range(new + 1))
        return f"<ins>{add_instruction(after, new, range(new))}</ins><des>{self.describe(after)}</des>"

    def paint_picture(
        self,
        state: State,
        text_free: State,
        image_free: State,
        size: tuple[int, int],
        settings: PaintSettings,
        seed: int,
        on_step: OnStep | None = None,
        preserve: Preserve | None = None,
    ) -> Painted:
        rng = np.random.default_rng(seed)
        said = [text for text in state if isinstance(text, str)]
        plan = next((text for text in said if text.startswith("<ins>")), None)
        refining = "<refine>" in said[-1]
        graph = read_prompt(parse_plan(plan).description if plan else said[0])
        before = [p for p in state if isinstance(p, Picture)]
        fixed = [] if self.drifts or not before else self.drawn[before[-1].digest][0]
        if refining:
            fixed = [replace(s, colour=o.colour, kind=o.kind) for s, o in zip(fixed, graph.objects, strict=False)]
        shapes = next((s for _ in range(20) if (s := sample_layout(graph, rng, fixed[: len(graph.objects)]))), None)
        while shapes is None:
            shapes = sample_layout(graph, rng)
        if rng.random() < (self.botched if refining else self.errors):
            shapes[-1] = recolour(rng, shapes[-1])
        right = Counter(s.name for s in shapes) == Counter(o.name for o in graph.objects)
        pixels = (render([shapes])[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        picture = Picture(Image.fromarray(pixels))
        self.drawn[picture.digest] = (shapes, right)
        if refining:
            self.repainted[self.drawn[before[-1].digest][1], right] += 1
            self.told.append((said[0].removeprefix(OPENING), said[-1]))
        elif plan is None:
            self.one_shots[right] += 1
        return Painted(picture, 10)


# Type-checked against the protocol (tests/test_code.py): a double that drifts from it fails there.
PAINTER: type[Painter] = OraclePainter
