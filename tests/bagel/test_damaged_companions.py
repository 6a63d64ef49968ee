"""Autoencoders, tokenizers, shards and paths damaged on purpose: each ends in one line that names the file, soon."""

from __future__ import annotations

import json
import os
import sys

import pytest
import torch
from damage import assert_refused, header_of, linked, packed, replace_file
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from synthetic_bagel import write_vocabulary

from strokes.bagel.weights.header import Header, read_header
from strokes.errors import StrokesError
from strokes.models import EMBEDDED, open_painter


@pytest.fixture
def folder(tmp_path):
    return linked(tmp_path / "model")


AUTOENCODERS = {
    "level 10⁶": ("encoder.down.1000000.block.0.conv1.weight", torch.zeros(1), "beyond the 8 levels"),
    "block 10⁶": ("encoder.down.0.block.1000000.conv1.weight", torch.zeros(1), "beyond the 8 levels"),
    "a block of the decoder": ("decoder.up.0.block.9.conv1.weight", torch.zeros(1), "beyond the 8 levels"),
    "a third of a level": ("encoder.down.4.block.0.norm1.weight", torch.zeros(32), "lacks"),
    "whole numbers": ("decoder.conv_in.bias", torch.zeros(64, dtype=torch.int8), "stored as I8"),
    "fp8": ("decoder.conv_in.bias", torch.zeros(64, dtype=torch.float8_e4m3fn), "stored as F8_E4M3"),
    "other latents": ("encoder.conv_out.weight", torch.zeros(8, 64, 3, 3), "4 latent channels, the network 16"),
    "a scalar": ("decoder.conv_in.weight", torch.tensor(1.0), "has shape []"),
    "a scalar for its latents": ("encoder.conv_out.weight", torch.tensor(1.0), "encoder.conv_out.weight"),
    "a scalar for its pixels": ("decoder.conv_out.weight", torch.tensor(1.0), "decoder.conv_out.weight"),
    "a scalar for its width": ("encoder.down.0.block.0.conv1.weight", torch.tensor(1.0), "encoder.down.0"),
    "another width": ("encoder.down.0.block.0.conv1.weight", torch.zeros(33, 32, 3, 3), "multiples of 32"),
}


@pytest.mark.parametrize("case", AUTOENCODERS)
def test_an_autoencoder_that_is_none(folder, case):
    key, tensor, says = AUTOENCODERS[case]
    state = {**load_file(EMBEDDED / "ae.safetensors"), key: tensor}
    (folder / "ae.safetensors").unlink()
    save_file(state, folder / "ae.safetensors")
    assert_refused(folder, "ae.safetensors", says)


TOKENIZER = (EMBEDDED / "tokenizer.json").read_text()
TOKENIZERS = {
    "empty": "",
    "cut": TOKENIZER[: len(TOKENIZER) // 2],
    "an empty object": "{}",
    "a list": "[]",
    "bytes": b"\xff\xfe\x00",
    "nested deep": "[" * 100_000,
    "another model": TOKENIZER.replace('"WordLevel"', '"Elephant"'),
    "no markers": TOKENIZER.replace("<|im_start|>", "<|begin|>"),
    "more words than rows": TOKENIZER.replace(
        '"vocab": {', '"vocab": {' + "".join(f'"w{i}": {i + 100}, ' for i in range(99))
    ),
}


@pytest.mark.parametrize("case", TOKENIZERS)
def test_a_damaged_tokenizer(folder, case):
    replace_file(folder / "tokenizer.json", TOKENIZERS[case])
    assert_refused(folder, "tokenizer")


VOCABULARIES = {
    "a vocabulary that is no JSON": ("vocab.json", "{"),
    "a vocabulary of texts": ("vocab.json", '{"a": "b"}'),
    "a vocabulary that is a list": ("vocab.json", "[1, 2]"),
    "merges of unknown tokens": ("merges.txt", "#version: 0.2\nqqq zzz\n"),
    "merges of one word": ("merges.txt", "#version: 0.2\nword\n"),
    "a configuration that is no JSON": ("tokenizer_config.json", "{"),
    "added tokens that are a list": ("tokenizer_config.json", '{"added_tokens_decoder": [5]}'),
    "a class of code": (
        "tokenizer_config.json",
        '{"auto_map": {"AutoTokenizer": ["evil.Evil", null]}, "tokenizer_class": "Evil"}',
    ),
}


@pytest.mark.parametrize("case", VOCABULARIES)
def test_a_damaged_vocabulary(folder, case):
    name, content = VOCABULARIES[case]
    (folder / "tokenizer.json").unlink()
    write_vocabulary(folder)
    marker = folder.parent / "code-ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    replace_file(folder / name, content)
    assert_refused(folder, str(folder), "vocab.json")
    assert not marker.exists()


def shards(folder, state=None, index=None):
    """The embedded model in two shards, with an index."""
    state = state or load_file(EMBEDDED / "ema.safetensors")
    (folder / "ema.safetensors").unlink()
    names = [f"model-{n}-of-00002.safetensors" for n in ("00001", "00002")]
    keys = sorted(state)
    for number, name in enumerate(names):
        save_file({key: state[key] for key in keys[number::2]}, folder / name)
    place = {key: names[number % 2] for number, key in enumerate(keys)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place} if index is None else index))
    return names, keys


def test_a_shard_that_is_missing_is_named(folder):
    names, _ = shards(folder)
    open_painter(folder)
    open_painter(folder / names[1])
    (folder / names[0]).unlink()
    assert_refused(folder, f"lacks the shard {names[0]}")
    (folder / "model.safetensors.index.json").unlink()
    assert_refused(folder, f"lacks {names[0]}", "model.safetensors.index.json")


def test_a_shard_cut_off_is_named(folder):
    names, _ = shards(folder)
    content = (folder / names[1]).read_bytes()
    (folder / names[1]).write_bytes(content[:-100])
    assert_refused(folder, names[1], "truncated")


def test_a_tensor_in_two_shards_is_named(folder):
    names, keys = shards(folder)
    other = load_file(folder / names[1]) | {keys[0]: load_file(folder / names[0])[keys[0]]}
    save_file(other, folder / names[1])
    assert_refused(folder, keys[0], *names, "two shards")


INDEXES = {
    "no map": {},
    "an empty map": {"weight_map": {}},
    "a map that is a list": {"weight_map": ["model-00001-of-00002.safetensors"]},
    "numbers": {"weight_map": {"a": 5}},
    "a file elsewhere": {"weight_map": {"a": "../elsewhere.safetensors"}},
    "an absolute path": {"weight_map": {"a": "/etc/passwd.safetensors"}},
    "a pickle": {"weight_map": {"a": "pytorch_model.bin"}},
    "a shard without end": {"weight_map": {"a": "x" * 300 + ".safetensors"}},
    "a list": [],
}


@pytest.mark.parametrize("case", INDEXES)
def test_a_damaged_index(folder, case):
    shards(folder, index=INDEXES[case])
    assert_refused(folder, "model.safetensors.index.json")


def test_an_index_whose_shards_lack_a_tensor(folder):
    state = load_file(EMBEDDED / "ema.safetensors")
    del state["vae2llm.bias"]
    shards(folder, state)
    assert_refused(folder, "vae2llm.bias")


def test_paths_that_are_no_model(folder, tmp_path):
    assert_refused(tmp_path / "nothing", "no model at")
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / "empty", "no model folder")
    for name in ("one", "two"):
        (tmp_path / "empty" / f"{name}.safetensors").symlink_to(EMBEDDED / "ema.safetensors")
    assert_refused(tmp_path / "empty", "several models (one.safetensors, two.safetensors")
    (folder / "ema.safetensors").unlink()
    (folder / "ema.safetensors").mkdir()
    assert_refused(folder, "ema.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes in the file system are Unix's")
@pytest.mark.parametrize(
    "name", ["ema.safetensors", "ae.safetensors", "llm_config.json", "tokenizer.json", "config.json"]
)
def test_a_pipe_in_the_place_of_a_file(folder, name):
    """It would be read without end. config.json is optional: it is left out."""
    (folder / name).unlink()
    os.mkfifo(folder / name)
    if name == "config.json":
        assert open_painter(folder, dialect="miniature").profile.name == folder.name, "nothing of it was read"
    else:
        assert_refused(folder, name)


HEADER, DATA = header_of((EMBEDDED / "ae.safetensors").read_bytes())
SMALL = {
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "b": {"dtype": "I8", "shape": [], "data_offsets": [8, 9]},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    key=st.sampled_from(["a", "b", "__metadata__", "c"]),
    part=st.sampled_from(["dtype", "shape", "data_offsets", ""]),
    value=JSON,
)
def test_any_header_is_read_or_refused_in_one_line(key, part, value, tmp_path_factory):
    header = json.loads(json.dumps(SMALL))
    if part and key in header:
        header[key][part] = value
    else:
        header[key] = value
    one_line(packed(header, b"\0" * 9), tmp_path_factory)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_in_one_line(content, tmp_path_factory):
    one_line(content, tmp_path_factory)


def one_line(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(content)
    try:
        assert isinstance(read_header(path), Header)
    except StrokesError as error:
        assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 900
