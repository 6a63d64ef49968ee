"""Every kind of checkpoint there is opens, and paints the same picture where the numbers are the same."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from pathlib import Path

import pytest
import synthetic_bagel as synthetic
import torch
from safetensors.torch import save_file

from strokes.bagel.network.model import Bagel, position_table
from strokes.bagel.network.vision import unpatchify
from strokes.bagel.painter import BagelPainter
from strokes.bagel.weights.checkpoint import (
    exact_table,
    first_not_finite,
    load_recognised,
    load_tokenizer,
    run_dtype,
    special_tokens,
)
from strokes.bagel.weights.companions import Places
from strokes.bagel.weights.kinds import KINDS
from strokes.bagel.weights.recognise import recognise
from strokes.bagel.weights.speech import speech_of
from strokes.errors import StrokesError
from strokes.models import EMBEDDED, open_painter
from strokes.process.settings import PaintSettings

SIZE = (64, 64)
FP8, INT8 = {"format": "float8_e4m3fn"}, {"format": "int8_tensorwise"}


def released_shapes():
    """Names and shapes of the published file, from the test that wrote them down."""
    spec = importlib.util.spec_from_file_location("released", Path(__file__).with_name("test_released.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.released_shapes()


def latents(painter, steps=1):
    """Latents of a picture painted after a text, without guidance, from the noise of seed 0."""
    state = painter.read_text(painter.blank(), "a red circle")
    settings = PaintSettings(steps=steps, text_guidance=1.0, image_guidance=1.0)
    picture = painter.paint_picture(state, painter.blank(), state, SIZE, settings, 0).picture
    return torch.from_numpy(picture.latents)


def velocity(painter):
    """The network's velocity at that noise: one step from noise to picture takes all of it."""
    grid = (SIZE[1] // 16, SIZE[0] // 16)
    noise = torch.randn(grid[0] * grid[1], 64, generator=torch.Generator().manual_seed(0))
    return unpatchify(noise[None], grid, 2)[0] - latents(painter)


@pytest.fixture(scope="session")
def state():
    return synthetic.weights()


@pytest.fixture(scope="session")
def published(state, tmp_path_factory):
    return synthetic.write_folder(tmp_path_factory.mktemp("models") / "published", state)


@pytest.fixture(scope="session")
def picture(published):
    return latents(open_painter(published), 3)


def test_the_synthetic_checkpoint_has_every_published_name(state):
    released = released_shapes()
    assert state.keys() == released.keys() and len(state) == 1223
    assert all(tensor.ndim == len(released[key]) for key, tensor in state.items())


def larger(state):
    keys = ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight")
    return {**state, **{key: torch.cat((state[key], state[key][:5])) for key in keys}}


def left_over_index(folder, state):
    """The published folder's own index lists shards that are not there."""
    synthetic.write_folder(folder, state, "ema-FP8.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')


def vocabulary(folder, state):
    synthetic.write_folder(folder, state)
    (folder / "tokenizer.json").unlink()
    synthetic.write_vocabulary(folder)
    (folder / "config.json").write_text(synthetic.BROKEN)


FORMS = {
    "model.safetensors": lambda folder, state: synthetic.write_folder(folder, state, "model.safetensors"),
    "another name": lambda folder, state: synthetic.write_folder(folder, state, "somebodys-finetune.safetensors"),
    "config.json that is no JSON": lambda folder, state: synthetic.write_folder(folder, state, config=synthetic.BROKEN),
    "index without its shards": left_over_index,
    "shards": synthetic.write_shards,
    "shards without index": lambda folder, state: synthetic.write_shards(folder, state, index=False),
    "prefix": lambda folder, state: synthetic.write_folder(folder, {f"bagel.{k}": t for k, t in state.items()}),
    "long prefix": lambda folder, state: synthetic.write_folder(folder, {f"a.b.c.{k}": t for k, t in state.items()}),
    "larger vocabulary": lambda folder, state: synthetic.write_folder(folder, larger(state)),
    "float32": lambda folder, state: synthetic.write_folder(folder, {k: t.float() for k, t in state.items()}),
    "vocabulary and merges beside a config.json that is no JSON": vocabulary,
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_same_numbers_paint_the_same_picture(form, state, picture, tmp_path):
    FORMS[form](tmp_path / "model", state)
    assert torch.equal(latents(open_painter(tmp_path / "model"), 3), picture)


@pytest.mark.slow
def test_without_vision_it_paints_the_same_and_the_check_says_so(state, picture, tmp_path):
    blind = {k: t for k, t in state.items() if not k.startswith(("vit", "connector"))}
    folder = synthetic.write_folder(tmp_path / "model", blind)
    assert torch.equal(latents(open_painter(folder), 3), picture)
    assert [part.what for part in recognise(folder).missing] == ["vision model"]


def alone(tmp_path, state, metadata=None):
    """A single file in a folder of others, and the places of ComfyUI where its companions are."""
    (tmp_path / "diffusion_models").mkdir()
    file = tmp_path / "diffusion_models" / "bagel.safetensors"
    save_file(state, file, metadata=metadata)
    other = tmp_path / "sdxl.safetensors"
    save_file({"encoder.conv_out.weight": torch.zeros(8, 1), "quant_conv.weight": torch.zeros(8, 8)}, other)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(b"\x00" * 20)
    synthetic.write_vocabulary(tmp_path / "qwen25_tokenizer")
    return file, Places([other, cut, EMBEDDED / "ae.safetensors"], [tmp_path / "none", tmp_path / "qwen25_tokenizer"])


CONFIGS = {"llm_config.json": synthetic.LLM, "vit_config.json": synthetic.VIT}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["metadata", "sidecar"])
def test_a_single_file_finds_its_companions_elsewhere(form, state, picture, tmp_path):
    about = {"format": "comfyui_bagel", "format_version": 1, "model_configs": CONFIGS}
    file, places = alone(tmp_path, state, {"comfyui_bagel": json.dumps(about)} if form == "metadata" else None)
    if form == "sidecar":
        sidecar = {"format": "comfyui_bagel_sidecar", "checkpoint_size": file.stat().st_size, "metadata": about}
        (tmp_path / "diffusion_models" / "bagel.safetensors.comfyui-bagel.json").write_text(json.dumps(sidecar))
    found = recognise(file, places)
    assert found.profile.name == "bagel" and found.autoencoder == EMBEDDED / "ae.safetensors"
    assert torch.equal(latents(BagelPainter(load_recognised(found, speech_of(found))), 3), picture)
    missing = recognise(file)
    assert [part.what for part in missing.missing if part.needed] == ["autoencoder", "tokenizer"]
    with pytest.raises(StrokesError, match="take the autoencoder of any FLUX.1 or BAGEL download"):
        load_recognised(missing, speech_of(missing))


def test_a_sidecar_of_another_file_is_refused(state, tmp_path):
    file, places = alone(tmp_path, state)
    text = json.dumps({"checkpoint_size": 5, "metadata": {"model_configs": CONFIGS}})
    (tmp_path / "diffusion_models" / "bagel.safetensors.comfyui-bagel.json").write_text(text)
    with pytest.raises(StrokesError, match="belongs to a file of 5 bytes"):
        recognise(file, places)


def test_without_any_json_only_bagel_7b_is_known(state, tmp_path):
    file, places = alone(tmp_path, state)
    with pytest.raises(StrokesError, match="no llm_config.json, which is needed beside weights of other sizes"):
        recognise(file, places)
    whole = synthetic.write_sparse(tmp_path / "whole.safetensors", released_shapes())
    found = recognise(whole, places)
    assert found.parameters == 14_607_260_128 and found.config.language.rope_theta == 1e6
    assert found.profile.max_side == 1024 and found.nbytes == 2 * found.parameters


def only_layers(state):
    layers = set(synthetic.layers(state))
    return {k: t.to(torch.float8_e4m3fn) if k.removesuffix(".weight") in layers else t for k, t in state.items()}


QUANTISED = {
    "fp8 cast, every tensor": (synthetic.cast, None, "fp8", 0.05),
    "fp8 cast, matrices of the layers": (only_layers, None, "fp8", 0.04),
    "scaled fp8, comfy_quant": (lambda s: synthetic.marked(synthetic.scaled_fp8(s), FP8), None, "quantised", 0.04),
    "scaled fp8, metadata": (synthetic.scaled_fp8, FP8, "quantised", 0.04),
    "scaled fp8, older form": (lambda s: synthetic.older(synthetic.scaled_fp8(s)), None, "scaled fp8", 0.04),
    "int8": (lambda s: synthetic.marked(synthetic.int8(s), INT8), None, "quantised", 0.03),
    "int8, a scale a row": (lambda s: synthetic.marked(synthetic.int8(s, True), INT8), None, "quantised", 0.03),
}


@pytest.mark.slow
def test_velocity_error_of_each_quantised_kind(state, published, tmp_path):
    """On the command line: matrices widened, products in full precision. Relative to the bfloat16 file, at one noise."""
    right, table = velocity(open_painter(published)), {}
    for number, (name, (change, layer, kind, most)) in enumerate(QUANTISED.items()):
        stored = change(state)
        folder = synthetic.write_companions(tmp_path / str(number))
        about = synthetic.metadata(stored, layer) if layer else None
        save_file(stored, folder / "ema.safetensors", metadata=about)
        assert recognise(folder).kind.name == kind
        found = velocity(open_painter(folder))
        table[name] = (float((found - right).norm() / right.norm()), most)
    print("\n" + "\n".join(f"{name:34} {error:.4f} (at most {most})" for name, (error, most) in table.items()))
    assert not {name: row for name, row in table.items() if not 0 < row[0] <= row[1]}


@pytest.mark.slow
def test_a_prefix_stands_before_quantised_layers_too(state, tmp_path):
    stored = synthetic.marked(synthetic.scaled_fp8(state), FP8)
    plain = velocity(open_painter(synthetic.write_folder(tmp_path / "plain", stored)))
    behind = {f"bagel.{key}": tensor for key, tensor in stored.items()}
    assert torch.equal(velocity(open_painter(synthetic.write_folder(tmp_path / "behind", behind))), plain)
    folder = synthetic.write_companions(tmp_path / "metadata")
    about = synthetic.metadata(stored, FP8, prefix="bagel.")
    save_file({k: t for k, t in behind.items() if "comfy_quant" not in k}, folder / "ema.safetensors", metadata=about)
    assert torch.equal(velocity(open_painter(folder)), plain)


def tail(ending, tensor=None):
    """A file of which one layer has a tensor of some tool."""
    extra = torch.zeros(3) if tensor is None else tensor
    return lambda state: {**state, f"{synthetic.layers(state)[0]}{ending}": extra}


REFUSED = {
    "bitsandbytes": (tail(".SCB"), "bitsandbytes.*bfloat16 or fp8"),
    "bitsandbytes, 4 bits": (tail(".weight.absmax"), "bitsandbytes"),
    "bitsandbytes, its mark": (tail(".weight_format"), "bitsandbytes"),
    "DFloat11": (tail(".encoded_exponent"), "DFloat11.*bfloat16 or fp8"),
    "GPTQ": (tail(".qweight"), "GPTQ, AutoRound"),
    "AutoRound's zeros": (tail(".qzeros"), "GPTQ, AutoRound"),
    "LoRA": (tail(".lora_A.weight"), "LoRA.*Apply LoRA"),
    "scales that nothing names": (synthetic.scaled_fp8, "form that is not read .*weight_scale"),
    "block scales": (tail(".weight_scale_inv"), "weight_scale_inv"),
    "zero points": (tail(".zeros"), "form that is not read .*zeros"),
    "a codebook": (tail(".weight_codebook"), "weight_codebook"),
    "whole numbers": (lambda s: {**s, "vae2llm.weight": torch.zeros(64, 64, dtype=torch.int8)}, "I8 and nothing says"),
    "an unknown format": (
        lambda s: synthetic.marked(synthetic.scaled_fp8(s), {"format": "svdquant_w4a4"}),
        "'format' is 'svdquant_w4a4'.*float8_e4m3fn",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_kind_that_is_not_read_names_itself(kind, state, tmp_path):
    change, says = REFUSED[kind]
    folder = synthetic.write_folder(tmp_path / "model", change(state))
    with pytest.raises(StrokesError, match=says) as error:
        open_painter(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("model.gguf", b"GGUF\x03\x00\x00\x00", "GGUF"),
        ("renamed.safetensors", b"GGUF\x03\x00\x00\x00", "GGUF"),
        ("model.pt", b"PK\x03\x04rest", "pickle.*convert it"),
        ("model.bin", b"\x80\x02rest", "pickle"),
    ],
)
def test_a_file_of_another_format_names_itself(name, content, says, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StrokesError, match=says):
        open_painter(tmp_path / name)


def test_dfloat11_is_known_by_its_configuration(state, tmp_path):
    folder = synthetic.write_folder(tmp_path / "model", state, config={"dfloat11_config": {"version": "0.2"}})
    with pytest.raises(StrokesError, match="DFloat11"):
        open_painter(folder)


def test_every_refused_kind_says_what_to_do():
    assert all(kind.instead for kind in KINDS[:6]) and not any(kind.instead for kind in KINDS[6:])


def test_packed_formats_ask_for_comfy_kitchen(state, tmp_path, monkeypatch):
    stored = synthetic.marked(synthetic.int8(state, True), {**INT8, "convrot": True, "convrot_groupsize": 64})
    folder = synthetic.write_folder(tmp_path / "model", stored)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StrokesError, match="pip install comfy-kitchen.*open it in ComfyUI"):
        open_painter(folder)


def test_an_unreadable_optional_file_is_one_line_in_the_log(state, tmp_path, caplog):
    folder = synthetic.write_folder(tmp_path / "model", state, config=synthetic.BROKEN)
    with caplog.at_level(logging.WARNING):
        recognise(folder)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1 and "config.json is left out" in lines[0] and "\n" not in lines[0]


def test_the_first_tensor_that_is_not_finite_is_named():
    model = Bagel(synthetic.CONFIG)
    model.initialise(torch.Generator().manual_seed(0))
    assert first_not_finite(model) is None
    name = "language_model.model.layers.3.mlp.up_proj.weight"
    model.get_parameter(name).data[5, 7] = float("inf")
    assert first_not_finite(model) == name


def test_a_borrowed_tokenizer_writes_what_bagel_has_no_token_for_as_text():
    root = Path(os.environ.get("COMFYUI_PATH", Path.home() / "comfy" / "ComfyUI"))
    folder = root / "comfy" / "text_encoders" / "qwen25_tokenizer"
    if not (folder / "vocab.json").exists():
        pytest.skip("no Qwen2.5 tokenizer: set COMFYUI_PATH to a ComfyUI checkout")
    own, borrowed = load_tokenizer(folder), load_tokenizer(folder, borrowed=True)
    assert own.encode("<think>").ids == [151667] and borrowed.encode("<think>").ids == [13708, 766, 29]
    assert special_tokens(own) == special_tokens(borrowed) and borrowed.get_vocab_size() == 151665


def test_a_fixed_table_is_what_it_was_before_it_was_cast():
    table = position_table(8, 64)
    assert torch.equal(exact_table(table.to(torch.float8_e4m3fn)), table)
    assert torch.equal(exact_table(table.to(torch.float8_e5m2)), table)
    other = torch.randn(64, 64).to(torch.float8_e4m3fn)
    assert exact_table(other) is other and exact_table(table) is table


@pytest.mark.parametrize(
    ("matrices", "vectors", "runs_in"),
    [
        ("BF16", "BF16", torch.bfloat16),
        ("BF16", "F32", torch.bfloat16),
        ("F32", "F32", torch.float32),
        ("F16", "F32", torch.float16),
        ("F8_E4M3", "F8_E4M3", torch.bfloat16),
        ("F8_E4M3", "F32", torch.bfloat16),
    ],
)
def test_the_type_a_large_network_runs_in(matrices, vectors, runs_in, tmp_path):
    shapes = released_shapes()
    dtypes = {key: matrices if len(shape) == 2 else vectors for key, shape in shapes.items()}
    file = synthetic.write_sparse(tmp_path / "large.safetensors", shapes, dtypes)
    assert run_dtype(recognise(file)) == runs_in


def test_tensors_beside_the_network_are_passed_over(state, tmp_path):
    """Another network in the file, quantised in its own way, and a name that the prefix alone tells apart."""
    other = {"vae.up.weight": torch.zeros(4, 4, dtype=torch.float8_e4m3fn), "vae.up.weight_scale": torch.tensor(1.0)}
    other["vae.up.comfy_quant"] = torch.tensor(list(json.dumps(FP8).encode()), dtype=torch.uint8)
    stored = {f"bagel.{key}": tensor for key, tensor in state.items()} | other | {"vae2llm.bias": torch.zeros(3)}
    found = recognise(synthetic.write_folder(tmp_path / "model", stored))
    assert found.tensors["vae2llm.bias"].key == "bagel.vae2llm.bias"
    assert not found.quantised and found.nbytes == sum(tensor.nbytes for tensor in state.values())
