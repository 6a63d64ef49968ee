"""The scenarios of a set of golden tensors: what the engine computes, tensor by tensor and fact by fact.

Each scenario yields (name, value) pairs with the names of the format; :mod:`.compare` compares the values. Source: the
README beside the sets (``tests/golden``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from ..engine import flow
from ..engine import text as text_decoding
from ..engine.prefix import Block, Prefix, Segment
from ..engine.sampler import BranchSampler
from ..images import resize, to_image, to_tensor
from ..network.vision import patchify, unpatchify
from .golden import GoldenSet
from .training_scenario import train
from .values import Produced, Scaled, Skipped

NO_VAE = "no VAE weights"


def _u8(image: Image.Image) -> Tensor:
    """An image as uint8 ``[H, W, 3]``."""
    return rearrange(((to_tensor(image) * 0.5 + 0.5) * 255).round().to(torch.uint8), "c h w -> h w c")


def _framed(markers: Tensor, rows: Tensor) -> Tensor:
    """Start marker, rows, end marker: the order of the reference. The engine has both markers first."""
    return torch.cat((markers[:1], rows, markers[1:]))


def _cache(prefix: str, block: Block, image: bool) -> Produced:
    """Keys and values ``[n, K, d]`` of each layer, in the reference's order of rows."""
    for kind, layers in (("k", block.keys), ("v", block.values)):
        for i, layer in enumerate(rearrange(layers, "l k n d -> l n k d")):
            yield f"{prefix}.{kind}.layer{i}", _framed(layer[:2], layer[2:]) if image else layer


def _size(s: GoldenSet, prefix: Prefix) -> tuple[int, int]:
    """The rows of a prefix, and its next rope position."""
    return sum(block.rows for block in s.prefix_cache.blocks(prefix)), prefix.position


def text(s: GoldenSet) -> Produced:
    """Prefill of a text."""
    segment, special = s.text("prompt"), s.runner.special
    block, hidden, _ = s.runner.prefill([], 0, segment)
    yield "text.hidden", s.model.language_model.model.norm(hidden)
    yield "text.logits", s.model.logits(hidden)
    yield from _cache("text", block, image=False)
    yield "text_prefill.ids", [special.bos, *s.meta["prompt_ids"]["prompt"], special.eos]
    yield "text_prefill.kv_len", block.rows
    yield "text_prefill.rope_next", Prefix((segment,)).position


def _write(s: GoldenSet, prefix: Prefix, calls: int) -> tuple[list[int], Tensor]:
    """Greedy decoding of at most ``calls`` calls: the ids fed, start marker first, and the logits ``[calls, V]``."""
    logits: list[Tensor] = []

    def choose(row: Tensor) -> int:
        logits.append(row.clone())
        return text_decoding.greedy(row)

    blocks = s.prefix_cache.blocks(prefix)
    ids, ended = text_decoding.decode(s.runner, blocks, prefix.position, calls, choose=choose)
    # Without an end marker the last id was chosen but not fed: the reference counts the start marker among the calls.
    return [s.runner.special.bos, *(ids if ended else ids[:-1])], torch.stack(logits)


def _margin(logits: Tensor) -> Scaled:
    """The smallest lead of an argmax. It is a difference of logits, so its error is relative to the largest logit."""
    first, second = logits.topk(2).values.unbind(-1)
    return Scaled(float((first - second).min()), float(logits.abs().max()))


def greedy(s: GoldenSet) -> Produced:
    """Greedy decoding behind a text."""
    facts = s.facts.get("greedy_text", {})
    steps = s.find("decode.step_logits")
    calls = len(facts["fed_tokens"]) if steps is None else len(steps)
    fed, logits = _write(s, Prefix((s.text("prompt"),)), calls)
    yield "decode.step_logits", logits
    yield "greedy_text.fed_tokens", fed
    yield "greedy_text.argmax_tokens", logits.argmax(-1).tolist()
    yield "greedy_text.min_top1_top2_margin", _margin(logits)


def transforms(s: GoldenSet) -> Produced:
    """Image transforms."""
    vae, twice = s.vae_picture("image"), s.vit_picture("image")
    yield "tf.vae_u8", _u8(vae)
    yield "tf.vit_u8_from_vae_u8", _u8(twice)
    yield "tf.vit_u8_from_original", _u8(resize(s.original("image"), s.vit_rule))
    yield "tf.vae_pixels_corner", to_tensor(vae)[:, :6, :6]
    yield "tf.vit_pixels_corner", to_tensor(twice)[:, :6, :6]


def vit(s: GoldenSet) -> Produced:
    """The vision model, and prefill of an image by it."""
    model, vision = s.model, s.config.vision
    assert vision is not None
    pixels = to_tensor(s.vit_picture("image"))
    features, index = model.vit_model(pixels[None])
    yield "vit.patches_first2", patchify(pixels[None], vision.patch_size)[0, :2]
    yield "vit.position_ids", index
    yield "vit.features", features[0]
    yield "vit.connector", model.connector(features)[0]
    yield "vit.embeds", model.embed_pixels(pixels[None])[0]
    segment = Segment("pixels", pixels)
    block, hidden, _ = s.runner.prefill([], 0, segment)
    yield "vit.llm_hidden", model.language_model.model.norm(_framed(hidden[:2], hidden[2:]))
    yield from _cache("vit", block, image=True)
    yield "vit_prefill.kv_len", block.rows
    yield "vit_prefill.rope_next", Prefix((segment,)).position
    yield "vit_prefill.image_hw", list(pixels.shape[1:])


def vae(s: GoldenSet) -> Produced:
    """The autoencoder, and prefill of an image by it."""
    pixels = to_tensor(s.vae_picture("image"))
    yield "vae_prefill.image_hw", list(pixels.shape[1:])
    if s.autoencoder is None:
        for name in ("mean", "logvar", "latent_sampled", "latent_mean", "decoded_mean"):
            yield f"vae.{name}", Skipped(NO_VAE)
        latents = s.tensor("vae.latent_sampled")
    else:
        mean, logvar = s.autoencoder.moments(pixels[None])
        yield "vae.mean", mean[0]
        yield "vae.logvar", logvar[0]
        clean = s.autoencoder.encode(pixels[None])
        yield "vae.latent_mean", clean[0]
        yield "vae.decoded_mean", s.autoencoder.decode(clean)[0]
        latents = s.autoencoder.encode(pixels[None], s.tensor("vae.eps")[None])[0]
        yield "vae.latent_sampled", latents
    segment, final = Segment("latents", latents), s.model.language_model.model
    yield "vae.llm_input", _framed(s.runner.markers()[0], s.runner.embed_latents(latents[None], 0.0)[0])
    block, markers, rows = s.runner.prefill([], 0, segment)
    yield "vae.llm_hidden", _framed(final.norm(markers), final.norm_moe_gen(rows))
    yield from _cache("vae", block, image=True)
    yield "vae_prefill.kv_len", block.rows
    yield "vae_prefill.rope_next", Prefix((segment,)).position


# The inputs of an inference scenario, in order, by the beginning of its name.
INPUTS: Mapping[str, Sequence[str]] = {
    "t2i": ("prompt",),
    "edit": ("image", "prompt2"),
    "multi_image": ("prompt", "image", "prompt2", "image2", "question"),
    "understand": ("image", "question"),
}


@dataclass
class Branches:
    """The prefixes of the three guidance branches, and the names of the images in them."""

    main: Prefix
    text_free: Prefix
    image_free: Prefix
    pictures: list[str]


def branches(s: GoldenSet, name: str, hyper: Mapping[str, Any]) -> Branches:
    """The prefixes that the inputs of a scenario make. The text-free one is what stood before the last text.

    Source: the reference's interleaved inference.
    """
    inputs = next(names for start, names in INPUTS.items() if name.startswith(start))
    look_only = hyper.get("understanding_output", False)
    c = Branches(Prefix(), Prefix(), Prefix(), [])
    if hyper.get("think", False):
        system = s.text("vlm_think_system" if look_only else "gen_think_system")
        c.main, c.image_free = c.main.append(system), c.image_free.append(system)
    for item in inputs:
        if not item.startswith("image"):
            c.text_free = c.main
            c.main, c.image_free = c.main.append(s.text(item)), c.image_free.append(s.text(item))
            continue
        if not look_only:
            latents = s.tensor(f"{name}.vae_latent.{len(c.pictures)}")
            c.main = c.main.append(Segment("latents", latents))
        c.main = c.main.append(Segment("pixels", to_tensor(s.vit_picture(item))))
        c.text_free = c.main
        c.pictures.append(item)
    return c


def inference(s: GoldenSet, name: str) -> Produced:
    """One of the reference's inference scenarios: inputs read, a thought or an answer written, an image painted."""
    facts = s.facts.get(name, {})
    hyper = facts.get("hyper", {})
    c = branches(s, name, hyper)
    for i, picture in enumerate(c.pictures):
        noise = s.find(f"{name}.vae_eps.{i}")
        if s.autoencoder is None:
            yield f"{name}.vae_latent.{i}", Skipped(NO_VAE)
        elif noise is not None:
            pixels = to_tensor(s.vae_picture(picture))
            yield f"{name}.vae_latent.{i}", s.autoencoder.encode(pixels[None], noise[None])[0]
    look_only = hyper.get("understanding_output", False)
    if look_only or hyper.get("think", False):
        bos = s.runner.special.bos
        fed, logits = _write(s, c.main, int(hyper.get("max_think_token_n", 1000)))
        # The reference's way back to a string cuts at a second start marker.
        written = list(takewhile(lambda i: i != bos, fed[1:]))
        yield f"{name}.text_fed_tokens", fed
        yield f"{name}.text_reencoded_ids", written
        yield f"{name}.min_top1_top2_margin", _margin(logits)
        if not look_only:
            # The set has no tokenizer to encode the string again, but may say what ids that gave.
            c.main = c.main.append(Segment("text", tuple(facts.get("text_reencoded_ids", written))))
    for context, prefix in (("main", c.main), ("cfg_text", c.text_free), ("cfg_img", c.image_free)):
        rows, position = _size(s, prefix)
        yield f"{name}.{context}.kv_len", rows
        yield f"{name}.{context}.rope", position
    if not look_only:
        yield from _paint(s, name, hyper, c)


def _flow_settings(hyper: Mapping[str, Any]) -> flow.FlowSettings:
    """Absent hyper-parameters have the defaults of the reference's inferencer."""
    low, high = hyper.get("cfg_interval", (0.4, 1.0))
    guidance = flow.Guidance(
        text=hyper.get("cfg_text_scale", 3.0),
        image=hyper.get("cfg_img_scale", 1.5),
        interval=(low, high),
        renorm=hyper.get("cfg_renorm_type", "global"),
        renorm_min=hyper.get("cfg_renorm_min", 0.0),
    )
    return flow.FlowSettings(int(hyper.get("num_timesteps", 50)) - 1, float(hyper.get("timestep_shift", 3.0)), guidance)


def _paint(s: GoldenSet, name: str, hyper: Mapping[str, Any], c: Branches) -> Produced:
    """Velocities, guidance scales and latents of a painted image."""
    if c.pictures:
        width, height = s.vae_picture(c.pictures[-1]).size
    else:
        height, width = hyper.get("image_shapes", (1024, 1024))
    token = s.config.token_pixels
    grid = (height // token, width // token)
    settings = _flow_settings(hyper)
    guidance = settings.guidance
    prefixes = {"main": c.main, "text_free": c.text_free, "image_free": c.image_free}
    noise = s.tensor(f"{name}.init_noise")

    raw = BranchSampler(s.runner, s.prefix_cache.blocks, prefixes, grid, False)(list(prefixes), noise, 1.0)
    for key, v in zip(("main", "cfgtext", "cfgimg"), raw, strict=True):
        yield f"{name}.v_{key}_step0", v

    sampler = BranchSampler(s.runner, s.prefix_cache.blocks, prefixes, grid, hyper.get("enable_taylorseer", False))
    times: list[float] = []
    used: list[Tensor] = []

    def velocities(names: Sequence[str], x: Tensor, t: float) -> list[Tensor]:
        times.append(t)
        return sampler(names, x, t)

    tokens = flow.sample(
        velocities,
        noise,
        settings,
        same_text=c.text_free.key == c.main.key,
        same_image=c.image_free.key == c.main.key,
        on_step=lambda done, total, x, v, t: used.append(v),
    )
    on = [flow.guided(t, guidance.interval) for t in times]
    yield f"{name}.n_flow_calls", len(times)
    yield f"{name}.t_per_call", times
    yield f"{name}.cfg_text_scale_per_call", [guidance.text if guided else 1.0 for guided in on]
    yield f"{name}.cfg_img_scale_per_call", [guidance.image if guided else 1.0 for guided in on]
    yield f"{name}.image_hw", [grid[0] * token, grid[1] * token]
    yield f"{name}.v_step0", used[0]
    yield f"{name}.final_latent_tokens", tokens
    if s.autoencoder is None:
        yield f"{name}.image_u8", Skipped(NO_VAE)
    else:
        latents = unpatchify(tokens[None], grid, s.config.latent_patch_size)
        yield f"{name}.image_u8", _u8(to_image(s.autoencoder.decode(latents)[0]))


Scenario = Callable[[GoldenSet], Produced]


def scenarios(s: GoldenSet) -> list[tuple[tuple[str, ...], Scenario]]:
    """All scenarios of a set, each with the first words of the names that it yields."""
    fixed: list[tuple[tuple[str, ...], Scenario]] = [
        (("text", "text_prefill"), text),
        (("decode", "greedy_text"), greedy),
        (("tf",), transforms),
        (("vit", "vit_prefill"), vit),
        (("vae", "vae_prefill"), vae),
    ]
    names = [name for name in s.facts if name.startswith(tuple(INPUTS))]
    return [*fixed, *(((name,), partial(inference, name=name)) for name in names), (("train",), train)]
