"""One-shot uses of a unified model: a picture from text, an edit, a question."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..model_loader.loader import UnifiedModel
from ..strokes.process import oneshot
from ..strokes.process.pictures import Picture
from .checks import checked, type_problem
from .live import Live, reporting
from .sockets import (
    ALIASES,
    ONE_SHOT,
    image_outputs,
    model_input,
    paint_inputs,
    paint_settings,
    seed_input,
    size_inputs,
    size_of,
    size_problem,
    text_inputs,
    text_settings,
)
from .values import image_from, image_to, outputs_of


class StrokesTextToImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StrokesTextToImage",
            display_name="Text to Image (Strokes)",
            category=ONE_SHOT,
            description="Paints a prompt in one go, without planning or inspecting: to compare, or where that is enough.",
            search_aliases=[*ALIASES, "t2i", "generate", "one shot"],
            inputs=[
                model_input(),
                io.String.Input("prompt", multiline=True, default="", tooltip="What the picture shows."),
                *size_inputs("what suits the checkpoint"),
                seed_input(of_process=False),
                *paint_inputs(),
            ],
            outputs=image_outputs("The picture."),
        )

    @classmethod
    def validate_inputs(cls, prompt: str | None, width: int | None, height: int | None) -> bool | str:
        if problem := type_problem(cls, prompt=prompt, width=width, height=height):
            return problem
        if prompt is not None and not prompt.strip():
            return "the prompt is empty: say what to paint"
        return size_problem(width, height) or True

    @classmethod
    @checked
    def execute(
        cls, model: UnifiedModel, prompt: str, width: int, height: int, seed: int, **settings: Any
    ) -> io.NodeOutput:
        live, painter = Live(), model.painter
        with reporting("Text to Image"):
            painted = oneshot.text_to_image(
                painter, prompt, size=size_of(width, height), seed=seed, on_step=live.on_step,
                settings=paint_settings(**settings),
            )  # fmt: skip
        return _shown(cls, live, painted.picture)


class StrokesEditImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StrokesEditImage",
            display_name="Edit Image (Strokes)",
            category=ONE_SHOT,
            description="Repaints a picture as told, in one go.",
            search_aliases=[*ALIASES, "edit", "instruct", "change"],
            inputs=[
                model_input(),
                io.Image.Input("image", tooltip="The picture to change."),
                io.String.Input("instruction", multiline=True, default="", tooltip="What to change in it."),
                *size_inputs("the picture's own, as near as the model can"),
                seed_input(of_process=False),
                *paint_inputs(),
            ],
            outputs=image_outputs("The changed picture."),
        )

    @classmethod
    def validate_inputs(cls, instruction: str | None, width: int | None, height: int | None) -> bool | str:
        if problem := type_problem(cls, instruction=instruction, width=width, height=height):
            return problem
        if instruction is not None and not instruction.strip():
            return "the instruction is empty: say what to change"
        return size_problem(width, height) or True

    @classmethod
    @checked
    def execute(
        cls, model: UnifiedModel, image: Tensor, instruction: str, width: int, height: int, seed: int, **settings: Any
    ) -> io.NodeOutput:
        live, painter = Live(), model.painter
        with reporting("Edit Image"):
            painted = oneshot.edit_image(
                painter, image_from(image), instruction, size=size_of(width, height), seed=seed, on_step=live.on_step,
                settings=paint_settings(**settings),
            )  # fmt: skip
        return _shown(cls, live, painted.picture)


class StrokesAsk(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StrokesAsk",
            display_name="Ask (Strokes)",
            category=ONE_SHOT,
            description="Asks the model a question, about a picture or about nothing in particular.",
            search_aliases=[*ALIASES, "ask", "question", "vqa", "caption", "describe"],
            inputs=[
                model_input(),
                io.String.Input("question", multiline=True, default="", tooltip="What to ask."),
                seed_input(of_process=False),
                *text_inputs(),
                io.Image.Input("image", optional=True, tooltip="The picture that the question is about."),
            ],
            outputs=[io.String.Output("answer", tooltip="What the model writes.")],
        )

    @classmethod
    def validate_inputs(cls, question: str | None) -> bool | str:
        if problem := type_problem(cls, question=question):
            return problem
        return "the question is empty: ask something" if question is not None and not question.strip() else True

    @classmethod
    @checked
    def execute(
        cls,
        model: UnifiedModel,
        question: str,
        seed: int,
        temperature: float,
        max_tokens: int,
        image: Tensor | None = None,
    ) -> io.NodeOutput:
        live, painter = Live(), model.painter
        with reporting("Ask"):
            written = oneshot.ask(
                painter, None if image is None else image_from(image), question, seed=seed, on_text=live.on_text,
                settings=text_settings(temperature, max_tokens),
            )  # fmt: skip
        live.show_text(written.text)
        return io.NodeOutput(written.text, ui={"text": [written.text]})


def _shown(node: type[io.ComfyNode], live: Live, picture: Picture) -> io.NodeOutput:
    """A painted picture on the node and as its outputs."""
    live.show_picture(picture.image)
    return io.NodeOutput(*outputs_of(picture), ui=ui.PreviewImage(image_to(picture.image), cls=node))
