"""Manifests of damaged JSON: whatever stands where, the folder is opened, or the file is named in one line."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strokes.data.samples import OneShotSample
from strokes.data.shards import MANIFEST, VERSION, ShardSet, build
from strokes.errors import StrokesError

SETTINGS = {"seed": 0}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("../shard-00000"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def make(i):
    return [OneShotSample("a red circle", [])]


@pytest.fixture(scope="module")
def whole():
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), SETTINGS, 2, make)
        yield Path(folder), json.loads((Path(folder) / MANIFEST).read_text())


def places(value, path=()):
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed(value, path, new, drop):
    if not path:
        return new
    copy = json.loads(json.dumps(value))
    at = copy
    for key in path[:-1]:
        at = at[key]
    if drop:
        del at[path[-1]]
    else:
        at[path[-1]] = new
    return copy


def opens_or_is_named(folder):
    for use in (ShardSet, lambda folder: build(folder, SETTINGS, 2, make)):
        try:
            use(folder)
        except StrokesError as error:
            assert "\n" not in str(error) and str(folder) in str(error)


@given(data=st.data())
@settings(max_examples=150)
def test_any_value_of_any_type_anywhere(whole, data):
    folder, manifest = whole
    path = data.draw(st.sampled_from(list(places(manifest))))
    damaged = changed(manifest, path, data.draw(JSON), data.draw(st.booleans()))
    (folder / MANIFEST).write_text(json.dumps(damaged))
    opens_or_is_named(folder)


@given(at=st.integers(0, 10_000), junk=st.binary(max_size=4))
@settings(max_examples=60)
def test_any_bytes_anywhere(whole, at, junk):
    folder, manifest = whole
    text = json.dumps(manifest).encode()
    at %= len(text)
    (folder / MANIFEST).write_bytes(text[:at] + junk + text[at + len(junk) :])
    opens_or_is_named(folder)


@pytest.mark.parametrize(
    "shards", [None, 3, "all", {}, [1], [{}], [{"name": "../x", "samples": 1, "kinds": {}, "steps": {}, "files": {}}]]
)
def test_shards_of_another_form_are_refused(tmp_path, shards):
    (tmp_path / MANIFEST).write_text(json.dumps({"version": VERSION, "settings": SETTINGS, "shards": shards}))
    for use in (ShardSet, lambda folder: build(folder, SETTINGS, 2, make)):
        with pytest.raises(
            StrokesError, match=r"manifest\.json does not list its shards: delete .*build the data again"
        ):
            use(tmp_path)


def test_nested_without_end_is_no_json(tmp_path):
    (tmp_path / MANIFEST).write_text("[" * 100_000)
    with pytest.raises(StrokesError, match=r"manifest\.json is not valid JSON"):
        ShardSet(tmp_path)
