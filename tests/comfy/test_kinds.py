"""Every kind of file in ComfyUI: the menu, the same pictures as on the command line, and what is refused before a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import synthetic_bagel as synthetic
import torch
from checkpoints import CONFIG, CONFIGS, EMBEDDING, HEAD, graph, in_comfy, on_the_command_line, write
from graphs import one_round, report, start
from safetensors.torch import load_file, save_file

from strokes.bagel.painter import BagelPainter
from strokes.bagel.weights.checkpoint import load_recognised
from strokes.bagel.weights.companions import Places
from strokes.bagel.weights.recognise import recognise
from strokes.bagel.weights.speech import speech_of
from strokes.models import EMBEDDED, open_painter


@pytest.fixture(scope="module")
def pictures(published, models):
    return on_the_command_line(open_painter(models / "strokes" / "published"))


# The same numbers in every form of files


FORMS = ("fine-tune", "shards", "prefix", "larger vocabulary", "float32")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["published", *FORMS])
def test_the_same_numbers_paint_the_command_lines_pictures(fresh, models, state, published, pictures, form):
    name = published if form == "published" else f"{form}/{write(form, models / 'strokes' / form, state)}"
    assert in_comfy(fresh, name) == pictures


def without_vision(state):
    return {key: tensor for key, tensor in state.items() if not key.startswith(("vit", "connector"))}


@pytest.mark.slow
def test_a_config_that_is_no_json(fresh, base, models, state):
    """It counts as absent, with one line in the log, and the profile with it: the pictures are the command line's."""
    form = "config.json that is no JSON"
    # Without a profile pixels are scaled for a vision model of BAGEL's size.
    name = write(form, models / "bagel" / form, without_vision(state))
    assert in_comfy(fresh, f"{form}/{name}") == on_the_command_line(open_painter(models / "bagel" / form))
    assert (base / "driver.log").read_text().count(f"{form}/config.json is left out") == 1


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
    found = recognise(file, Places([vae], [qwen]))
    theirs = BagelPainter(load_recognised(found, speech_of(found)))
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
