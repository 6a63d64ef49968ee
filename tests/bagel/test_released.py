"""The sizes, image transforms, schedules and token ids of the published BAGEL-7B-MoT."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from strokes.bagel.engine.flow import guided, timesteps
from strokes.bagel.images import resized
from strokes.bagel.network.config import BAGEL_7B, ResizeRule
from strokes.bagel.network.model import Bagel
from strokes.bagel.weights.checkpoint import load_tokenizer

COMMON = Path(__file__).parent.parent / "golden" / "common"


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def released_shapes() -> dict[str, tuple[int, ...]]:
    """The keys of the published ema.safetensors, written down from section 2.2 of the reference's description."""
    out: dict[str, tuple[int, ...]] = {
        "language_model.model.embed_tokens.weight": (152064, 3584),
        "language_model.lm_head.weight": (152064, 3584),
        "language_model.model.norm.weight": (3584,),
        "language_model.model.norm_moe_gen.weight": (3584,),
        "time_embedder.mlp.0.weight": (3584, 256),
        "time_embedder.mlp.2.weight": (3584, 3584),
        "vae2llm.weight": (3584, 64),
        "vae2llm.bias": (3584,),
        "llm2vae.weight": (64, 3584),
        "llm2vae.bias": (64,),
        "latent_pos_embed.pos_embed": (4096, 3584),
        "vit_pos_embed.pos_embed": (4900, 3584),
        "connector.fc1.weight": (3584, 1152),
        "connector.fc2.weight": (3584, 3584),
        "vit_model.vision_model.embeddings.patch_embedding.weight": (1152, 588),
        "vit_model.vision_model.embeddings.patch_embedding.bias": (1152,),
        "vit_model.vision_model.embeddings.position_embedding.weight": (4900, 1152),
        "vit_model.vision_model.post_layernorm.weight": (1152,),
        "vit_model.vision_model.post_layernorm.bias": (1152,),
    }
    for name in ("time_embedder.mlp.0", "time_embedder.mlp.2", "connector.fc1", "connector.fc2"):
        out[f"{name}.bias"] = (3584,)
    for i in range(28):
        layer = f"language_model.model.layers.{i}"
        for gen in ("", "_moe_gen"):
            for name, rows in (("q", 3584), ("k", 512), ("v", 512)):
                out[f"{layer}.self_attn.{name}_proj{gen}.weight"] = (rows, 3584)
                out[f"{layer}.self_attn.{name}_proj{gen}.bias"] = (rows,)
            out[f"{layer}.self_attn.o_proj{gen}.weight"] = (3584, 3584)
            out[f"{layer}.self_attn.q_norm{gen}.weight"] = (128,)
            out[f"{layer}.self_attn.k_norm{gen}.weight"] = (128,)
            out[f"{layer}.mlp{gen}.gate_proj.weight"] = (18944, 3584)
            out[f"{layer}.mlp{gen}.up_proj.weight"] = (18944, 3584)
            out[f"{layer}.mlp{gen}.down_proj.weight"] = (3584, 18944)
            out[f"{layer}.input_layernorm{gen}.weight"] = (3584,)
            out[f"{layer}.post_attention_layernorm{gen}.weight"] = (3584,)
    for i in range(26):
        layer = f"vit_model.vision_model.encoder.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            out[f"{layer}.self_attn.{name}.weight"] = (1152, 1152)
            out[f"{layer}.self_attn.{name}.bias"] = (1152,)
        for name in ("layer_norm1", "layer_norm2"):
            out[f"{layer}.{name}.weight"] = out[f"{layer}.{name}.bias"] = (1152,)
        out[f"{layer}.mlp.fc1.weight"], out[f"{layer}.mlp.fc1.bias"] = (4304, 1152), (4304,)
        out[f"{layer}.mlp.fc2.weight"], out[f"{layer}.mlp.fc2.bias"] = (1152, 4304), (1152,)
    return out


def test_released_size():
    state = Bagel(BAGEL_7B, device="meta").state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == released_shapes()
    assert len(state) == 1223
    assert sum(tensor.numel() for tensor in state.values()) == 14_607_260_128


def test_resize_sizes():
    vae, vit = ResizeRule(1024, 512, 16), ResizeRule(980, 224, 14)
    rules = {"vae": vae, "vit_of_original": vit, "vit_min378": ResizeRule(980, 378, 14)}
    rules["vlm_eval"] = ResizeRule(980, 378, 14, max_pixels=2_007_040)
    for row in read(COMMON / "resize_sizes.json"):
        size = tuple(row["original"])
        found = {name: list(resized(size, rule)) for name, rule in rules.items()}
        found["vit_of_vae"] = list(resized(tuple(found["vae"]), vit))
        assert found == {name: row[name] for name in found}, size
        assert found["vae"][0] * found["vae"][1] // 256 == row["latent_tokens"]


SCHEDULES = read(COMMON / "schedules.json")


@pytest.mark.parametrize("row", SCHEDULES, ids=[f"{row['num_timesteps']}-{row['shift']:g}" for row in SCHEDULES])
def test_schedules(row):
    found = timesteps(row["num_timesteps"] - 1, row["shift"])
    assert found == pytest.approx(row["t"], abs=1e-6)
    assert len(found) - 1 == row["model_calls"]
    assert sum(guided(t, (0.4, 1.0)) for t in found[:-1]) == row["guided_calls_interval_0p4"]


def test_tokenizer_ids():
    root = Path(os.environ.get("COMFYUI_PATH", Path.home() / "comfy" / "ComfyUI"))
    folder = root / "comfy" / "text_encoders" / "qwen25_tokenizer"
    if not ((folder / "vocab.json").exists() and (folder / "merges.txt").exists()):
        pytest.skip("no Qwen2.5 tokenizer: set COMFYUI_PATH to a ComfyUI checkout to compare token ids")
    tokenizer, table = load_tokenizer(folder), read(COMMON / "tokenizer_ids.json")
    assert {token: tokenizer.token_to_id(token) for token in table["special"]} == table["special"]
    # The engine keeps typed control tokens as plain text; the table was made without that.
    tokenizer.encode_special_tokens = False
    # ComfyUI's copy knows four more tokens (<think> among them) than the checkpoint's, after all of its own.
    extra = [tokenizer.id_to_token(i) for i in range(max(table["special"].values()) + 1, tokenizer.get_vocab_size())]
    rows = [row for row in table["rows"] if not any(token in row["text"] for token in extra)]
    assert len(rows) >= 10
    for row in rows:
        assert tokenizer.encode(row["text"], add_special_tokens=False).ids == row["ids"], row["text"]
        assert tokenizer.decode(row["ids"], skip_special_tokens=False) == row["decoded"]
