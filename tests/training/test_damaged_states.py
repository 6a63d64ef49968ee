"""States and logs damaged on purpose: the file is named, and what can be done."""

from __future__ import annotations

import json
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from strokes.errors import StrokesError
from strokes.training.checksums import Checksums
from strokes.training.curves import plot_log, read_log
from strokes.training.state import RunState


def state(checksums=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    return model, RunState(model, torch.optim.AdamW(model.parameters(), lr=0.1), checksums)


def stepped(model, run, parts=slice(None)):
    run.optimizer.zero_grad(set_to_none=True)
    model[parts](torch.ones(1, 3)).sum().backward()
    run.optimizer.step()
    run.update_ema(0.5)


@pytest.fixture
def saved(tmp_path):
    model, run = state()
    stepped(model, run)
    run.save(tmp_path, 7)
    return tmp_path / "state.safetensors"


def test_a_state_is_found_as_it_was_saved(saved):
    model, run = state()
    assert run.load(saved.parent, 10) == 7
    again = saved.parent / "again"
    run.save(again, 7)
    assert (again / saved.name).read_bytes() == saved.read_bytes()


@pytest.mark.parametrize(
    "prefix", ["optimizer.0.weight.exp_avg", "optimizer.1.bias.step", "average.0.bias", "model.1.weight"]
)
def test_a_state_without_one_of_its_tensors_is_named(saved, prefix):
    tensors = {key: value for key, value in load_file(saved).items() if not key.startswith(prefix)}
    save_file(tensors, saved, {"step": "7"})
    with pytest.raises(StrokesError, match=rf"the state .*state\.safetensors lacks '{prefix}"):
        state()[1].load(saved.parent, 10)


@pytest.mark.parametrize(
    "metadata", [None, {}, {"step": ""}, {"step": "seven"}, {"step": "-1"}, {"step": "11"}, {"step": "9" * 5000}]
)
def test_a_state_without_its_step_is_named(saved, metadata):
    save_file(load_file(saved), saved, metadata)
    with pytest.raises(StrokesError, match=r"the state .*state\.safetensors says no step of its 10: delete it"):
        state()[1].load(saved.parent, 10)


def test_a_parameter_that_no_batch_has_used_yet_is_saved_too(tmp_path):
    """It goes on as a fresh one would."""
    model, run = state()
    stepped(model, run, slice(0, 1))
    run.save(tmp_path, 1)
    other, resumed = state()
    assert resumed.load(tmp_path, 10) == 1
    for _ in range(2):
        stepped(model, run)
        stepped(other, resumed)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_state_that_was_changed_after_it_was_saved_is_named(tmp_path):
    model, run = state(Checksums(tmp_path))
    stepped(model, run)
    run.save(tmp_path / "first", 1)
    assert state(Checksums(tmp_path))[1].load(tmp_path / "first", 10) == 1
    path = tmp_path / "first" / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    with pytest.raises(StrokesError, match=r"first/state\.safetensors is not what the run wrote there .*delete it"):
        state(Checksums(tmp_path))[1].load(tmp_path / "first", 10)


def test_a_kill_between_checksum_and_file_leaves_either_file_valid(tmp_path, monkeypatch):
    """The checksum is written first; until the file is in place, the one before is still good."""
    checksums, path = Checksums(tmp_path), tmp_path / "state"
    checksums.write(path, lambda to: to.write_text("one"))

    in_place = os.replace

    def killed(source, target):
        if target == path:
            raise KeyboardInterrupt
        in_place(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            checksums.write(path, lambda to: to.write_text("two"))
    assert path.read_text() == "one"
    checksums.check(path)
    checksums.write(path, lambda to: to.write_text("two"))
    checksums.check(path)


ROW = {"part": "first", "step": 20, "plan": 1.5, "norm": 0.3}
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)


@given(row=st.dictionaries(st.sampled_from([*ROW, "$x$", "_"]) | st.text(), VALUES, max_size=4), plain=st.booleans())
@settings(max_examples=100)
def test_a_log_of_any_values_is_read_or_its_line_named(tmp_path_factory, row, plain):
    log = tmp_path_factory.mktemp("log") / "log.jsonl"
    log.write_text("\n".join(json.dumps(r) for r in (ROW, row if plain else {**ROW, **row})) + "\n")
    try:
        rows = read_log(log)
    except StrokesError as error:
        assert "log.jsonl: line 2 " in str(error) and "\n" not in str(error)
    else:
        assert len(rows) == 2


@pytest.mark.parametrize("line", [b"rubbish", b"\xff\xfe", b"[1]", b"{}", b'{"part": "$x", "step": 1}', b"[" * 100_000])
def test_a_line_of_rubbish_is_named_before_anything_is_drawn(tmp_path, line):
    log, out = tmp_path / "log.jsonl", tmp_path / "curves.png"
    log.write_bytes(json.dumps(ROW).encode() + b"\n" + line + b"\n")
    with pytest.raises(StrokesError, match=r"log\.jsonl: line 2 .*delete that line"):
        plot_log(log, out)
    assert not out.exists()


def test_nothing_is_drawn_of_no_log(tmp_path):
    plot_log(tmp_path / "log.jsonl", tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


def test_losses_that_are_no_numbers_any_more_are_drawn_all_the_same(tmp_path):
    rows = [ROW, {**ROW, "step": 40, "plan": float("nan")}, {**ROW, "step": 60, "plan": float("inf")}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plot_log(tmp_path / "log.jsonl", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()
