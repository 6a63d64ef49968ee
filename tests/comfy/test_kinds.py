"""Every kind of checkpoint in ComfyUI: what the menu lists, the same pictures as on the command line, what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import synthetic_bagel as synthetic
import torch
from graphs import inspect, node, one_round, plan, refine, report, sketch, start
from safetensors.torch import load_file, save_file

from strokes.bagel.painter import BagelPainter
from strokes.bagel.weights.checkpoint import load_recognised
from strokes.bagel.weights.companions import Places
from strokes.bagel.weights.recognise import recognise
from strokes.models import EMBEDDED, open_painter
from strokes.process import stages
from strokes.process.painter import PaintOverrides

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


@pytest.fixture(scope="module")
def state():
    return synthetic.weights()


@pytest.fixture(scope="module")
def models(base):
    return base / "models"


@pytest.fixture(scope="module")
def published(state, models):
    synthetic.write_folder(models / "strokes" / "published", state, config=CONFIG)
    return "published/ema.safetensors"


@pytest.fixture(scope="module")
def pictures(published, models):
    return on_the_command_line(open_painter(models / "strokes" / "published"))


# The same numbers in every form of files


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


FORMS = ("fine-tune", "shards", "prefix", "larger vocabulary", "float32")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["published", *FORMS])
def test_the_same_numbers_paint_the_command_lines_pictures(fresh, models, state, published, pictures, form):
    name = published if form == "published" else f"{form}/{write(form, models / 'strokes' / form, state)}"
    assert in_comfy(fresh, name) == pictures


def without_vision(state):
    return {key: tensor for key, tensor in state.items() if not key.startswith(("vit", "connector"))}


@pytest.mark.slow
def test_a_config_that_is_no_json(fresh, models, state):
    """It counts as absent, and the profile with it: the pictures are the command line's of the same folder."""
    form = "config.json that is no JSON"
    # Without a profile pixels are scaled for a vision model of BAGEL's size.
    name = write(form, models / "bagel" / form, without_vision(state))
    assert in_comfy(fresh, f"{form}/{name}") == on_the_command_line(open_painter(models / "bagel" / form))


@pytest.mark.slow
def test_a_checkpoint_without_vision(fresh, models, state):
    folder = synthetic.write_folder(models / "strokes" / "blind", without_vision(state), config=CONFIG)
    assert in_comfy(fresh, "blind/ema.safetensors") == on_the_command_line(open_painter(folder))


@pytest.fixture(scope="module")
def qwen(comfy):
    return comfy[0] / "comfy" / "text_encoders" / "qwen25_tokenizer"


@pytest.fixture(scope="module")
def wide(state):
    """The network with as many words as BAGEL-7B, which ComfyUI's own tokenizer needs."""
    return {**state, **{key: state[key].repeat(476, 1)[:152064] for key in (EMBEDDING, HEAD)}}


@pytest.fixture
def vae(models):
    """FLUX's autoencoder in models/vae, among another model's."""
    (models / "vae").mkdir(exist_ok=True)
    save_file({"encoder.conv_out.weight": torch.zeros(8, 4, 3, 3)}, models / "vae" / "another.safetensors")
    file = Path(shutil.copy(EMBEDDED / "ae.safetensors", models / "vae" / "flux.safetensors"))
    yield file
    file.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["metadata", "sidecar"])
def test_a_single_file_among_diffusion_models(fresh, models, wide, vae, qwen, place):
    (models / "diffusion_models").mkdir(exist_ok=True)
    file = models / "diffusion_models" / f"bagel {place}.safetensors"
    about = {"format": "comfyui_bagel", "format_version": 1, "model_configs": CONFIGS}
    save_file(wide, file, metadata={"comfyui_bagel": json.dumps(about)} if place == "metadata" else None)
    if place == "sidecar":
        sidecar = {"format": "comfyui_bagel_sidecar", "checkpoint_size": file.stat().st_size, "metadata": about}
        file.with_name(file.name + ".comfyui-bagel.json").write_text(json.dumps(sidecar))
    theirs = BagelPainter(load_recognised(recognise(file, Places([vae], [qwen]))))
    assert in_comfy(fresh, file.name) == on_the_command_line(theirs)
    vae.unlink()
    error = fresh.fails(graph(file.name))
    vae.touch()
    assert "put it there or into models/vae" in error


def test_the_menu(fresh, models, state):
    folder = models / "diffusion_models"
    folder.mkdir(exist_ok=True)
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(4)}, folder / "flux.safetensors")
    save_file({"model.llm2vae.weight": torch.zeros(4)}, folder / "bagel.safetensors")
    (folder / "cut.safetensors").write_bytes(b"\xff" * 12)
    synthetic.write_shards(models / "bagel" / "sharded", state)
    synthetic.write_shards(models / "bagel" / "no index", state, count=2, index=False)
    (models / "bagel" / "bagel.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    (models / "bagel" / "vae").mkdir()
    shutil.copy(EMBEDDED / "ae.safetensors", models / "bagel" / "vae" / "diffusion_pytorch_model.safetensors")
    listed = fresh("checkpoints")
    assert listed[0] == "strokes-embedded"
    shared = {"flux.safetensors", "bagel.safetensors", "cut.safetensors"} & set(listed)
    assert shared == {"bagel.safetensors"}
    assert [name for name in listed if name.startswith("sharded/")] == ["sharded/model.safetensors.index.json"]
    assert sum(name.startswith("no index/") for name in listed) == 2
    assert "bagel.gguf" in listed and not any("diffusion_pytorch_model" in name or "ae." in name for name in listed)


def test_every_file_of_a_model_is_in_the_fingerprint(fresh, models, state):
    """A changed shard, configuration or autoencoder opens the model anew; nothing changed, nothing is opened."""
    folder = models / "strokes" / "changing"
    write("shards", folder, state)
    asked = start(checkpoint="changing/model.safetensors.index.json") | {"report": report(trajectory=["begin", 0])}
    assert "model" in fresh.run(asked)["ran"]
    assert "model" not in fresh.run(asked)["ran"]
    for name in ("model-00002-of-00003.safetensors", "ae.safetensors"):
        save_file(load_file(folder / name), folder / name)
        assert "model" in fresh.run(asked)["ran"], name
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text((folder / name).read_text() + "\n")
        assert "model" in fresh.run(asked)["ran"], name


# Other numbers: quantised

FP8, INT8 = {"format": "float8_e4m3fn"}, {"format": "int8_tensorwise"}
FULL = {**FP8, "full_precision_matrix_mult": True}
CAST, FORM = ["Parameter", "torch.float8_e4m3fn"], ["QuantizedTensor", "torch.float8_e4m3fn"]
WHOLE = ["QuantizedTensor", "torch.int8"]


def layers_only(state):
    names = {f"{layer}.weight" for layer in synthetic.layers(state)}
    return {key: tensor.to(torch.float8_e4m3fn) if key in names else tensor for key, tensor in state.items()}


# Change of the weights, JSON of a layer in the metadata, what a layer's weight is then, and the largest error.
QUANTISED = {
    "fp8 cast, every tensor": (synthetic.cast, None, CAST, 0.05),
    "fp8 cast, the layers' matrices": (layers_only, None, CAST, 0.04),
    "scaled fp8, comfy_quant": (lambda s: synthetic.marked(synthetic.scaled_fp8(s), FP8), None, FORM, 0.05),
    "scaled fp8, full precision products": (
        lambda s: synthetic.marked(synthetic.scaled_fp8(s), FULL),
        None,
        FORM,
        0.04,
    ),
    "scaled fp8, metadata": (synthetic.scaled_fp8, FP8, FORM, 0.05),
    "scaled fp8, older form": (lambda s: synthetic.older(synthetic.scaled_fp8(s)), None, FORM, 0.05),
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
def test_velocity_error_with_fp8_products(driver_with, published, quantised):
    """As on a card that multiplies fp8: activations are quantised too, but where the file wants full precision."""
    scaled = {kind: name for kind, name in quantised.items() if kind.startswith("scaled")}
    _, error, _ = errors(driver_with("--supports-fp8-compute"), published, scaled, "bfloat16")
    assert not too_large(error, 0)
    assert error["scaled fp8, comfy_quant"] > error["scaled fp8, full precision products"]


@pytest.mark.slow
def test_the_forms_of_scaled_fp8_are_one(fresh, quantised):
    kinds = ("scaled fp8, comfy_quant", "scaled fp8, metadata", "scaled fp8, older form")
    found = [in_comfy(fresh, quantised[kind]) for kind in kinds]
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp8 cast, every tensor", "scaled fp8, comfy_quant", "int8"])
def test_a_lora_on_quantised_weights(fresh, models, quantised, kind):
    layer, generator = "language_model.model.layers.1.mlp_moe_gen.up_proj", torch.Generator().manual_seed(7)
    up, down = torch.randn(128, 2, generator=generator), torch.randn(2, 64, generator=generator)
    save_file({f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down}, models / "loras" / "q.safetensors")
    plain = in_comfy(fresh, quantised[kind])
    before = fresh("weights")
    lora = {"lora": node("StrokesApplyLora", model=["model", 0], lora="q.safetensors", strength=1.0)}
    patched = graph(quantised[kind], **lora)
    for stage in ("sketch", "refine"):
        patched[stage]["inputs"]["model"] = ["lora", 0]
    assert fresh.run(patched)["reports"][0]["pictures"] != plain[0]
    assert fresh("weights") == before and in_comfy(fresh, quantised[kind]) == plain


# Refused


def tail(ending):
    """One layer with a tensor of some tool beside it."""
    return lambda state: {**state, f"{synthetic.layers(state)[0]}{ending}": torch.zeros(3)}


REFUSED = {
    "bitsandbytes": (tail(".SCB"), "quantised by bitsandbytes, which is not read: take the model's bfloat16"),
    "dfloat11": (tail(".encoded_exponent"), "compressed by DFloat11"),
    "gptq": (tail(".qweight"), "quantised by GPTQ, AutoRound or AWQ"),
    "lora": (tail(".lora_A.weight"), "put it on with Apply LoRA"),
    "scales": (synthetic.scaled_fp8, "is quantised in a form that is not read"),
    "format": (lambda s: synthetic.marked(synthetic.scaled_fp8(s), {"format": "svdquant"}), "'format' is 'svdquant'"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refused_kind_names_itself_before_the_run(fresh, models, state, kind):
    change, says = REFUSED[kind]
    synthetic.write_folder(models / "strokes" / f"refused {kind}", change(state))
    found = fresh("run", prompt=graph(f"refused {kind}/ema.safetensors"))
    assert [(name, message) for name, message, _ in found["invalid"]] == [
        ("model", "Custom validation failed for node")
    ]
    details = found["invalid"][0][2]
    assert says in details and "\n" not in details


def test_gguf_is_refused_before_the_run(fresh, models):
    (models / "strokes" / "small.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    assert "is GGUF, llama.cpp's file format, which is not read" in str(
        fresh("run", prompt=graph("small.gguf"))["invalid"]
    )


def test_a_missing_shard_is_named_before_the_run(fresh, models, state):
    folder = synthetic.write_shards(models / "strokes" / "incomplete", state)
    (folder / "model-00002-of-00003.safetensors").unlink()
    invalid = str(fresh("run", prompt=graph("incomplete/model.safetensors.index.json"))["invalid"])
    assert "lacks the shard model-00002-of-00003.safetensors" in invalid


def test_a_model_that_ships_along_runs_as_before(fresh):
    assert fresh.run(one_round())["reports"]
