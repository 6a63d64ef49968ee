"""Quantised checkpoints in ComfyUI: what they cost in accuracy, LoRAs on them, and the memory that opening takes."""

from __future__ import annotations

import json
from dataclasses import replace
from math import prod

import pytest
import synthetic_bagel as synthetic
import torch
from checkpoints import CONFIG, graph, in_comfy
from graphs import node
from safetensors.torch import save_file

from strokes.bagel.network.config import BAGEL_7B
from strokes.bagel.network.model import Bagel

FP8, INT8 = {"format": "float8_e4m3fn"}, {"format": "int8_tensorwise"}
CAST, FORM = ["Parameter", "torch.float8_e4m3fn"], ["QuantizedTensor", "torch.float8_e4m3fn"]
WHOLE = ["QuantizedTensor", "torch.int8"]


def layers_only(state):
    names = {f"{layer}.weight" for layer in synthetic.layers(state)}
    return {key: tensor.to(torch.float8_e4m3fn) if key in names else tensor for key, tensor in state.items()}


def measured(state):
    """Scaled fp8 with a scale of each layer's input, as calibration finds: nothing in this network is larger than 64."""
    return synthetic.scaled_fp8(state) | {
        f"{layer}.input_scale": torch.tensor(64 / 448) for layer in synthetic.layers(state)
    }


def large_activations(state):
    """The same function with inputs of one layer's ``down_proj`` a thousand times larger."""
    layer = "language_model.model.layers.3.mlp_moe_gen."
    up, down = f"{layer}up_proj.weight", f"{layer}down_proj.weight"
    return state | {up: state[up] * 1024, down: state[down] / 1024}


# Change of the weights, JSON of a layer in the metadata, what a layer's weight is then, and the largest error.
QUANTISED = {
    "fp8 cast, every tensor": (synthetic.cast, None, CAST, 0.05),
    "fp8 cast, the layers' matrices": (layers_only, None, CAST, 0.04),
    "scaled fp8, comfy_quant": (lambda s: synthetic.marked(synthetic.scaled_fp8(s), FP8), None, FORM, 0.04),
    "scaled fp8, measured inputs": (lambda s: synthetic.marked(measured(s), FP8), None, FORM, 0.05),
    "scaled fp8, metadata": (synthetic.scaled_fp8, FP8, FORM, 0.04),
    "scaled fp8, older form": (lambda s: synthetic.older(synthetic.scaled_fp8(s)), None, FORM, 0.04),
    "int8": (lambda s: synthetic.marked(synthetic.int8(s), INT8), None, WHOLE, 0.03),
    "int8, a scale a row": (lambda s: synthetic.marked(synthetic.int8(s, True), INT8), None, WHOLE, 0.03),
}


@pytest.fixture(scope="module")
def quantised(models, state, published):
    """The name in the menu of every kind."""
    names = {}
    for kind, (change, layer, *_) in QUANTISED.items():
        folder = synthetic.write_companions(models / "strokes" / kind.replace(",", ""), CONFIG)
        stored = change(state)
        about = synthetic.metadata(stored, layer) if layer else None
        save_file(stored, folder / "ema.safetensors", metadata=about)
        names[kind] = f"{folder.name}/ema.safetensors"
    return names


def errors(driver, published, names, precision):
    """Relative error of every kind's velocity against that of the bfloat16 file in float32; prints a table.

    The first is that of the bfloat16 file itself: what the precision of the computation makes of it.
    """

    def found(name, precision):
        answer = driver("velocity", checkpoint=name, precision=precision)
        return torch.tensor(answer.pop("velocity")), answer

    right, _ = found(published, "float32")
    out, about = {}, {}
    for kind, name in {"the bfloat16 file": published, **names}.items():
        velocity, about[kind] = found(name, precision)
        out[kind] = float((velocity - right).norm() / right.norm())
    print(f"\nin {precision}:", *(f"{kind:36} {error:.4f}" for kind, error in out.items()), sep="\n")
    return out.pop("the bfloat16 file"), out, {kind: about[kind] for kind in names}


def too_large(error, rounding):
    return {kind: each for kind, each in error.items() if not 0 < each <= QUANTISED[kind][3] + rounding}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "auto"])
def test_velocity_error_of_each_quantised_kind(fresh, published, quantised, precision):
    rounding, error, about = errors(fresh, published, quantised, precision)
    assert not too_large(error, rounding) and (rounding == 0) == (precision == "auto")
    assert {kind: each["layer"] for kind, each in about.items()} == {kind: row[2] for kind, row in QUANTISED.items()}
    # A small network computes in float32 unless asked.
    assert {each["activations"] for each in about.values()} == {"float32" if precision == "auto" else precision}


@pytest.mark.slow
def test_velocity_error_with_fp8_products(driver_with, models, state, published, quantised):
    """As on a card that multiplies fp8: activations are fp8 only where the file says how large they are."""
    folder = synthetic.write_companions(models / "strokes" / "large activations", CONFIG)
    stored = synthetic.marked(synthetic.scaled_fp8(large_activations(state)), FP8)
    save_file(stored, folder / "ema.safetensors")
    scaled = {kind: name for kind, name in quantised.items() if kind.startswith("scaled")}
    names = {**scaled, "large activations": "large activations/ema.safetensors"}
    rounding, error, _ = errors(driver_with("--supports-fp8-compute"), published, names, "bfloat16")
    assert 0 < error.pop("large activations") <= 0.04 and not too_large(error, 0)
    assert error["scaled fp8, measured inputs"] > error["scaled fp8, comfy_quant"] > rounding


@pytest.mark.slow
def test_the_forms_of_scaled_fp8_are_one(fresh, quantised):
    kinds = ("scaled fp8, comfy_quant", "scaled fp8, metadata", "scaled fp8, older form")
    found = [in_comfy(fresh, quantised[kind]) for kind in kinds]
    assert found[0] == found[1] == found[2]


# What ComfyUI itself makes of the layers in its other formats: JSON of a layer, and the options of quantising.
GROUP = {"convrot_groupsize": 64}
OTHERS = {
    "int8, rotated": ({**INT8, "convrot": True, **GROUP}, {"per_channel": True, "convrot": True, **GROUP}, 0.03),
    "fp8 e5m2": ({"format": "float8_e5m2"}, {"scale": "recalculate"}, 0.08),
    "mxfp8": ({"format": "mxfp8"}, {}, 0.05),
    "nvfp4": ({"format": "nvfp4"}, {}, 0.2),
    "w4a4": ({"format": "convrot_w4a4", **GROUP}, GROUP, 0.3),
    "w4a8": ({"format": "asym_w4a8_int8", "group_size": 16, **GROUP}, {"group_size": 16, **GROUP}, 0.2),
}


@pytest.fixture(scope="module")
def others(driver, models, state, published):
    """The name in the menu of each."""
    names = {}
    for kind, (layer, options, _) in OTHERS.items():
        folder = synthetic.write_companions(models / "strokes" / kind.replace(",", ""), CONFIG)
        source, target = models / "strokes" / published, folder / "ema.safetensors"
        asked = {"source": str(source), "target": str(target), "layers": synthetic.layers(state)}
        driver("quantise", **asked, layer=layer, options=options)
        names[kind] = f"{folder.name}/ema.safetensors"
    return names


@pytest.mark.slow
def test_comfyuis_other_formats(fresh, published, others):
    """They open and compute; a wrongly read one would be off by more than the whole velocity."""
    _, error, about = errors(fresh, published, others, "auto")
    assert not {kind: each for kind, each in error.items() if not 0 < each <= OTHERS[kind][2]}
    assert all(each["layer"][0] == "QuantizedTensor" for each in about.values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp8 cast, every tensor", "scaled fp8, comfy_quant", "int8", "w4a8"])
def test_a_lora_on_quantised_weights(fresh, models, quantised, others, kind):
    layer, generator = "language_model.model.layers.1.mlp_moe_gen.up_proj", torch.Generator().manual_seed(7)
    up, down = torch.randn(128, 2, generator=generator), torch.randn(2, 64, generator=generator)
    save_file({f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down}, models / "loras" / "q.safetensors")
    name = {**quantised, **others}[kind]
    plain = in_comfy(fresh, name)
    before = fresh("weights")
    lora = {"lora": node("StrokesApplyLora", model=["model", 0], lora="q.safetensors", strength=1.0)}
    patched = graph(name, **lora)
    for stage in ("sketch", "refine"):
        patched[stage]["inputs"]["model"] = ["lora", 0]
    assert fresh.run(patched)["reports"][0]["pictures"] != plain[0]
    assert fresh("weights") == before and in_comfy(fresh, name) == plain


@pytest.mark.slow
def test_a_card_that_is_slow_with_bfloat16(fresh, published):
    """Activations in float32 over weights that stay as they are stored: the numbers of a network widened as a whole."""
    right = fresh("velocity", checkpoint=published, precision="float32")
    fresh("free")
    found = fresh("velocity", checkpoint=published, precision="bfloat16", slow=True)
    assert found["layer"] == ["Parameter", "torch.bfloat16"] and found["activations"] == "float32"
    assert found["velocity"] == right["velocity"]


# Memory

BYTES = {"BF16": 2, "F32": 4, "F8_E4M3": 1}


def write_sparse(path, tensors, metadata):
    """A safetensors file of zeros that takes no room: types and shapes by name, all data a hole in the file system."""
    header, end = {"__metadata__": metadata}, 0
    for key, (dtype, shape) in tensors.items():
        size = BYTES[dtype] * prod(shape)
        header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return end


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True], ids=["mapped", "streaming"])
@pytest.mark.parametrize("kind", ["plain", "quantised"])
def test_opening_a_large_file_takes_little_memory(fresh, models, kind, streaming):
    """4 GB of BAGEL-7B's layers; where ComfyUI streams weights, it knows the place of each in its file."""
    layers = 4 if kind == "plain" else 8
    language = replace(BAGEL_7B.language, vocab_size=320, num_hidden_layers=layers)
    config = replace(BAGEL_7B, language=language, vision=None)
    tensors = {key: ("BF16", tuple(tensor.shape)) for key, tensor in Bagel(config, device="meta").state_dict().items()}
    formats = {}
    if kind == "quantised":
        formats = {key.removesuffix(".weight"): FP8 for key in tensors if "_proj" in key and key.endswith(".weight")}
        tensors |= {f"{name}.weight": ("F8_E4M3", tensors[f"{name}.weight"][1]) for name in formats}
        tensors |= {f"{name}.weight_scale": ("F32", ()) for name in formats}
    folder = synthetic.write_companions(models / "strokes" / f"large {kind}", CONFIG)
    size = write_sparse(
        folder / "ema.safetensors",
        tensors,
        {"_quantization_metadata": json.dumps({"layers": formats})} if formats else {},
    )
    assert 3.5e9 < size < 4.5e9
    asked = {"checkpoint": f"{folder.name}/ema.safetensors", "streaming": streaming}
    found = fresh("opened", **asked)
    fresh("free")
    with pytest.raises(pytest.fail.Exception, match=r"StrokesError\('ema.safetensors cannot be mapped into memory"):
        fresh("opened", **asked, room=2 << 30)
    (folder / "ema.safetensors").unlink()
    print(f"\n{kind}, streaming {streaming}: {found['grown'] / 1e6:.0f} MB grown of {size / 1e9:.2f} GB, {found}")
    assert found["grown"] < 300e6 and found["bytes"] > 0.999 * size
    assert found["known"] == (found["bytes"] if streaming else 0)
