"""What nodes ask of a painter: pictures to latents and back, in a format that it describes."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from strokes.bagel.engine import flow
from strokes.bagel.painter import BagelPainter
from strokes.errors import StrokesError
from strokes.process import oneshot
from strokes.process.dialects.choice import READY
from strokes.process.pictures import Picture
from strokes.process.settings import RENORMS


def test_latents_go_out_and_come_back_in_the_painters_own_format(toy_painter):
    style = toy_painter.latent_format
    picture = toy_painter.encode(Picture(Image.new("RGB", (64, 64), "red")))
    assert picture.latents.dtype == np.float32 and picture.latents.shape[0] == style.channels
    assert picture.codec == style.codec == style.name, "its small autoencoder is not FLUX's"
    decoded = toy_painter.decode(picture.latents)
    assert decoded.codec == style.codec and np.array_equal(decoded.latents, picture.latents)
    assert decoded.image.size == (64, 64)
    assert np.array_equal(toy_painter.encode(decoded).latents, decoded.latents), "they are not encoded anew"


def test_the_latents_of_an_autoencoder_of_flux_size_are_flux(toy_painter, monkeypatch):
    monkeypatch.setattr(type(toy_painter.checkpoint.autoencoder), "is_flux", True)
    style = toy_painter.latent_format
    assert (style.name, style.scale, style.shift) == ("flux", 0.3611, 0.1159)
    assert style.codec == toy_painter.checkpoint.codec


def test_the_choices_of_renorm_are_those_that_sampling_knows():
    assert RENORMS == flow.RENORMS


def asked(checkpoint, dialect, monkeypatch):
    """The kinds of segment that a painter of a dialect writes its answer behind."""
    profile = replace(checkpoint.profile, text=replace(checkpoint.profile.text, max_tokens=1))
    painter = BagelPainter(replace(checkpoint, profile=profile, dialect=READY[dialect]))
    prefixes, blocks = [], painter.prefix_cache.blocks
    monkeypatch.setattr(
        painter.prefix_cache, "blocks", lambda prefix, *rest: prefixes.append(prefix) or blocks(prefix, *rest)
    )
    oneshot.ask(painter, Image.new("RGB", (64, 64), "red"), "a red circle")
    return [segment.kind for segment in prefixes[0].segments]


def test_plain_language_asks_about_pixels_alone_as_the_reference_does(toy_checkpoint, monkeypatch):
    assert asked(toy_checkpoint, "plain", monkeypatch) == ["pixels", "text"]
    assert asked(toy_checkpoint, "miniature", monkeypatch) == ["latents", "pixels", "text"]


def test_a_question_about_a_picture_needs_vision_where_pixels_alone_are_read(toy_checkpoint, monkeypatch):
    monkeypatch.setattr(type(toy_checkpoint.model), "has_vision", False)
    with pytest.raises(StrokesError, match="was trained without vision and cannot look at a picture"):
        asked(toy_checkpoint, "plain", monkeypatch)
    assert asked(toy_checkpoint, "miniature", monkeypatch) == ["latents", "text"]
