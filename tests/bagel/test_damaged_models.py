"""JSON files of a model folder damaged on purpose: each ends in one line that names file and key, soon.

Numbers as text, null, lists, zero, negative, NaN, infinite, nested deep: never a traceback.
"""

from __future__ import annotations

import json

import pytest
from damage import assert_refused, linked, replace_file
from hypothesis import given
from hypothesis import strategies as st

from strokes.bagel.network.config import BAGEL_7B
from strokes.bagel.weights.schema import ConfigFile, LlmFile, VitFile, checked, profile_of, sizes_of, vit_rule_of
from strokes.errors import StrokesError
from strokes.models import EMBEDDED, open_painter

NAN, INFINITY = float("nan"), float("inf")


@pytest.fixture
def folder(tmp_path):
    return linked(tmp_path / "model")


# Values that each key of a JSON file must refuse.
CONFIG = {
    "latent_patch_size": ["2", None, 0, -1, 2.5, NAN, [2], 10**9, True],
    "vae_config": [[], "flux", 5, {"downsample": 0}, {"downsample": 7}, {"downsample": "8"}, {"downsample": None}],
    "vae_config.scale_factor": [0, NAN, "0.3", [0.3]],
    "vae_config.shift_factor": [INFINITY, "0.1"],
    "strokes": [None, [], "miniature", 5],
    "strokes.name": ["", 5, "a\nb", "x" * 101],
    "strokes.dialect": [5, "", "a b", ["plain"]],
    "strokes.size": [[64], [64, 64, 64], [0, 64], ["64", 64], [63, 64], 64, [128, 128], [-64, 64], [64.5, 64]],
    "strokes.multiple": [0, 15, "16", NAN],
    "strokes.max_side": [10**6, -64, "64"],
    "strokes.rounds": [0, 33, "6", None, 2.5, True],
    "strokes.max_text_tokens": [0, -1, 10**9, "64"],
    "strokes.first": [[], None, 5],
    "strokes.first.steps": [0, 1001, "12", None],
    "strokes.first.text_guidance": [NAN, -1, "2", INFINITY],
    "strokes.first.interval": [[0.0], ["0", 1.0], [0.0, 2.0], [NAN, 1.0], 5],
    "strokes.first.renorm": ["none", None, 5],
    "strokes.edit.renorm_min": [-1, 2],
    "strokes.edit.shift": [0, INFINITY, "3"],
    "strokes.edit.extrapolate": ["yes", 1],
    "strokes.text.temperature": [-1, NAN, "0"],
    "strokes.text.top_p": [0, 2],
    "strokes.text.max_tokens": [0, 10**9, "64"],
    "strokes.vit_transform": [[], 5],
    "strokes.vit_transform.max": [0, "64", None, 10**6],
    "strokes.vit_transform.stride": [-1, NAN],
}
LLM = {
    "rope_theta": ["1e6", NAN, 0, -1, [1e6], INFINITY],
    "rms_norm_eps": [0, None, "1e-6", 1, NAN],
    "rope_parameters": [[], {"rope_theta": "x"}],
    "hidden_act": ["relu", None],
}
VIT = {
    "num_attention_heads": [0, "4", None, 4.5, -4],
    "num_channels": [1, 0, "3"],
    "layer_norm_eps": [0, NAN, "x"],
    "hidden_act": ["gelu"],
}
FILES = (("config.json", CONFIG), ("llm_config.json", LLM), ("vit_config.json", VIT))
VALUES = [(name, key, value) for name, table in FILES for key, values in table.items() for value in values]


def with_value(document, key, value):
    *above, last = key.split(".")
    inner = document
    for name in above:
        inner = inner.setdefault(name, {})
    inner[last] = value
    return document


@pytest.mark.parametrize(("name", "key", "value"), VALUES, ids=lambda value: repr(value)[:30])
def test_a_value_out_of_its_range_is_named_with_file_and_key(folder, name, key, value):
    document = with_value(json.loads((EMBEDDED / name).read_text()), key, value)
    replace_file(folder / name, json.dumps(document))
    assert_refused(folder, str(folder / name), f"'{key}")


TOGETHER = {
    "a rule without a part": ("config.json", "strokes.vit_transform", {"max": 64, "min": 64}, "stride' is missing"),
    "an interval backwards": ("config.json", "strokes.first.interval", [1.0, 0.0], "begin before it ends"),
    "a rule backwards": ("config.json", "strokes.vit_transform.min", 65, "stride ≤ min ≤ max"),
    "a stride between patches": ("config.json", "strokes.vit_transform.stride", 5, "multiples of 16 up to 64"),
    "heads that do not divide the width": ("vit_config.json", "num_attention_heads", 5, "cannot be divided by 5"),
    "a patch that does not divide the token": ("config.json", "latent_patch_size", 3, "cannot be divided by 9"),
}


@pytest.mark.parametrize("case", TOGETHER)
def test_values_that_do_not_go_together(folder, case):
    name, key, value, says = TOGETHER[case]
    replace_file(folder / name, json.dumps(with_value(json.loads((EMBEDDED / name).read_text()), key, value)))
    assert_refused(folder, says)


TEXTS = [
    "",
    "nul",
    "[]",
    "5",
    "null",
    '"x"',
    "{",
    '{"rope_theta": ',
    "[" * 100_000,
    '{"a":' * 50_000,
    "9" * 5000,
    b"\xff\xfe{}",
]


@pytest.mark.parametrize("name", ["llm_config.json", "vit_config.json"])
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text)[:20])
def test_a_needed_file_that_is_no_json_object(folder, name, text):
    replace_file(folder / name, text)
    assert_refused(folder, str(folder / name))


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text)[:20])
def test_config_json_may_be_any_rubbish(folder, text):
    """It is optional, and published folders hold one that is no JSON."""
    replace_file(folder / "config.json", text)
    assert open_painter(folder, dialect="miniature").profile.name == folder.name, "nothing of it was read"


# Any JSON

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
KEYS = [(kind, key) for kind, (_, table) in zip((ConfigFile, LlmFile, VitFile), FILES, strict=True) for key in table]


@given(st.data())
def test_any_json_is_a_value_in_range_or_one_line(data):
    """Whatever stands at any key, what is read of it makes a profile and a rule, or says what is wrong."""
    kind, key = data.draw(st.sampled_from(KEYS))
    document = with_value({}, key, data.draw(JSON))
    try:
        found = checked(kind, document, "file.json")
        if isinstance(found, ConfigFile):
            profile = profile_of(found.strokes, "name", BAGEL_7B, "file.json")
            profile.check_size(profile.size)
            assert vit_rule_of(found.strokes, BAGEL_7B, "file.json").max <= 980
        assert all(value == value for value in sizes_of(found).values())
    except StrokesError as error:
        text = str(error)
        assert text.startswith("file.json: '") and "\n" not in text and len(text) < 300, text
