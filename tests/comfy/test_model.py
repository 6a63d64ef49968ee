"""The network under ComfyUI: parity with its layers, LoRAs, and the schemas that saved workflows rely on."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from graphs import inspect, node, one_round, refine, report, sketch
from safetensors.torch import save_file

GOLDEN = Path(__file__).parents[1] / "golden"
SCHEMAS = Path(__file__).with_name("schemas.json")
LAYER = "language_model.model.layers.1.mlp_moe_gen.up_proj"
CORRECTED = {"verdict": "correct", "correction": "add a red circle"}


def test_parity_with_comfyuis_layers(driver):
    found = driver("parity", folder=str(GOLDEN / "toy"))
    assert found["compared"] > 300 and found["missed"] == []


# LoRAs


def write_lora(base, name, form, layer=LAYER, rows=512, columns=192, scale=0.5):
    """A rank-2 LoRA on one layer, in one of the forms that trainers write."""
    generator = torch.Generator().manual_seed(7)
    up = torch.randn(rows, 2, generator=generator) * scale
    down = torch.randn(2, columns, generator=generator) * scale
    flat = layer.replace(".", "_")
    keys = {
        "peft": (f"base_model.model.{layer}.lora_B.weight", f"base_model.model.{layer}.lora_A.weight"),
        "peft default": (
            f"base_model.model.{layer}.lora_B.default.weight",
            f"base_model.model.{layer}.lora_A.default.weight",
        ),
        "plain": (f"{layer}.lora_up.weight", f"{layer}.lora_down.weight"),
        "diffusers": (f"transformer.{layer}.lora_B.weight", f"transformer.{layer}.lora_A.weight"),
        "comfy": (f"diffusion_model.{layer}.lora_up.weight", f"diffusion_model.{layer}.lora_down.weight"),
        "kohya": (f"lora_unet_{flat}.lora_up.weight", f"lora_unet_{flat}.lora_down.weight"),
    }[form]
    save_file({keys[0]: up, keys[1]: down}, base / "models/loras" / f"{name}.safetensors")
    return f"{name}.safetensors"


FORMS = ("peft", "peft default", "plain", "diffusers", "comfy", "kohya")


def with_lora(*names, strength=1.0, graph=None):
    graph = graph or one_round()
    last = "model"
    for number, name in enumerate(names):
        graph[f"lora{number}"] = node("StrokesApplyLora", model=[last, 0], lora=name, strength=strength)
        last = f"lora{number}"
    graph["sketch"]["inputs"]["model"] = [last, 0]
    return graph


def test_every_key_form_is_the_same_lora(fresh, base):
    names = [write_lora(base, form.replace(" ", "-"), form) for form in FORMS]
    plain = fresh.run(one_round())["reports"][0]["pictures"]
    found = [fresh.run(with_lora(name))["reports"][0]["pictures"] for name in names]
    assert all(each == found[0] for each in found) and found[0] != plain


def test_a_lora_is_undone_exactly(fresh, base):
    name = write_lora(base, "one", "plain")
    plain = fresh.run(one_round())["reports"]
    weights = fresh("weights")
    patched = fresh.run(with_lora(name))["reports"]
    assert patched != plain and fresh("weights") == weights
    assert fresh.run(with_lora(name, strength=0.0))["reports"] == plain
    # Side by side in one graph: the model with the LoRA sketches, the one without does the rest, twice over.
    both = with_lora(name, graph=one_round(inspect=CORRECTED))
    both |= {"sketch2": sketch(["plan", 0]), "inspect2": inspect(["sketch2", 0], **CORRECTED)}
    both |= {"refine2": refine(["inspect2", 0], model="lora0"), "report2": report(trajectory=["refine2", 0])}
    first = fresh.run(both)["reports"]
    fresh("free")
    assert sorted(map(str, fresh.run(both)["reports"])) == sorted(map(str, first))
    assert any(each["pictures"][0] == patched[0]["pictures"][0] for each in first)
    assert any(each["pictures"][0] == plain[0]["pictures"][0] for each in first)


def test_several_loras_add_up(fresh, base):
    one = write_lora(base, "first", "plain")
    other = write_lora(base, "second", "plain", layer=LAYER.replace("layers.1", "layers.2"))
    pictures = [fresh.run(with_lora(*names))["reports"][0]["pictures"][0] for names in ((one,), (other,), (one, other))]
    assert len(set(pictures)) == 3
    undone = with_lora(one)
    undone["lora1"] = node("StrokesApplyLora", model=["lora0", 0], lora=one, strength=-1.0)
    undone["sketch"]["inputs"]["model"] = ["lora1", 0]
    assert fresh.run(undone)["reports"][0]["rounds"] == 1


def test_a_lora_on_the_vision_model(fresh, base):
    layer = "vit_model.vision_model.encoder.layers.0.mlp.fc1"
    name = write_lora(base, "vision", "peft", layer=layer, rows=256, columns=128, scale=3.0)
    graph = with_lora(name)
    graph["sketch"]["inputs"]["model"] = ["model", 0]
    graph["inspect"]["inputs"]["model"] = ["lora0", 0]
    assert fresh.run(graph)["reports"]
    # The same segments under other weights are other keys and values.
    assert fresh("prefix_cache")["entries"] > 6


def test_loras_that_do_not_fit(fresh, base):
    write_lora(base, "foreign", "plain", layer="unet.mid_block.attn")
    assert "fits no layer of strokes-embedded" in fresh.fails(with_lora("foreign.safetensors"))
    write_lora(base, "large", "plain", rows=700)
    message = fresh.fails(with_lora("large.safetensors"))
    assert f"the LoRA of {LAYER}.weight is for [700, 192], the network's is [512, 192]" in message
    bias = LAYER + ".diff_b"
    save_file({bias: torch.zeros(512), f"{LAYER}.diff": torch.zeros(512, 192)}, base / "models/loras/bias.safetensors")
    assert f"changes {LAYER}.bias, which strokes-embedded has not" in fresh.fails(with_lora("bias.safetensors"))
    (base / "models/loras/broken.safetensors").write_bytes(b"123")
    assert "truncated or no safetensors file" in fresh.fails(with_lora("broken.safetensors"))
    assert "not in" in fresh.fails(with_lora("absent.safetensors"))
    assert fresh.run(one_round())["reports"]


# Schemas


def compatible(old, new):
    """What would break workflows saved with ``old``: inputs gone, moved or retyped, outputs gone, moved or retyped."""
    problems = []
    for name, before in old.items():
        now = new.get(name)
        if now is None:
            problems.append(f"{name} is gone")
            continue
        for group, inputs in before["input"].items():
            for key, (kind, options) in inputs.items():
                found = next((g[key] for g in now["input"].values() if key in g), None)
                if found is None or found[0] != kind:
                    problems.append(f"{name}.{key} is gone or of another type")
                elif found[1].get("default") != options.get("default"):
                    problems.append(f"{name}.{key} has another default")
                elif kind == "COMBO" and not set(options.get("options", ())) <= set(found[1].get("options", ())):
                    problems.append(f"{name}.{key} lost a choice")
            order = now["input_order"].get(group, [])
            if group != "hidden" and order[: len(inputs)] != list(inputs):
                problems.append(f"{name}: {group} inputs are in another order; append new ones")
            extra = set(order) - set(inputs)
            if group == "required" and any("default" not in now["input"]["required"][key][1] for key in extra):
                problems.append(f"{name}: a new required input has no default")
        if now["output"][: len(before["output"])] != before["output"]:
            problems.append(f"{name}: outputs changed")
    return problems


def trimmed(schemas):
    """Ids, inputs, order, types, defaults, ranges and outputs; no words, and no choices that are files."""

    def settings(key, value):
        kept = {"default", "min", "max", "step", "lazy", "control_after_generate"}
        kept |= set() if key in ("checkpoint", "lora") else {"options"}
        return [value[0], {name: found for name, found in (value[1:] or [{}])[0].items() if name in kept}]

    return {
        name: {
            "input": {
                group: {key: settings(key, value) for key, value in inputs.items() if group != "hidden"}
                for group, inputs in schema["input"].items()
            },
            "input_order": schema["input_order"],
            "output": schema["output"],
            "output_name": schema["output_name"],
        }
        for name, schema in schemas.items()
    }  # fmt: skip


def test_schemas_stay_compatible(driver):
    """A change that only adds is written into schemas.json by hand: ``print(json.dumps(trimmed(driver("schemas"))))``."""
    now = trimmed(driver("schemas"))
    assert compatible(json.loads(SCHEMAS.read_text()), now) == []
    assert json.loads(SCHEMAS.read_text()) == json.loads(json.dumps(now))


def test_the_comparison_sees_what_would_break():
    old = json.loads(SCHEMAS.read_text())

    def changed(edit):
        new = json.loads(json.dumps(old))
        edit(new)
        return compatible(old, new)

    assert changed(lambda new: None) == []
    assert changed(lambda new: new.pop("StrokesPlan"))
    assert changed(lambda new: new["StrokesPlan"]["input"]["required"].pop("seed"))
    assert changed(lambda new: new["StrokesPlan"]["input_order"]["required"].reverse())
    assert changed(lambda new: new["StrokesPlan"]["output"].insert(0, "IMAGE"))
    assert changed(lambda new: new["StrokesSketch"]["input"]["required"]["steps"][1].update(default=3))
    assert changed(lambda new: new["StrokesInspect"]["input"]["required"]["verdict"][1]["options"].remove("accept"))


def test_every_node_is_described(driver):
    for node_id, schema in driver("schemas").items():
        assert node_id.startswith("Strokes") and schema["display_name"].endswith("(Strokes)")
        assert schema["description"] and schema["search_aliases"] and schema["category"].split("/")[0] == "strokes"
        for group, inputs in schema["input"].items():
            for key, value in inputs.items() if group != "hidden" else ():
                assert value[1].get("tooltip"), f"{node_id}.{key}"
                if key == "seed":
                    assert value[1]["control_after_generate"] == "fixed"
        assert all(schema["output_tooltips"])
