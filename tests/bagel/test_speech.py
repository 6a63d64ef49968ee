"""What a dialect brings to a checkpoint: its profile, under what the checkpoint itself says."""

from __future__ import annotations

import json

import pytest

from strokes.errors import StrokesError
from strokes.models import EMBEDDED, open_painter


@pytest.fixture
def folder(tmp_path):
    """The embedded model's folder, with a folder for dialects in it."""
    for path in EMBEDDED.iterdir():
        if path.is_file():
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "dialects").mkdir()
    return tmp_path


def write(folder, **profile):
    content = {"based_on": "miniature", "profile": profile}
    (folder / "dialects" / "mine.json").write_text(json.dumps(content))


def test_a_dialects_profile_stands_below_the_checkpoints(folder):
    own = json.loads((folder / "config.json").read_text())["strokes"]
    write(folder, first={"steps": own["first"]["steps"] + 1, "extrapolate": True}, rounds=own["rounds"] + 1)
    profile = open_painter(folder, dialect="mine").profile
    assert profile.first.steps == own["first"]["steps"] and profile.rounds == own["rounds"]
    assert profile.first.extrapolate and not open_painter(folder).profile.first.extrapolate


@pytest.mark.parametrize(
    ("profile", "key"),
    [
        ({"first": 3}, "first"),
        ({"text": [1]}, "text"),
        ({"rounds": 99}, "rounds"),
        ({"text": {"top_p": 2}}, "text.top_p"),
    ],
)
def test_a_dialects_profile_out_of_range_is_named_in_one_line(folder, profile, key):
    write(folder, **profile)
    with pytest.raises(StrokesError, match=f"the profile of the dialect mine: '{key}'") as error:
        open_painter(folder, dialect="mine")
    assert "\n" not in str(error.value)
