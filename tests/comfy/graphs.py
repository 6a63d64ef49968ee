"""Graphs in ComfyUI's API form, for the tests."""

from __future__ import annotations

PROMPT = "a red circle and a blue square"
TEXT = {"seed": 0, "temperature": 0.0, "max_tokens": 0}
PAINT = {
    "seed": 0, "steps": 4, "text_guidance": 0.0, "image_guidance": 0.0, "shift": 0.0, "renorm": "auto",
    "extrapolate": False,
}  # fmt: skip


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def start(prompt=PROMPT, checkpoint="strokes-embedded", **more):
    return {
        "model": node("StrokesLoadModel", checkpoint=checkpoint, precision="auto", device="auto"),
        "begin": node("StrokesBegin", model=["model", 0], prompt=prompt, **{"width": 0, "height": 0, **more}),
    }


def plan(before, model="model", **more):
    settings = {**TEXT, "instruction": "", "description": "", **more}
    return node("StrokesPlan", model=[model, 0], trajectory=before, **settings)


def sketch(before, model="model", **more):
    return node("StrokesSketch", model=[model, 0], trajectory=before, **{**PAINT, **more})


def inspect(before, model="model", **more):
    settings = {**TEXT, "verdict": "model", "critique": "", "correction": "", **more}
    return node("StrokesInspect", model=[model, 0], trajectory=before, **settings)


def refine(before, model="model", **more):
    return node("StrokesRefine", model=[model, 0], trajectory=before, **{**PAINT, **more})


def report(**wires):
    return node("TestReport", **wires)


def one_round(**more):
    """Load, Begin and the four stages; ``more`` are keyword arguments of a stage by its name."""
    return {
        **start(**more.get("begin", {})),
        "plan": plan(["begin", 0], **more.get("plan", {})),
        "sketch": sketch(["plan", 0], **more.get("sketch", {})),
        "inspect": inspect(["sketch", 0], **more.get("inspect", {})),
        "refine": refine(["inspect", 0], **more.get("refine", {})),
        "report": report(trajectory=["refine", 0], image=["refine", 1], latent=["refine", 2]),
    }


def loop(rounds=3, **more):
    """Load, Begin and Loop."""
    inputs = {"model": ["model", 0], "trajectory": ["begin", 0], "rounds": rounds, **TEXT, **PAINT, **more}
    return {
        **start(),
        "loop": node("StrokesLoop", **inputs),
        "report": report(trajectory=["loop", 0], image=["loop", 3], latent=["loop", 2]),
    }


def pair(rounds=3, body=None, **more):
    """Loop Start and Loop End with the four stages, a user's node and an inline Preview Image between them."""
    graph = {
        **start(),
        "start": node("StrokesLoopStart", trajectory=["begin", 0]),
        "plan": plan(["start", 0]),
        "sketch": sketch(["plan", 0]),
        "user": node("TestPlain", image=["sketch", 1]),
        "preview": node("PreviewImage", images=["user", 0]),
        "replace": node(
            "StrokesReplaceImage", model=["model", 0], trajectory=["sketch", 0], image=["user", 0], resize_canvas=False
        ),
        "inspect": inspect(["replace", 0]),
        "refine": refine(["inspect", 0]),
        "end": node("StrokesLoopEnd", loop=["start", 1], trajectory=["refine", 0], rounds=rounds, **more),
        "report": report(trajectory=["end", 0], image=["end", 3], latent=["end", 2]),
    }
    return graph | (body or {})
