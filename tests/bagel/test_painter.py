"""What nodes ask of a painter: pictures to latents and back, in a format that it describes."""

import numpy as np
from PIL import Image

from strokes.bagel.engine import flow
from strokes.process.painter import RENORMS
from strokes.process.pictures import Picture


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
