"""``strokes check``: what a model is without opening it, as a table and as JSON; status 2 where it would not open."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import synthetic_bagel as synthetic
import typer
from safetensors.torch import save_file

from strokes.cli.check import check
from strokes.errors import StrokesError
from strokes.models import EMBEDDED

ROOT = Path(__file__).parent.parent.parent


def printed(capsys, path):
    """What --json prints, and whether it ended with status 2."""
    try:
        check(path, as_json=True)
    except typer.Exit as end:
        return json.loads(capsys.readouterr().out), end.exit_code
    return json.loads(capsys.readouterr().out), 0


def test_the_embedded_model(capsys):
    found, status = printed(capsys, EMBEDDED)
    assert status == 0 and found["opens"] and found["missing"] == []
    assert (found["kind"], found["dialect"], found["layers"], found["vision_layers"]) == ("plain", "miniature", 6, 2)
    assert found["bytes"] == found["memory"]["bfloat16"] == 2 * found["parameters"]
    check(EMBEDDED)
    table = capsys.readouterr().out
    assert "5.3 million parameters" in table and "miniature" in table and "BF16 10.6 MB" in table


def test_a_quantised_file_with_its_formats_and_sizes(capsys, tmp_path):
    state = synthetic.weights()
    stored = synthetic.marked(synthetic.scaled_fp8(state), {"format": "float8_e4m3fn"})
    folder = synthetic.write_folder(tmp_path / "model", {f"bagel.{key}": tensor for key, tensor in stored.items()})
    found, status = printed(capsys, folder)
    assert status == 0 and (found["kind"], found["prefix"]) == ("quantised", "bagel.")
    assert found["formats"] == {"float8_e4m3fn": len(synthetic.layers(state))}
    assert found["parameters"] == sum(tensor.numel() for tensor in state.values())
    marks = sum(tensor.nbytes for key, tensor in stored.items() if key.endswith("comfy_quant"))
    assert found["bytes"] == found["memory"]["stored"] == sum(t.nbytes for t in stored.values()) - marks


def test_a_model_whose_companions_are_missing(capsys, tmp_path):
    synthetic.write_folder(tmp_path / "model", synthetic.weights())
    for name in ("ae.safetensors", "tokenizer.json"):
        (tmp_path / "model" / name).unlink()
    found, status = printed(capsys, tmp_path / "model")
    assert (
        status == 2
        and not found["opens"]
        and [part["what"] for part in found["missing"]] == ["autoencoder", "tokenizer"]
    )
    with pytest.raises(StrokesError, match="holds no ae.safetensors: take the autoencoder"):
        check(tmp_path / "model")
    assert "autoencoder" in capsys.readouterr().out


def test_a_refused_kind_is_its_reason(capsys, tmp_path):
    state = synthetic.weights()
    state[f"{synthetic.layers(state)[0]}.SCB"] = state["vae2llm.bias"].clone()
    folder = synthetic.write_folder(tmp_path / "model", state)
    found, status = printed(capsys, folder)
    assert status == 2 and "bitsandbytes" in found["reason"]
    with pytest.raises(StrokesError, match="bitsandbytes"):
        check(folder)


def test_a_file_that_is_no_model(capsys, tmp_path):
    save_file({"a": synthetic.weights()["vae2llm.bias"]}, tmp_path / "any.safetensors")
    found, status = printed(capsys, tmp_path / "any.safetensors")
    assert status == 2 and found["reason"].endswith("is this a BAGEL checkpoint?")


@pytest.mark.slow
def test_the_installed_command_ends_in_one_line_and_status_2(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF\x03")
    command = [sys.executable, "-m", "strokes", "check", str(tmp_path / "model.gguf")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert "GGUF" in done.stderr
    done = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr == "" and "GGUF" in json.loads(done.stdout)["reason"]
