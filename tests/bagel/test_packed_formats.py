"""Formats that comfy-kitchen unpacks: each widens to what comfy-kitchen itself makes of it, padding cut off."""

from __future__ import annotations

import json

import pytest
import synthetic_bagel as synthetic
import torch
from safetensors.torch import save_file

from strokes.bagel.weights.header import read_header
from strokes.bagel.weights.quantised import FORMATS, layer_formats, logical_shape, stored_shape, widen
from strokes.models import open_painter

kitchen = pytest.importorskip("comfy_kitchen.tensor", reason="pip install comfy-kitchen")

# By format: comfy-kitchen's layout, its options, the JSON of the layer, and the largest error of a matrix.
PACKED = {
    "nvfp4": ("TensorCoreNVFP4Layout", {}, {}, 0.15),
    "mxfp8": ("TensorCoreMXFP8Layout", {}, {}, 0.05),
    "int8_tensorwise": (
        "TensorWiseINT8Layout",
        {"per_channel": True, "convrot": True, "convrot_groupsize": 64},
        {"convrot": True, "convrot_groupsize": 64},
        0.02,
    ),
    "convrot_w4a4": ("TensorCoreConvRotW4A4Layout", {"convrot_groupsize": 64}, {"convrot_groupsize": 64}, 0.2),
    "asym_w4a8_int8": (
        "AsymW4A8Int8Layout",
        {"group_size": 16, "convrot_groupsize": 64},
        {"group_size": 16, "params": {"convrot_groupsize": 64}},
        0.2,
    ),
}


def packed(name, weight):
    """The tensors of a matrix by the ends of their keys, and the matrix that comfy-kitchen makes of them."""
    layout, options, _, _ = PACKED[name]
    cls = kitchen.get_layout_class(layout)
    data, params = cls.quantize(weight, **options)
    return cls.state_dict_tensors(data, params), cls.dequantize(data, params)


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("shape", [(64, 128), (40, 192)], ids=str)
def test_a_matrix_is_what_comfy_kitchen_makes_of_it(name, shape, tmp_path):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.1
    tensors, right = packed(name, weight)
    given = json.dumps({"format": name, **PACKED[name][2]}).encode()
    state = {f"layer.weight{end}": tensor for end, tensor in tensors.items()}
    file = tmp_path / "file.safetensors"
    save_file({**state, "layer.comfy_quant": torch.tensor(list(given), dtype=torch.uint8)}, file)
    header = read_header(file)
    found = layer_formats(header.tensors, {}, "", file)["layer"]
    assert logical_shape(header.tensors["layer.weight"].shape, found) == stored_shape(shape, found)
    companions = {key: state[f"layer.{key}"] for key in found.companions}
    wide = widen(state["layer.weight"], companions, found, shape)
    assert wide.shape == shape and wide.dtype == torch.float32
    assert torch.allclose(wide, right[: shape[0], : shape[1]].float(), atol=1e-6)
    assert (wide - weight).norm() / weight.norm() < PACKED[name][3]


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKED)
def test_a_whole_checkpoint_opens(name, tmp_path):
    state = synthetic.weights()
    stored, plain = dict(state), dict(state)
    for layer in synthetic.layers(state):
        tensors, right = packed(name, state[f"{layer}.weight"].float())
        stored |= {f"{layer}.weight{end}": tensor for end, tensor in tensors.items()}
        plain[f"{layer}.weight"] = right.float()
    stored = {key: tensor.contiguous() for key, tensor in stored.items()}
    about = {
        "_quantization_metadata": json.dumps(
            {"layers": dict.fromkeys(synthetic.layers(state), {"format": name} | PACKED[name][2])}
        )
    }
    folder = synthetic.write_companions(tmp_path / "stored")
    save_file(stored, folder / "ema.safetensors", metadata=about)
    found = open_painter(folder).checkpoint.model.state_dict()
    for layer in synthetic.layers(state):
        assert torch.allclose(found[f"{layer}.weight"], plain[f"{layer}.weight"], atol=1e-6)


def test_every_format_that_needs_comfy_kitchen_is_tested():
    assert {name for name, fmt in FORMATS.items() if fmt.kitchen} | {"int8_tensorwise"} == PACKED.keys()
