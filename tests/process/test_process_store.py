import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scripted_painter import same

from strokes import files
from strokes.errors import StrokesError
from strokes.process.pictures import Picture
from strokes.process.store import load, save
from strokes.process.trajectory import (
    Cost,
    Critique,
    End,
    Origin,
    Painting,
    Plan,
    Refinement,
    Round,
    Trajectory,
)

SIZE = (8, 6)
texts = st.text(max_size=12)
numbers = st.integers(0, 2**63)
origins = st.builds(
    Origin,
    author=st.sampled_from(["model", "user"]),
    seed=st.none() | numbers,
    settings=st.dictionaries(
        texts, numbers | st.floats(allow_nan=False, allow_infinity=False) | st.lists(numbers, max_size=2), max_size=2
    ),
    cost=st.builds(Cost, numbers, numbers, st.floats(0, 1e6), st.just(0) | numbers),
)
arrays = st.binary(min_size=192, max_size=192)


@st.composite
def pictures(draw):
    image = Image.frombytes("RGB", SIZE, draw(arrays)[: SIZE[0] * SIZE[1] * 3])
    if draw(st.booleans()):
        return Picture(image)
    bits = np.frombuffer(draw(arrays), np.uint8).astype(np.float32) / np.float32(7)
    return Picture(image, bits[:24].reshape(2, 3, 4), "flux")


@st.composite
def trajectories(draw):
    plans = st.builds(Plan, instruction=texts, description=texts, text=texts, problem=texts, origin=origins)
    paintings = st.builds(Painting, pictures(), origins)
    margins = st.none() | st.floats(-50, 50)
    critiques = st.builds(
        Critique,
        text=texts,
        explanation=texts,
        correction=texts,
        accepted=st.booleans(),
        problem=texts,
        margin=margins,
        unreadable=st.booleans(),
        origin=origins,
    )
    closings = st.builds(
        Refinement,
        picture=st.none() | pictures(),
        rejected=st.none() | pictures(),
        margin=margins,
        repainted_margin=margins,
        problem=texts,
        origin=origins,
    )
    whole = st.builds(Round, plans, paintings, critiques, closings)
    again = st.builds(Round, st.none(), st.none() | paintings, critiques, closings)
    rounds = draw(st.lists(whole, max_size=1)) + draw(st.lists(whole | again, max_size=1))
    if rounds and rounds[0].plan is None and rounds[0].sketch is None:
        rounds = []  # there is nothing yet to look at
    last = draw(st.sampled_from([(), (plans,), (plans, paintings), (plans, paintings, critiques)]))
    rounds += [Round(*(draw(turn) for turn in last))] if last else []
    start, end = draw(st.none() | pictures()), draw(st.none() | st.builds(End, problem=texts, origin=origins))
    return Trajectory(prompt=draw(texts), size=SIZE, start=start, rounds=tuple(rounds), end=end, model=draw(texts))


@given(trajectory=trajectories())
@settings(max_examples=40)
def test_round_trip(trajectory, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trajectory")
    again = load(save(trajectory, folder))
    assert same(again, trajectory)


@pytest.fixture
def saved(two_rounds, tmp_path):
    save(two_rounds, tmp_path)
    return tmp_path


def edit(folder, **changes):
    document = json.loads((folder / "trajectory.json").read_text())
    (folder / "trajectory.json").write_text(json.dumps(document | changes))


def test_the_folder(saved):
    names = sorted(path.name.rsplit("-", 1)[0] for path in (saved / "pictures").glob("*.png"))
    assert names == ["round1-refined", "round1-sketch", "round2-sketch"]
    assert len(list((saved / "pictures").glob("*.safetensors"))) == 3


def test_either_path_loads(saved, two_rounds):
    assert same(load(saved), two_rounds) and same(load(saved / "trajectory.json"), two_rounds)


def test_saving_again_writes_only_what_is_new_and_drops_what_is_old(saved, two_rounds):
    before = {path: path.stat().st_mtime_ns for path in (saved / "pictures").iterdir()}
    shorter = two_rounds
    for _ in range(4):
        shorter = shorter.without_last_turn()
    save(shorter, saved)
    after = {path: path.stat().st_mtime_ns for path in (saved / "pictures").iterdir()}
    assert len(after) == 4 and after.items() < before.items()
    assert same(load(saved), shorter)


@pytest.mark.parametrize("failing", range(4))
def test_an_interrupted_save_leaves_the_previous_state(saved, two_rounds, monkeypatch, failing):
    changed = two_rounds.with_picture(Image.new("RGB", two_rounds.size, "red")).without_last_turn().without_last_turn()
    changed = changed.with_picture(Image.new("RGB", two_rounds.size, "blue"))
    replaced, calls = os.replace, iter(range(10))

    def fail(source, target):
        if next(calls) == failing:
            raise OSError("disk full")
        replaced(source, target)

    monkeypatch.setattr(files.os, "replace", fail)
    try:
        save(changed, saved)
        assert same(load(saved), changed)
    except StrokesError as error:
        assert "disk full" in str(error)
        assert same(load(saved), two_rounds)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_picture_repainted_by_hand_loses_its_latents(saved, mode):
    path = next((saved / "pictures").glob("round2-sketch*.png"))
    Image.new("RGB", (64, 48), "red").convert(mode).save(path)
    picture = load(saved).picture
    assert picture.latents is None and picture.image.getpixel((0, 0)) == (255, 0, 0)


def test_a_picture_of_another_size_is_named(saved):
    path = next((saved / "pictures").glob("round2-sketch*.png"))
    Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(StrokesError, match="8×8, but it was painted at 64×48"):
        load(saved)


def test_a_resized_canvas_survives_the_file(tmp_path, two_rounds):
    bigger = two_rounds.with_size((128, 96)).with_picture(Image.new("RGB", (128, 96), "red"))
    save(bigger, tmp_path)
    again = load(tmp_path)
    assert same(again, bigger) and again.picture.image.size == (128, 96)
    assert again.pictures[0][1].image.size == (64, 48)


def test_older_documents_load(saved, two_rounds):
    document = json.loads((saved / "trajectory.json").read_text())
    del document["end"], document["rounds"][0]["plan"]["problem"], document["model"]
    document["rounds"][0]["sketch"]["gone"] = 1
    (saved / "trajectory.json").write_text(json.dumps(document))
    assert len(load(saved).rounds) == 2


def test_what_cannot_be_loaded_is_named(saved, tmp_path_factory):
    with pytest.raises(StrokesError, match="no such file"):
        load(tmp_path_factory.mktemp("empty"))
    for changes, message in [
        ({"version": 3}, "newer version"),
        ({"version": "1"}, "no version"),
        ({"prompt": None}, "prompt should be str"),
        ({"rounds": [{}]}, "not a complete"),
        ({"start": {"file": "../outside.png"}}, "outside"),
        ({"start": {"file": "/etc/passwd"}}, "outside"),
        ({"start": {"file": "pictures/none.png"}}, "missing or damaged"),
    ]:
        original = (saved / "trajectory.json").read_text()
        edit(saved, **changes)
        with pytest.raises(StrokesError, match=message):
            load(saved)
        (saved / "trajectory.json").write_text(original)
    (saved / "trajectory.json").write_text("{")
    with pytest.raises(StrokesError, match="not JSON"):
        load(saved)


@pytest.mark.parametrize("suffix", ["png", "safetensors"])
def test_a_truncated_file_is_named_or_still_whole(saved, two_rounds, suffix):
    path = next((saved / "pictures").glob(f"*.{suffix}"))
    data, errors = path.read_bytes(), 0
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            assert same(load(saved), two_rounds)
        except StrokesError as error:
            assert f"{path.name}: the " in str(error) and "missing or damaged" in str(error)
            errors += 1
    assert errors > 50


@given(noise=st.recursive(st.none() | st.integers() | texts, lambda x: st.lists(x) | st.dictionaries(texts, x)))
@settings(max_examples=60)
def test_nonsense_in_a_document_is_an_error_in_one_line(noise, tmp_path_factory):
    path = tmp_path_factory.mktemp("nonsense") / "trajectory.json"
    good = {"version": 1, "prompt": "x", "size": [8, 8], "rounds": [{"plan": {"instruction": "a"}}]}
    for place in ("size", "rounds", "start", "end", "plan", "origin"):
        document = json.loads(json.dumps(good))
        if place == "plan":
            document["rounds"][0]["plan"] = noise
        elif place == "origin":
            document["rounds"][0]["plan"]["origin"] = noise
        else:
            document[place] = noise
        path.write_text(json.dumps(document))
        try:
            load(path)
        except StrokesError as error:
            assert "\n" not in str(error)
