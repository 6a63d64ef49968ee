"""A trajectory's folder with values of other types, files that are none, and pictures repainted outside."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from scripted_painter import ScriptedPainter, same

from strokes.bagel.painter import BagelPainter
from strokes.errors import StrokesError
from strokes.process import stages, store
from strokes.process.pictures import Picture
from strokes.process.trajectory import Painting

SKETCH = ("rounds", 0, "sketch")
ORIGIN = ("rounds", 0, "plan", "origin")


@pytest.fixture
def saved(two_rounds, tmp_path):
    store.save(two_rounds, tmp_path)
    return tmp_path


def put(folder, way: tuple[Any, ...], value: Any) -> None:
    path = folder / store.DOCUMENT
    document = inner = json.loads(path.read_text())
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = value
    path.write_text(json.dumps(document))


def refused(folder) -> str:
    with pytest.raises(StrokesError) as error:
        store.load(folder)
    message = str(error.value)
    assert str(folder) in message and "\n" not in message and len(message) < 500
    return message


@pytest.mark.parametrize(
    "way, value, message",
    [
        (("rounds",), "", "rounds should be a list"),
        (("rounds",), {}, "rounds should be a list"),
        (("end",), [], "end should be an object"),
        (SKETCH, "", "sketch should be an object"),
        ((*SKETCH, "picture"), None, "picture should be an object"),
        ((*SKETCH, "picture", "codec"), 7, "codec should be str"),
        ((*ORIGIN, "author"), "robot", "author should be model or user"),
        ((*ORIGIN, "author"), 3, "author should be model or user"),
        ((*ORIGIN, "settings"), [["steps", 1]], "settings should be an object"),
        ((*ORIGIN, "cost", "tokens"), -1, "a cost below 0"),
        ((*ORIGIN, "cost", "seconds"), 1e300, "a cost below 0 or beyond 64 bits"),
        (("rounds", 0, "critique"), None, "cannot refine now"),
        (("rounds", 0, "refinement", "ended"), True, "cannot plan"),
        (("version",), 0, "no version"),
        (("version",), True, "no version"),
        (("version",), 10**4000, "no version"),
    ],
)
def test_values_of_another_type_are_named(saved, way, value, message):
    put(saved, way, value)
    assert message in refused(saved)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in the file system are Unix's")
@pytest.mark.parametrize("pattern", ["trajectory.json", "pictures/round1-sketch-*.png", "pictures/*.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "circle"])
def test_a_file_that_is_none_is_refused_and_not_waited_for(saved, pattern, kind):
    path = next(saved.glob(pattern))
    path.unlink()
    {"pipe": os.mkfifo, "folder": os.mkdir, "circle": lambda at: at.symlink_to(at.name)}[kind](path)
    refused(saved)


def test_a_folder_that_no_system_can_name(tmp_path):
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(StrokesError):
            store.load(tmp_path / name)


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.bool_])
def test_latents_of_another_kind_are_refused_from_the_header(saved, kind):
    path = next(saved.glob("pictures/round1-sketch-*.safetensors"))
    save_file({"latents": load_file(path)["latents"].astype(kind)}, path)
    assert "where F32 of [C, h, w] was expected" in refused(saved)


def test_a_picture_repainted_in_sixteen_bits_keeps_its_tones(saved):
    path = next(saved.glob("pictures/round1-sketch-*.png"))
    Image.fromarray(np.full((48, 64), 0x8080, np.uint16)).save(path)
    picture = store.load(saved).rounds[0].sketch.picture
    assert picture.latents is None and picture.image.getpixel((0, 0)) == (0x80,) * 3


def test_a_picture_repainted_on_its_side_is_turned(saved):
    path = next(saved.glob("pictures/round1-sketch-*.png"))
    image = Image.new("RGB", (48, 64), "blue")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    assert store.load(saved).rounds[0].sketch.picture.image.size == (64, 48)


@pytest.mark.parametrize(
    "latents",
    [np.full((2, 3, 4), np.nan, np.float32), np.zeros((2, 8, 8), np.float32), np.zeros((2, 3, 4), np.int32)],
)
def test_what_would_not_load_again_is_not_saved(saved, two_rounds, latents):
    first, *others = two_rounds.rounds
    sketch = Painting(Picture(first.sketch.picture.image, latents, "fake"))
    odd = replace(two_rounds, rounds=(replace(first, sketch=sketch), *others))
    with pytest.raises(StrokesError, match="cannot save the trajectory: round1-sketch: "):
        store.save(odd, saved)
    with pytest.raises(StrokesError, match="cannot save the trajectory: a canvas of"):
        store.save(two_rounds.with_size((10**9, 48)), saved)
    assert same(store.load(saved), two_rounds)


def test_a_canvas_that_is_not_the_models_is_refused_where_a_stage_starts():
    painter = ScriptedPainter()
    begun = stages.begin(painter, "a cat").with_size((64, 50))
    assert begun.model == painter.profile.name
    with pytest.raises(StrokesError, match="canvas 64×50: fake needs sides"):
        stages.plan(painter, begun)


def test_latents_that_are_not_the_models_are_refused_where_they_are_read(toy_checkpoint):
    painter = BagelPainter(toy_checkpoint)
    image = Image.new("RGB", painter.profile.size)
    good = painter.encode(Picture(image))
    for latents in (good.latents[:1], good.latents.repeat(2, axis=1).repeat(2, axis=2), good.latents[None]):
        with pytest.raises(StrokesError, match="a picture's latents have shape"):
            painter.encode(Picture(image, latents, good.codec))
