"""Picture files from outside: tones kept, turned upright, a list of formats, regular files of a sane size only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from strokes.errors import StrokesError
from strokes.process import pictures, store
from strokes.process.pictures import open_image

RAMP = np.linspace(0, 1, 256).reshape(16, 16)


def saved(path: Path, array: np.ndarray, **options) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def test_sixteen_bits_and_floats_keep_their_tones(tmp_path):
    sixteen, floats = (RAMP * 65535).round().astype(np.uint16), RAMP.astype(np.float32)
    files = [
        saved(tmp_path / "a.png", sixteen),
        saved(tmp_path / "b.tiff", sixteen),
        saved(tmp_path / "c.tiff", floats),
    ]
    files.append(saved(tmp_path / "d.tiff", (RAMP * 65535).round().astype(np.int32)))
    for path in files:
        image = open_image(path)
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image)[..., 0], (RAMP * 255).round().astype(np.uint8)), path.name


@pytest.mark.parametrize("high", [2.0, np.nan, np.inf, -0.5])
def test_floats_of_another_range_are_named(tmp_path, high):
    path = saved(tmp_path / "a.tiff", np.float32([[0, 0.5], [1, high]]))
    with pytest.raises(StrokesError, match="0 to 1 was expected: save it with 8 bits"):
        open_image(path)


def test_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (40, 20), "blue")
    image.paste("red", (0, 0, 10, 10))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    for name in ("a.jpg", "a.png", "a.webp"):
        image.save(tmp_path / name, exif=exif)
        upright = open_image(tmp_path / name)
        assert upright.size == (20, 40)
        assert upright.getpixel((16, 3))[0] > 150 and upright.getpixel((3, 3))[2] > 150


def test_only_known_formats_are_opened(tmp_path):
    script = tmp_path / "a.png"
    script.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n{} loop\n%%EOF\n")
    with pytest.raises(StrokesError, match="not a picture that can be read"):
        open_image(script)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.ppm")
    with pytest.raises(StrokesError, match="not a picture that can be read"):
        open_image(tmp_path / "a.ppm")


def test_postscript_inside_a_trajectory_starts_no_program(two_rounds, tmp_path, monkeypatch):
    store.save(two_rounds, tmp_path)
    path = next(tmp_path.glob("pictures/round1-sketch-*.png"))
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n{} loop\n%%EOF\n")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises(StrokesError, match="missing or damaged"):
        store.load(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes in the file system are Unix's")
def test_what_is_no_regular_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero"), tmp_path):
        with pytest.raises(StrokesError, match="no regular file"):
            open_image(path)


def test_pixels_are_limited_before_they_are_read(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", np.zeros((100, 200), np.uint8))
    monkeypatch.setattr(pictures, "MAX_PIXELS", 10_000)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(StrokesError, match="200×100"):
        open_image(path)


@pytest.mark.slow
def test_a_bomb_is_refused(tmp_path):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    path = tmp_path / "bomb.tiff"
    Image.new("1", (30_000, 30_000)).save(path, tiffinfo=info, compression="group4")
    with pytest.raises(StrokesError, match="not a picture that can be read"):
        open_image(path)


@pytest.mark.parametrize("name", ["\0", "x" * 5000, "no such\udcff"])
def test_names_that_no_file_has(name, tmp_path):
    with pytest.raises(StrokesError):
        open_image(f"{tmp_path}/{name}")
