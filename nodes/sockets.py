"""Socket types of this pack, inputs and outputs that several nodes share, and what their values mean."""

from __future__ import annotations

from typing import Literal

from comfy_api.latest import io

from ..strokes.process.settings import RENORMS, PaintOverrides, Renorm, TextOverrides

ModelSocket = io.Custom("STROKES_MODEL")
TrajectorySocket = io.Custom("STROKES_TRAJECTORY")
LoopSocket = io.Custom("STROKES_LOOP")

AUTO = "auto"
LONGEST_SIDE = 4096
STAGES, LOOPS, ONE_SHOT = "strokes", "strokes/loop", "strokes/one-shot"
# Words people search by, beside the names themselves.
ALIASES = ["bagel", "strokes", "step by step", "self-correct"]


def model_input() -> io.Input:
    return ModelSocket.Input(
        "model", tooltip="The unified model, from Load Unified Model. All stages usually share one."
    )


def trajectory_input(tooltip: str = "The work so far, from the stage before.") -> io.Input:
    return TrajectorySocket.Input("trajectory", tooltip=tooltip)


def trajectory_output() -> io.Output:
    return TrajectorySocket.Output("trajectory", tooltip="The work so far, with what this node added.")


def image_outputs(what: str) -> list[io.Output]:
    return [
        io.Image.Output("image", tooltip=what),
        io.Latent.Output("latent", tooltip="The same as a LATENT of the model's own autoencoder (FLUX's, for BAGEL)."),
    ]


def changed_output(since: str) -> io.Output:
    return io.Mask.Output("changed", tooltip=f"1 where the picture differs from {since}.")


def seed_input(of_process: bool = True) -> io.Input:
    tip = "Seed of the whole process. Each stage and round derives its own from it, so the same seed fits all stages."
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=2**63 - 1,
        control_after_generate=io.ControlAfterGenerate.fixed,
        tooltip=tip if of_process else "Same seed, same result.",
    )


def size_inputs(auto: str) -> list[io.Input]:
    """The widgets width and height; ``auto`` says in words what 0 stands for."""
    tip = "Canvas {} in pixels, a multiple of 16. 0 = auto: {}."
    return [
        io.Int.Input(name, default=0, min=0, max=LONGEST_SIDE, step=16, tooltip=tip.format(name, auto))
        for name in ("width", "height")
    ]


def text_inputs() -> list[io.Input]:
    return [
        io.Float.Input(
            "temperature", default=0.0, min=0.0, max=2.0, step=0.05,
            tooltip="0 = auto: what suits the checkpoint, for most the likeliest text. Higher values vary it with the seed.",
        ),
        io.Int.Input(
            "max_tokens", default=0, min=0, max=4096, advanced=True,
            tooltip="Longest text in tokens. 0 = auto: what suits the checkpoint.",
        ),
    ]  # fmt: skip


def paint_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "steps", default=0, min=0, max=1000,
            tooltip="Model calls for a picture. 0 = auto: what suits the checkpoint.",
        ),
        io.Float.Input(
            "text_guidance", default=0.0, min=0.0, max=20.0, step=0.1,
            tooltip="How strongly the picture follows the text. 0 = auto: what suits the checkpoint, for a first picture or "
            "an edit; 1 = none.",
        ),
        io.Float.Input(
            "image_guidance", default=0.0, min=0.0, max=20.0, step=0.1, advanced=True,
            tooltip="How strongly the picture follows the one before, where text guidance is on. 0 = auto; 1 = none.",
        ),
        io.Float.Input(
            "shift", default=0.0, min=0.0, max=20.0, step=0.1, advanced=True,
            tooltip="Timestep shift: above 1, more steps go to the layout and fewer to detail. 0 = auto.",
        ),
        io.Combo.Input(
            "renorm", options=[AUTO, *RENORMS], default=AUTO, advanced=True,
            tooltip="How guidance is kept from burning the picture. global: per picture; channel: per token; text_channel: "
            "per token, on the text part.",
        ),
        io.Boolean.Input(
            "extrapolate", default=False, advanced=True,
            tooltip="Skip two of three model calls after the fifth and extrapolate instead. Faster, a little less exact.",
        ),
    ]  # fmt: skip


def keep_best_input() -> io.Input:
    return io.Boolean.Input(
        "keep_best", default=False, optional=True, advanced=True,
        tooltip="On: a repainted picture is kept only where the model's own verdict on it is better than on the one before. "
        "Costs one more look.",
    )  # fmt: skip


def text_settings(temperature: float, max_tokens: int) -> TextOverrides:
    """The widgets of :func:`text_inputs`, in which 0 leaves a setting to the profile."""
    return TextOverrides(temperature=temperature or None, max_tokens=max_tokens or None)


def paint_settings(
    steps: int,
    text_guidance: float,
    image_guidance: float,
    shift: float,
    renorm: Renorm | Literal["auto"],
    extrapolate: bool,
) -> PaintOverrides:
    """The widgets of :func:`paint_inputs`, in which 0, "auto" and False leave a setting to the profile."""
    return PaintOverrides(
        steps=steps or None,
        text_guidance=text_guidance or None,
        image_guidance=image_guidance or None,
        shift=shift or None,
        renorm=None if renorm == "auto" else renorm,
        extrapolate=extrapolate or None,
    )


def size_of(width: int, height: int) -> tuple[int, int] | None:
    """(width, height) in pixels; None for auto."""
    return (width, height) if width and height else None


def size_problem(width: int | None, height: int | None) -> str:
    """Why a width and a height do not go together, for ``validate_inputs``; empty where they do.

    None stands for a value over a wire, which is known only when the node runs.
    """
    if width is None or height is None:
        return ""
    if not 0 <= min(width, height) <= max(width, height) <= LONGEST_SIDE:
        return f"canvas {width}×{height}: sides must be from 0 to {LONGEST_SIDE}"
    if bool(width) != bool(height):
        return f"width {width} and height {height}: give both, or 0 (auto) for both"
    if width % 16 or height % 16:
        return f"canvas {width}×{height}: sides must be multiples of 16"
    return ""
