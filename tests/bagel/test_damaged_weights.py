"""Weights, autoencoders, tokenizers and shards damaged on purpose: each ends in one line that says what is wrong, soon."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from damage import assert_refused, header_of, linked, packed, replace_file
from safetensors.torch import load_file, save_file

from strokes.models import EMBEDDED

LAYER = "language_model.model.layers.0"


@pytest.fixture
def folder(tmp_path):
    return linked(tmp_path / "model")


def put(key, shape, dtype=torch.float32):
    return lambda state: state.__setitem__(key, torch.zeros(shape, dtype=dtype))


def renamed(old, new):
    def change(state):
        for key in [key for key in state if key.startswith(old)]:
            state[new + key.removeprefix(old)] = state.pop(key)

    return change


def without(start):
    def change(state):
        for key in [key for key in state if key.startswith(start)]:
            del state[key]

    return change


SCALE = torch.tensor(0.1)
FP8 = torch.zeros(192, 192, dtype=torch.float8_e4m3fn)


def quantised(text, weight=FP8, scale=SCALE):
    """A layer in ComfyUI's form, its JSON ``text``."""

    def change(state):
        state[f"{LAYER}.self_attn.o_proj.weight"] = weight
        state[f"{LAYER}.self_attn.o_proj.comfy_quant"] = torch.tensor(list(text), dtype=torch.uint8)
        if scale is not None:
            state[f"{LAYER}.self_attn.o_proj.weight_scale"] = scale

    return change


STATES = {
    "layer 10⁶": (put(f"{LAYER[:-1]}1000000.mlp.up_proj.weight", (2, 2)), "no tensor of layer 6"),
    "a layer left out": (without(f"{LAYER[:-1]}3."), "no tensor of layer 3"),
    "a vision layer left out": (without("vit_model.vision_model.encoder.layers.0."), "layers.0.mlp.fc1"),
    "no layers": (without("language_model.model.layers."), "q_norm.weight"),
    "no tensors": (without(""), "no tensors"),
    "no embedding": (without("language_model.model.embed_tokens"), "embed_tokens.weight"),
    "no head": (without("language_model.lm_head"), "lacks 'language_model.lm_head.weight'"),
    "no generation expert": (without("language_model.model.norm_moe_gen"), "norm_moe_gen.weight"),
    "no connector": (without("connector"), "connector.fc1"),
    "no vision table": (without("vit_pos_embed"), "vit_pos_embed.pos_embed"),
    "a scalar for the embedding": (put("language_model.model.embed_tokens.weight", ()), "2 dimensions were expected"),
    "a scalar for a projection": (put(f"{LAYER}.self_attn.q_proj.weight", ()), "2 dimensions were expected"),
    "a scalar for the vision patches": (
        put("vit_model.vision_model.embeddings.patch_embedding.weight", ()),
        "2 dimensions were expected",
    ),
    "a vector for the gate": (put(f"{LAYER}.mlp.gate_proj.weight", (5,)), "2 dimensions were expected"),
    "five dimensions": (put("vae2llm.weight", (1, 1, 1, 1, 1)), "2 dimensions were expected"),
    "no rows": (put("vae2llm.weight", (0, 64)), "no elements"),
    "no columns": (put("language_model.model.embed_tokens.weight", (79, 0)), "no elements"),
    "a bias without elements": (put("vae2llm.bias", (0,)), "no elements"),
    "heads that do not divide": (put(f"{LAYER}.self_attn.q_norm.weight", (31,)), "cannot be divided by 31"),
    "a head of one number": (put(f"{LAYER}.self_attn.q_norm.weight", (1,)), "two halves"),
    "key heads that do not divide": (put(f"{LAYER}.self_attn.k_proj.weight", (128, 192)), "query heads by key heads"),
    "a token that does not divide": (put("vae2llm.weight", (192, 63)), "cannot be divided by 4"),
    "a latent table that is no square": (put("latent_pos_embed.pos_embed", (15, 192)), "a square number"),
    "a vision table that is no square": (
        put("vit_model.vision_model.embeddings.position_embedding.weight", (15, 128)),
        "a square number",
    ),
    "patches that are no square": (
        put("vit_model.vision_model.embeddings.patch_embedding.weight", (128, 765)),
        "a square number",
    ),
    "another width": (put("llm2vae.weight", (64, 191)), "expected [64, 192]"),
    "whole numbers": (put("llm2vae.weight", (64, 192), torch.int64), "I64"),
    "truth values": (put("llm2vae.weight", (64, 192), torch.bool), "BOOL"),
    "a layer wider than others": (put(f"{LAYER[:-1]}2.mlp.up_proj.weight", (513, 192)), "expected [512, 192]"),
    "two networks": (
        lambda state: state.update({f"ema.{key}": tensor.clone() for key, tensor in state.items()}),
        "two networks",
    ),
    "another model's names": (renamed("language_model.", "text_model."), "no tensor"),
    "comfy_quant that is no JSON": (quantised(b"{"), "no JSON object"),
    "comfy_quant that is a list": (quantised(b"[]"), "no JSON object"),
    "comfy_quant without a format": (quantised(b"{}"), "'format'"),
    "comfy_quant of no known format": (quantised(b'{"format": "int3"}'), "'format' is 'int3'"),
    "comfy_quant nested deep": (quantised(b"[" * 9000), "no JSON object"),
    "a format of a number": (quantised(b'{"format": 8}'), "'format' is 8"),
    "a group that is no power of four": (
        quantised(b'{"format": "int8_tensorwise", "convrot": true, "convrot_groupsize": 100}'),
        "'convrot_groupsize' is 100",
    ),
    "no scale": (quantised(b'{"format": "float8_e4m3fn"}', scale=None), "lacks its weight_scale"),
    "a scale too many": (quantised(b'{"format": "float8_e4m3fn"}', scale=torch.ones(2)), "not one number"),
    "a scale of whole numbers": (
        quantised(b'{"format": "float8_e4m3fn"}', scale=torch.ones(1, dtype=torch.int32)),
        "not one number",
    ),
    "another type than the format's": (
        quantised(b'{"format": "int8_tensorwise"}'),
        "is stored as F8_E4M3, not I8",
    ),
    "a quantised vector": (quantised(b'{"format": "float8_e4m3fn"}', weight=FP8[0]), "no matrix"),
    "a quantised matrix of another shape": (
        quantised(b'{"format": "float8_e4m3fn"}', weight=FP8[:5].contiguous()),
        "expected [192, 192]",
    ),
}


@pytest.mark.parametrize("case", STATES)
def test_weights_that_are_no_network(folder, case):
    change, says = STATES[case]
    state = load_file(folder / "ema.safetensors")
    change(state)
    (folder / "ema.safetensors").unlink()
    save_file(state, folder / "ema.safetensors")
    assert_refused(folder, says)


def entry(**change):
    """A file of which one tensor's entry is changed."""

    def damage(content):
        header, data = header_of(content)
        header["vae2llm.bias"] |= change
        return packed(header, data)

    return damage


def moved(by):
    def damage(content):
        header, data = header_of(content)
        header["vae2llm.bias"]["data_offsets"] = [n + by for n in header["vae2llm.bias"]["data_offsets"]]
        return packed(header, data)

    return damage


def twice(content):
    header, data = header_of(content)
    text = json.dumps(header)
    one = json.dumps({"vae2llm.bias": header["vae2llm.bias"]})
    return packed(f"{one[:-1]}, {text[1:]}".encode(), data)


def many(content):
    """Tensors without a place, many more than a header can be read of."""
    return packed(b"{" + b", ".join(b'"%d": 0' % n for n in range(300_000)) + b"}", b"")


def about(**metadata):
    def damage(content):
        header, data = header_of(content)
        return packed({"__metadata__": metadata, **header}, data)

    return damage


BYTES = {
    "empty": (lambda content: b"", "truncated"),
    "seven bytes": (lambda content: content[:7], "truncated"),
    "its header cut": (lambda content: content[:100], "truncated"),
    "cut in the middle": (lambda content: content[: len(content) // 2], "truncated"),
    "a byte short": (lambda content: content[:-1], "would end 1 bytes behind it"),
    "a byte more": (lambda content: content + b"x", "belong to no tensor"),
    "a header of 2⁶³ bytes": (lambda content: struct.pack("<Q", 2**63) + content[8:], "truncated"),
    "a header of no bytes": (lambda content: struct.pack("<Q", 0) + content[8:], "truncated"),
    "a header that is no JSON": (lambda content: packed(b"{nonsense", b""), "header cannot be read"),
    "a header that is a list": (lambda content: packed(b"[1, 2]", b""), "header cannot be read"),
    "a header that is no text": (lambda content: packed(b"\xff\xfe\xfd", b""), "header cannot be read"),
    "a header nested deep": (lambda content: packed(b'{"a":' * 100_000, b""), "nested too deep"),
    "a number of 5,000 digits": (lambda content: packed(b'{"a": ' + b"9" * 5000 + b"}", b""), "header cannot be read"),
    "a name twice": (twice, "'vae2llm.bias' is there twice"),
    "too many tensors": (many, "no model that is read has more"),
    "an unknown type": (entry(dtype="F3"), "'F3'"),
    "a type that is a number": (entry(dtype=5), "'5'"),
    "a shape that is text": (entry(shape="192"), "no proper shape"),
    "a shape of fractions": (entry(shape=[192.0]), "no proper shape"),
    "a negative shape": (entry(shape=[-192]), "no proper shape"),
    "a shape of 10³⁰": (entry(shape=[10**30]), "no proper shape"),
    "a thousand dimensions": (entry(shape=[1] * 1000), "no proper shape"),
    "a shape for other bytes": (entry(shape=[191]), "cannot take 384 bytes"),
    "more bytes than the file has": (entry(shape=[2**38], data_offsets=[0, 2**39]), "truncated"),
    "offsets the wrong way round": (entry(data_offsets=[384, 0]), "cannot take -384 bytes"),
    "one offset": (entry(data_offsets=[0]), "no proper shape or place"),
    "no offsets": (entry(data_offsets=None), "no proper shape or place"),
    "on another tensor": (moved(-2), "does not follow"),
    "a hole": (moved(2), "vae2llm"),
    "metadata that is no text": (about(format=5), "metadata"),
    "metadata of a converter that is no JSON": (about(comfyui_bagel="{"), "comfyui_bagel is no JSON"),
    "metadata of a converter that is a list": (about(comfyui_bagel="[]"), "comfyui_bagel"),
    "a converter's configuration that is text": (
        about(comfyui_bagel='{"model_configs": {"llm_config.json": "x"}}'),
        "'model_configs.llm_config.json'",
    ),
    "a converter's number that is text": (
        about(comfyui_bagel='{"model_configs": {"llm_config.json": {"rope_theta": "x"}}}'),
        "'rope_theta' is 'x'",
    ),
    "layers that are a list": (about(_quantization_metadata='{"layers": []}'), "'layers'"),
    "a layer that is not there": (
        about(_quantization_metadata='{"layers": {"none": {"format": "float8_e4m3fn"}}}'),
        "none (float8_e4m3fn) has no matrix",
    ),
}


@pytest.mark.parametrize("case", BYTES)
def test_weights_whose_header_is_damaged(folder, case):
    damage, says = BYTES[case]
    replace_file(folder / "ema.safetensors", damage((EMBEDDED / "ema.safetensors").read_bytes()))
    assert_refused(folder, says)


@pytest.mark.parametrize(
    "case", [case for case in BYTES if not case.startswith(("metadata of", "a converter", "layers", "a layer"))]
)
def test_an_autoencoder_whose_header_is_damaged(folder, case):
    """The same damage, to a tensor of the autoencoder's under the name that the table damages."""
    header, data = header_of((EMBEDDED / "ae.safetensors").read_bytes())
    content = packed({"vae2llm.bias" if k == "decoder.conv_in.bias" else k: v for k, v in header.items()}, data)
    replace_file(folder / "ae.safetensors", BYTES[case][0](content))
    assert_refused(folder, "ae.safetensors")
