"""What the engine computes for a set of golden tensors: every tensor and fact of the format, by name.

Source: the README beside the sets (``tests/golden``): a folder with weights, inputs, expected tensors and ``meta.json``,
produced by the reference. Each function here yields (name, value) pairs; comparing them is :mod:`.parity`'s part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...errors import StrokesError
from ..engine import flow
from ..engine import text as text_decoding
from ..engine.prefix import Block, Prefix, Segment
from ..engine.sampler import BranchSampler
from ..images import resize, to_image, to_tensor
from ..network.config import SpecialTokens
from ..network.model import Bagel
from ..network.packed import Item, LatentItem, PixelItem, TextItem, pack, training_forward, visibility
from ..network.vision import grid_index, patchify, unpatchify
from .golden import GoldenSet

NO_VAE = "no VAE weights"


@dataclass(frozen=True)
class Skipped:
    """A value that cannot be computed from what the folder holds."""

    why: str


@dataclass(frozen=True)
class Scaled:
    """A number whose error counts relative to ``scale`` instead of to itself."""

    value: float
    scale: float


Produced = Iterator[tuple[str, Any]]


def _u8(image: Image.Image) -> Tensor:
    return ((to_tensor(image) * 0.5 + 0.5) * 255).round().to(torch.uint8).permute(1, 2, 0)


def _framed(markers: Tensor, rows: Tensor) -> Tensor:
    """Start marker, rows, end marker: the reference's order. The engine keeps the two markers in front."""
    return torch.cat((markers[:1], rows, markers[1:]))


def _cache(prefix: str, block: Block, image: bool) -> Produced:
    for kind, layers in (("k", block.keys), ("v", block.values)):
        for i, layer in enumerate(layers.transpose(1, 2)):
            yield f"{prefix}.{kind}.layer{i}", _framed(layer[:2], layer[2:]) if image else layer


def _size(s: GoldenSet, prefix: Prefix) -> tuple[int, int]:
    """Rows held in the caches of a context, and its next position."""
    return sum(block.rows for block in s.prefix_cache.blocks(prefix)), prefix.position


def text(s: GoldenSet) -> Produced:
    segment, special = s.text("prompt"), s.runner.special
    block, hidden, _ = s.runner.prefill([], 0, segment)
    yield "text.hidden", s.model.language_model.model.norm(hidden)
    yield "text.logits", s.model.logits(hidden)
    yield from _cache("text", block, image=False)
    yield "text_prefill.ids", [special.bos, *s.meta["prompt_ids"]["prompt"], special.eos]
    yield "text_prefill.kv_len", block.rows
    yield "text_prefill.rope_next", Prefix((segment,)).position


def _write(s: GoldenSet, prefix: Prefix, calls: int) -> tuple[list[int], Tensor]:
    """Greedy text of at most ``calls`` decoder calls; the ids fed, start marker first, and the logits of each call."""
    logits: list[Tensor] = []

    def choose(row: Tensor) -> int:
        logits.append(row.clone())
        return text_decoding.greedy(row)

    blocks = s.prefix_cache.blocks(prefix)
    ids, ended = text_decoding.decode(s.runner, blocks, prefix.position, calls, choose=choose)
    # Without an end marker the last choice was made but not fed: the start marker counts in the reference's limit.
    return [s.runner.special.bos, *(ids if ended else ids[:-1])], torch.stack(logits)


def _margin(logits: Tensor) -> Scaled:
    """How safe the argmax was. A difference of logits has the error of logits, so it counts relative to the largest."""
    first, second = logits.topk(2).values.unbind(-1)
    return Scaled(float((first - second).min()), float(logits.abs().max()))


def greedy(s: GoldenSet) -> Produced:
    facts = s.scenarios.get("greedy_text", {})
    steps = s.find("decode.step_logits")
    calls = len(facts["fed_tokens"]) if steps is None else len(steps)
    fed, logits = _write(s, Prefix((s.text("prompt"),)), calls)
    yield "decode.step_logits", logits
    yield "greedy_text.fed_tokens", fed
    yield "greedy_text.argmax_tokens", logits.argmax(-1).tolist()
    yield "greedy_text.min_top1_top2_margin", _margin(logits)


def transforms(s: GoldenSet) -> Produced:
    vae, twice = s.vae_picture("image"), s.vit_picture("image")
    yield "tf.vae_u8", _u8(vae)
    yield "tf.vit_u8_from_vae_u8", _u8(twice)
    yield "tf.vit_u8_from_original", _u8(resize(s.original("image"), s.vit_rule))
    yield "tf.vae_pixels_corner", to_tensor(vae)[:, :6, :6]
    yield "tf.vit_pixels_corner", to_tensor(twice)[:, :6, :6]


def vit(s: GoldenSet) -> Produced:
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


# The format's table of scenarios: how a name begins → its inputs in order; a thought follows where ``think`` is set.
INPUTS: Mapping[str, Sequence[str]] = {
    "t2i": ("prompt",),
    "edit": ("image", "prompt2"),
    "multi_image": ("prompt", "image", "prompt2", "image2", "question"),
    "understand": ("image", "question"),
}


@dataclass
class Branches:
    """The three contexts before denoising, named as the engine names them, and the pictures in them."""

    main: Prefix
    text_free: Prefix
    image_free: Prefix
    pictures: list[str]


def branches(s: GoldenSet, name: str, hyper: Mapping[str, Any]) -> Branches:
    """Source: the reference's interleaved inference. The text-free context is what stood before the last text."""
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


def scenario(s: GoldenSet, name: str) -> Produced:
    facts = s.scenarios.get(name, {})
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
        # Decoding to a string cuts at a second start marker.
        written = list(takewhile(lambda i: i != bos, fed[1:]))
        yield f"{name}.text_fed_tokens", fed
        yield f"{name}.text_reencoded_ids", written
        yield f"{name}.min_top1_top2_margin", _margin(logits)
        if not look_only:
            # A string's way back to ids is a tokenizer's, of which a set has none: it says what came of it.
            c.main = c.main.append(Segment("text", tuple(facts.get("text_reencoded_ids", written))))
    for context, prefix in (("main", c.main), ("cfg_text", c.text_free), ("cfg_img", c.image_free)):
        rows, position = _size(s, prefix)
        yield f"{name}.{context}.kv_len", rows
        yield f"{name}.{context}.rope", position
    if not look_only:
        yield from _paint(s, name, hyper, c)


def _paint(s: GoldenSet, name: str, hyper: Mapping[str, Any], c: Branches) -> Produced:
    """Hyper-parameters that are absent have the defaults of the reference's inferencer."""
    if c.pictures:
        width, height = s.vae_picture(c.pictures[-1]).size
    else:
        height, width = hyper.get("image_shapes", (1024, 1024))
    token = s.config.token_pixels
    grid = (height // token, width // token)
    low, high = hyper.get("cfg_interval", (0.4, 1.0))
    guidance = flow.Guidance(
        text=hyper.get("cfg_text_scale", 3.0),
        image=hyper.get("cfg_img_scale", 1.5),
        interval=(low, high),
        renorm=hyper.get("cfg_renorm_type", "global"),
        renorm_min=hyper.get("cfg_renorm_min", 0.0),
    )
    settings = flow.FlowSettings(
        int(hyper.get("num_timesteps", 50)) - 1, float(hyper.get("timestep_shift", 3.0)), guidance
    )
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


def _texts(ids: Sequence[int], special: SpecialTokens) -> list[list[int]]:
    """The texts between begin and end markers in a row of packed ids."""
    found: list[list[int]] = []
    inside = False
    for i in ids:
        if i == special.bos:
            found.append([])
        elif inside and i != special.eos:
            found[-1].append(i)
        inside = i == special.bos or (inside and i != special.eos)
    return found


def train(s: GoldenSet) -> Produced:
    """The packed batch of the format: three samples in a fixed order of items."""
    model, special, patch, vision = s.model, s.runner.special, s.config.latent_patch_size, s.config.vision
    assert vision is not None
    # Pictures were padded before they were encoded: the real sizes stand in the facts alone.
    shapes = s.scenarios["train"]["latent_shapes"]
    padded = s.tensor("train.padded_latent")
    latents = [x[:, : h * patch, : w * patch] for x, (h, w) in zip(padded, shapes, strict=True)]
    texts = _texts(s.tensor("train.packed_text_ids").tolist(), special)
    if (len(texts), len(latents)) != (5, 5):
        raise StrokesError(f"the batch holds {len(texts)} texts and {len(latents)} latents; the format has 5 and 5")
    starts = torch.tensor([0, *(h * w for h, w in shapes)]).cumsum(0)[:-1]
    # Clean images stand at −inf before the sigmoid, which is time 0.
    times = s.tensor("train.packed_timesteps")[starts].sigmoid().tolist()
    a, b, c, d, e = (LatentItem(x, t if t > 0 else None) for x, t in zip(latents, times, strict=True))
    look = PixelItem(to_tensor(resize(s.original("image"), s.vit_rule)))
    samples: list[list[Item]] = [
        [TextItem(texts[0]), a],
        [b, look, TextItem(texts[1]), c],
        [TextItem(texts[2]), TextItem(texts[3], loss=True), d, e, look, TextItem(texts[4], loss=True)],
    ]
    packed = pack(model.config, samples, special)
    grids = [(x.shape[1] // vision.patch_size, x.shape[2] // vision.patch_size) for x in packed.pixels]
    yield "train.sample_lens", packed.sample_lens
    yield "train.latent_shapes", [[x.shape[1] // patch, x.shape[2] // patch] for x in packed.latents]
    yield "train.packed_text_ids", packed.text_ids
    yield "train.packed_text_indexes", packed.text_index
    yield "train.packed_position_ids", packed.positions
    yield "train.packed_vae_token_indexes", packed.latent_index
    yield "train.packed_latent_position_ids", packed.latent_position
    yield "train.packed_vit_token_indexes", packed.pixel_index
    yield "train.packed_vit_position_ids", torch.cat([grid_index(grid, vision.patches_per_side) for grid in grids])
    yield "train.vit_token_seqlens", torch.tensor([h * w for h, w in grids])
    yield "train.packed_timesteps", packed.latent_time.logit()
    yield "train.mse_loss_indexes", packed.latent_index[packed.target_mask]
    yield "train.ce_loss_indexes", packed.ce_index
    yield "train.packed_label_ids", packed.labels
    for i, mask in enumerate(visibility(packed)):
        yield f"train.visible.{i}", mask

    # Loading froze the weights; which of them train is the network's to say.
    for parameter, fresh in zip(model.parameters(), Bagel(s.config, device="meta").parameters(), strict=True):
        parameter.requires_grad_(fresh.requires_grad)
    with torch.enable_grad():
        losses = training_forward(model, packed, s.tensor("train.noise"), float(s.bagel.get("timestep_shift", 1.0)))
        ce, mse = losses.ce.mean(), losses.mse.mean()
        (ce + mse).backward()
    yield "train.ce_per_token", losses.ce
    yield "train.mse_per_element", losses.mse
    yield "train.ce_mean", ce.item()
    yield "train.mse_mean", mse.item()
    yield "train.loss", (ce + mse).item()
    found = {name: p.grad.norm().item() for name, p in model.named_parameters() if p.grad is not None}
    yield "train.params_without_grad", sorted(name for name, _ in model.named_parameters() if name not in found)
    wanted = s.scenarios.get("train", {}).get("grad_norms", {})
    largest = max(wanted.values(), default=0.0)
    for name in wanted:
        if name in found:
            # A key bias shifts all scores of a query alike, so the ViT's has no gradient but rounding noise (about
            # 1e-8): a norm that is zero in exact arithmetic can only be compared on the scale of the largest norm.
            scale = wanted[name] if wanted[name] > 1e-6 * largest else largest
            yield f"train.grad_norms.{name}", Scaled(found[name], scale)
    model.zero_grad()
    model.requires_grad_(False)


Part = Callable[[GoldenSet], Produced]


def parts(s: GoldenSet) -> list[tuple[tuple[str, ...], Part]]:
    """Everything that can be computed: the first words of the names that it yields, and the function."""
    fixed: list[tuple[tuple[str, ...], Part]] = [
        (("text", "text_prefill"), text),
        (("decode", "greedy_text"), greedy),
        (("tf",), transforms),
        (("vit", "vit_prefill"), vit),
        (("vae", "vae_prefill"), vae),
    ]
    painted = [name for name in s.scenarios if name.startswith(tuple(INPUTS))]
    return [*fixed, *(((name,), partial(scenario, name=name)) for name in painted), (("train",), train)]
