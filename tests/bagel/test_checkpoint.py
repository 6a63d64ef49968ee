"""A model folder opens, and a broken one says what is wrong with it."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from strokes.bagel.network.autoencoder import Autoencoder, to_original_names
from strokes.bagel.painter import BagelPainter
from strokes.bagel.weights.checkpoint import load
from strokes.errors import StrokesError
from strokes.process.pictures import Picture, open_image


@pytest.fixture
def folder(toy_folder, tmp_path):
    return shutil.copytree(toy_folder, tmp_path / "model", ignore=shutil.ignore_patterns("state"))


def edit(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_sizes_come_from_the_tensors(toy_checkpoint):
    config = toy_checkpoint.model.config
    assert (config.language.hidden_size, config.language.num_hidden_layers) == (32, 2)
    assert config.vision is not None and config.vision.num_hidden_layers == 1
    assert config.token_dim == 64 and config.max_latent_size == 4


def test_a_single_file_finds_its_companions(toy_folder):
    single, whole = (load(path).model.state_dict() for path in (toy_folder / "ema.safetensors", toy_folder))
    assert all(torch.equal(single[key], whole[key]) for key in whole)


def test_more_embedding_rows_than_configured_are_fine(folder):
    def grow(tensors):
        for key in ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight"):
            tensors[key] = torch.cat((tensors[key], tensors[key][:3]))

    edit(folder / "ema.safetensors", grow)
    config = json.loads((folder / "llm_config.json").read_text())
    assert load(folder).model.config.language.vocab_size == config["vocab_size"] + 3


def test_a_model_without_vision_still_paints_and_says_it_cannot_look(folder):
    def blind(tensors):
        for key in [k for k in tensors if k.startswith(("vit", "connector"))]:
            del tensors[key]

    edit(folder / "ema.safetensors", blind)
    painter = BagelPainter(load(folder))
    picture = Picture(Image.new("RGB", (64, 64)))
    assert len(painter.read_picture(painter.blank(), picture, "latents+pixels").segments) == 1
    with pytest.raises(StrokesError, match="without vision"):
        painter.read_picture(painter.blank(), picture, "pixels")


def drop(key):
    return lambda tensors: tensors.pop(key)


def flatten(tensors):
    key = "language_model.model.embed_tokens.weight"
    tensors[key] = tensors[key].flatten()


def narrow(tensors):
    tensors["encoder.down.0.block.0.conv1.weight"] = tensors["encoder.down.0.block.0.conv1.weight"][:5].contiguous()


def reshape(tensors):
    tensors["vae2llm.weight"] = tensors["vae2llm.weight"][:5].contiguous()


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("ema.safetensors", drop("vae2llm.bias"), r"lacks 'vae2llm.bias' \[32\]"),
        ("ema.safetensors", drop("language_model.model.embed_tokens.weight"), "no tensor 'language_model.model.embed"),
        ("ema.safetensors", reshape, r"'vae2llm.weight' has shape \[5, 64\], expected \[32, 64\]"),
        ("ema.safetensors", flatten, "embed_tokens.weight' has shape .*; 2 dimensions were expected"),
        ("ae.safetensors", narrow, "multiples of 32"),
        ("ae.safetensors", drop("decoder.conv_out.bias"), "lacks 'decoder.conv_out.bias'"),
    ],
)
def test_a_missing_or_misshapen_tensor_is_named(folder, file, change, says):
    edit(folder / file, change)
    with pytest.raises(StrokesError, match=says):
        load(folder)


@pytest.mark.parametrize(
    "name", ["llm_config.json", "vit_config.json", "ema.safetensors", "ae.safetensors", "tokenizer.json"]
)
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_missing_or_truncated_file_is_named(folder, name, damage):
    path = folder / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(StrokesError, match=name):
        load(folder)


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(StrokesError, match="no model folder"):
        load(tmp_path)
    with pytest.raises(StrokesError, match="no model at"):
        load(tmp_path / "nothing")


@pytest.mark.slow
def test_every_missing_tensor_of_the_autoencoder_is_named(toy_folder):
    tensors = load_file(toy_folder / "ae.safetensors")
    for key in tensors:
        with pytest.raises(StrokesError, match=f"lacks '{key}'"):
            Autoencoder.from_state_dict({k: v for k, v in tensors.items() if k != key})


def test_original_names_and_back(toy_folder):
    tensors = load_file(toy_folder / "ae.safetensors")
    again = to_original_names(Autoencoder.from_state_dict(tensors).module)
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[key], tensors[key]) for key in tensors)


def test_latents_of_the_same_autoencoder_are_kept_and_others_encoded_anew(toy_painter):
    latents = torch.randn(16, 8, 8).numpy()
    image = Image.new("RGB", (64, 64), "red")
    own = Picture(image, latents, toy_painter.checkpoint.codec)
    foreign = Picture(image, latents, "another")
    both = (toy_painter.read_picture(toy_painter.blank(), p, "latents+pixels") for p in (own, foreign))
    kept, encoded = (prefix.segments[0].content for prefix in both)
    assert torch.equal(kept, torch.from_numpy(latents))
    assert not torch.equal(encoded, kept)


def test_words_it_cannot_know_and_too_long_texts(toy_painter):
    with pytest.raises(StrokesError, match="does not know 'elephant'; it knows: .*circle"):
        toy_painter.check_text("a red elephant")
    with pytest.raises(StrokesError, match="65 tokens long.* at most 64"):
        toy_painter.check_text("a " * 65)


def test_bytes_that_are_no_text(toy_painter):
    with pytest.raises(StrokesError, match="not valid UTF-8"):
        toy_painter.check_text("a red \udcff circle")


def test_typed_control_tokens_stay_plain_text(toy_painter):
    with pytest.raises(StrokesError, match="does not know"):
        toy_painter.check_text("a red circle <|im_end|>")


def test_pictures_that_cannot_be_read(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    assert open_image(str(tmp_path / "whole.png")).size == (40, 40)
    for name in ("cut.png", "text.png", "none.png"):
        with pytest.raises(StrokesError, match=name):
            open_image(str(tmp_path / name))
