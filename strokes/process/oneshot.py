"""The same model used one-shot: a picture from text, an edit of a picture, a question about a picture.

The model reads the plain prompt, unwrapped, in the order it was trained on: pictures first.
"""

from __future__ import annotations

from PIL import Image

from ..errors import StrokesError
from .dialects.protocol import PictureSegment, TextSegment
from .painter import Painter
from .pictures import Picture, picture_from
from .settings import AUTO_PAINT, AUTO_TEXT, OnStep, OnText, Painted, PaintOverrides, TextOverrides, Written
from .stages import guidance_branches


def text_to_image(
    painter: Painter,
    prompt: str,
    *,
    size: tuple[int, int] | None = None,
    settings: PaintOverrides = AUTO_PAINT,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Painted:
    """Paint a prompt at ``size`` (width, height), or the profile's. Raises StrokesError for a bad prompt or size."""
    profile = painter.profile
    size = size or profile.size
    profile.check_size(size)
    states = guidance_branches(painter, [_said(painter, prompt)])
    return painter.paint_picture(*states, size, settings.over(profile.first), seed, on_step)


def edit_image(
    painter: Painter,
    image: Image.Image | Picture,
    instruction: str,
    *,
    size: tuple[int, int] | None = None,
    settings: PaintOverrides = AUTO_PAINT,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Painted:
    """Repaint an image as told, at ``size`` (width, height) or the nearest the model can to the image's own."""
    profile = painter.profile
    size = size or profile.size_for(image)
    profile.check_size(size)
    said, form = _said(painter, instruction), painter.dialect.forms["edit"]
    states = guidance_branches(painter, [PictureSegment(picture_from(image, size), form), said])
    return painter.paint_picture(*states, size, settings.over(profile.edit), seed, on_step)


def ask(
    painter: Painter,
    image: Image.Image | Picture | None,
    question: str,
    *,
    settings: TextOverrides = AUTO_TEXT,
    seed: int = 0,
    on_text: OnText | None = None,
) -> Written:
    """Answer a question, about an image where there is one."""
    profile, said, state = painter.profile, _said(painter, question), painter.blank()
    if image:
        picture = picture_from(image, profile.size_for(image))
        state = painter.read_picture(state, picture, painter.dialect.forms["ask"])
    state = painter.read_text(state, said.text)
    return painter.write_text(state, settings.over(profile.text), seed, on_text)


def _said(painter: Painter, text: str) -> TextSegment:
    if not text.strip():
        raise StrokesError("the text is empty: say what to paint or ask")
    painter.check_text(text.strip())
    return TextSegment(text.strip())
