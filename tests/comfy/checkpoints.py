"""Synthetic checkpoints in ComfyUI's folders, and the pictures they paint there and on the command line."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager

import synthetic_bagel as synthetic
import torch
from graphs import inspect, plan, refine, report, sketch, start

from strokes.process import stages
from strokes.process.settings import PaintOverrides

STEP = {"instruction": "a red circle", "description": "a red circle on white"}
CORRECTED = {"verdict": "correct", "critique": "it lacks a square", "correction": "add a blue square"}
STEPS = 3
EMBEDDING, HEAD = "language_model.model.embed_tokens.weight", "language_model.lm_head.weight"
# The dialect's words are long for a tokenizer of bytes.
CONFIG = json.dumps({"strokes": {**synthetic.PROFILE, "max_text_tokens": 1024}})
CONFIGS = {"config.json": json.loads(CONFIG), "llm_config.json": synthetic.LLM, "vit_config.json": synthetic.VIT}


def graph(checkpoint, **more):
    return {
        **start(checkpoint=checkpoint),
        "plan": plan(["begin", 0], **STEP),
        "sketch": sketch(["plan", 0], steps=STEPS),
        "inspect": inspect(["sketch", 0], **CORRECTED),
        "refine": refine(["inspect", 0], steps=STEPS),
        "report": report(trajectory=["refine", 0]),
        **more,
    }


def in_comfy(driver, checkpoint):
    """Digests of the two pictures, and of their latents, that a checkpoint of the menu paints in ComfyUI."""
    assert checkpoint in driver("checkpoints")
    found = driver.run(graph(checkpoint))["reports"][0]
    return found["pictures"], found["latents"]


@contextmanager
def one_thread():
    """As the driver's process computes: with other threads, sums are rounded otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def on_the_command_line(painter):
    """The same of a painter as the command line opens it."""
    work = stages.begin(painter, graph("")["begin"]["inputs"]["prompt"])
    work = stages.plan(painter, work, seed=0, **STEP)
    work = stages.sketch(painter, work, seed=0, settings=PaintOverrides(steps=STEPS))
    work = stages.inspect(painter, work, seed=0, given=stages.GivenCritique(*CORRECTED.values()))
    work = stages.refine(painter, work, seed=0, settings=PaintOverrides(steps=STEPS))
    pictures = [picture for _, picture in work.pictures]
    assert len(pictures) == 2
    latents = [hashlib.sha256(picture.latents.tobytes()).hexdigest()[:16] for picture in pictures]
    return [picture.digest for picture in pictures], latents


def write(form, folder, state):
    """The weights in one of the forms that people have; returns the name of the file to choose."""
    if form == "shards":
        synthetic.write_shards(folder, state)
        (folder / "config.json").write_text(CONFIG)
        return "model.safetensors.index.json"
    name = "model.safetensors" if form == "fine-tune" else "ema.safetensors"
    if form == "prefix":
        state = {f"bagel.{key}": tensor for key, tensor in state.items()}
    if form == "larger vocabulary":
        state = {**state, **{key: torch.cat((state[key], state[key][:5])) for key in (EMBEDDING, HEAD)}}
    if form == "float32":
        state = {key: tensor.float() for key, tensor in state.items()}
    config = synthetic.BROKEN if form == "config.json that is no JSON" else CONFIG
    synthetic.write_folder(folder, state, name, config=config)
    return name
