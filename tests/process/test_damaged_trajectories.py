"""A damaged trajectory is refused when it is loaded, in one line that names the file; nothing odd is saved either."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from strokes.errors import StrokesError
from strokes.process import store


@pytest.fixture
def saved(two_rounds, tmp_path):
    store.save(two_rounds, tmp_path)
    return tmp_path


def edit(folder, change) -> None:
    path = folder / store.DOCUMENT
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def refused(folder) -> str:
    with pytest.raises(StrokesError) as error:
        store.load(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


SIZES: list[Any] = [
    [0, 48], [-64, 48], [10**9, 48], [64.5, 48], [True, 48], ["64", 48], [64], [64, 48, 3], None, "64x48",
    {"width": 64}, [10**30, 48], [float("nan"), 48], [float("inf"), 48], [[64], 48],
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_a_canvas_that_cannot_be(saved, size):
    edit(saved, lambda document: document.update(size=size))
    refused(saved)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 10**25, -(10**25)])
def test_numbers_that_no_document_holds(saved, number):
    edit(saved, lambda document: document["rounds"][0]["plan"]["origin"].update(seed=number))
    assert "number" in refused(saved)
    edit(saved, lambda document: document["rounds"][0]["plan"]["origin"].update(seed=1, settings={"x": [number]}))
    refused(saved)


def test_numbers_written_beyond_float(saved):
    path = saved / store.DOCUMENT
    path.write_text(path.read_text().replace('"seconds": 0.0', '"seconds": 1e999', 1))
    refused(saved)
    path.write_text(path.read_text().replace("1e999", "9" * 5000, 1))
    refused(saved)


@pytest.mark.parametrize("key", ["prompt", "model"])
def test_text_that_is_no_unicode(saved, two_rounds, key, tmp_path):
    edit(saved, lambda document: document.update({key: "a \ud800 cat"}))
    assert "surrogate" in refused(saved)
    before = sorted(path.name for path in saved.rglob("*"))
    with pytest.raises(StrokesError, match="surrogate"):
        store.save(replace(two_rounds, **{key: "a \udfff cat"}), saved)
    assert sorted(path.name for path in saved.rglob("*")) == before


def test_flags_are_no_numbers(saved):
    edit(saved, lambda document: document["rounds"][0]["plan"]["origin"]["cost"].update(tokens=True))
    assert "tokens should be int" in refused(saved)


@pytest.mark.parametrize(
    "rounds", [{"plan": 1}, "rounds", 3, [None], [[]], [{"plan": None, "critique": 1}], [{"plan": {"origin": []}}]]
)
def test_rounds_of_another_type(saved, rounds):
    edit(saved, lambda document: document.update(rounds=rounds))
    refused(saved)


def test_a_document_nested_without_end(saved):
    for text in ("[" * 100_000, '{"version": 1, "size": ' + "[" * 100_000, '{"a":' * 50_000):
        (saved / store.DOCUMENT).write_text(text)
        refused(saved)


NAMES = ["pictures/\0.png", "/etc/passwd", "../x.png", "pictures/" + "x" * 5000, "pictures", "\ud800", "", 3, None, []]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["file", "latents"])
def test_a_picture_by_a_name_that_leads_nowhere(saved, name, key):
    edit(saved, lambda document: document["rounds"][0]["sketch"]["picture"].update({key: name}))
    refused(saved)


def latents_of(folder, two_rounds):
    return next(folder.glob("pictures/round1-sketch-*.safetensors"))


LATENTS = {
    "not a number": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 5, np.nan, x),
    "infinite": lambda x: np.where(x == x.max(), np.inf, x),
    "huge": lambda x: x * np.float32(1e20),
    "another grid": lambda x: x.repeat(2, axis=1),
    "turned": lambda x: x.transpose(0, 2, 1),
    "flat": lambda x: x.reshape(-1),
    "a batch": lambda x: x[None],
    "integers": lambda x: x.astype(np.int32),
    "empty": lambda x: x[:0],
}


@pytest.mark.parametrize("damage", LATENTS.values(), ids=LATENTS)
def test_latents_that_do_not_belong_to_the_picture(saved, two_rounds, damage):
    path = latents_of(saved, two_rounds)
    latents = load_file(path)["latents"]
    save_file({"latents": np.ascontiguousarray(damage(latents))}, path)
    assert path.name in refused(saved) and "latents" in refused(saved)


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


odd = st.sampled_from([None, True, -1, 0, 2**70, 1.5, float("inf"), "", "x", "\ud800", [], [[]], {}, {"a": {}}])


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_anywhere_loads_or_is_refused_in_one_line(saved, data):
    path = saved / store.DOCUMENT
    document = json.loads(path.read_text())
    *way, last = data.draw(st.sampled_from([place for place in places(document) if place]))
    inner = document
    for key in way:
        inner = inner[key]
    before, inner[last] = inner[last], data.draw(odd)
    whole = path.read_text()
    try:
        path.write_text(json.dumps(document))
        store.load(saved)
    except StrokesError as error:
        assert "\n" not in str(error), (last, before)
    finally:
        path.write_text(whole)
