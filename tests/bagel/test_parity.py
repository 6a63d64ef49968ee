"""The engine computes what the reference computed; and the comparison notices when it does not."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from strokes.bagel.network.config import BAGEL_7B, BagelConfig, LanguageConfig, VisionConfig
from strokes.bagel.network.model import Bagel
from strokes.bagel.parity.compare import compare_folder, format_table
from strokes.bagel.parity.golden import GoldenSet
from strokes.bagel.parity.scenarios import scenarios
from strokes.bagel.parity.values import Scaled, Skipped
from strokes.errors import StrokesError

TOY = Path(__file__).parent.parent / "golden" / "toy"


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, value) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def missed(folder: Path) -> set[str]:
    return {row.name for row in compare_folder(folder) if not row.ok}


def reduced(tmp_path: Path, *groups: str) -> Path:
    """A copy of the toy set that keeps only what the named pieces and scenarios expect."""
    folder = tmp_path / "set"
    shutil.copytree(TOY, folder)
    meta, expected = read(TOY / "meta.json"), load_file(TOY / "expected_fp32.safetensors")
    # What an alias stands for may belong to a scenario that goes.
    expected |= {name: expected[target].clone() for name, target in meta["aliases"].items() if target in expected}
    meta["aliases"] = {name: target for name, target in meta["aliases"].items() if name not in expected}
    kept = {name: tensor for name, tensor in expected.items() if name.split(".")[0] in groups}
    save_file(kept, folder / "expected_fp32.safetensors")
    meta["scenarios"] = {name: facts for name, facts in meta["scenarios"].items() if name in groups}
    write(folder / "meta.json", meta)
    return folder


def change_tensor(folder: Path, name: str, change, file: str = "expected_fp32.safetensors") -> None:
    tensors = load_file(folder / file)
    tensors[name] = change(tensors[name]).contiguous()
    save_file(tensors, folder / file)


def change_fact(folder: Path, path: str, change) -> None:
    meta = read(folder / "meta.json")
    scenario, *inner, last = path.split("/")
    place = meta["scenarios"][scenario]
    for key in inner:
        place = place[key]
    place[last] = change(place[last])
    write(folder / "meta.json", meta)


def one_more(amount):
    """Adds ``amount`` to a single element."""

    def change(tensor):
        tensor.view(-1)[7] = tensor.view(-1)[7].item() + amount
        return tensor

    return change


def test_toy_passes():
    rows = compare_folder(TOY)
    assert [row for row in rows if row.result != "pass"] == []
    names = {row.name for row in rows}
    meta = read(TOY / "meta.json")
    assert set(load_file(TOY / "expected_fp32.safetensors")) <= names
    assert {k for k in meta["aliases"] if "step0" in k or k.endswith("final_latent_tokens")} <= names
    assert len([name for name in names if ".grad_norms." in name]) == len(meta["scenarios"]["train"]["grad_norms"])
    assert max(row.error for row in rows if row.kind == "float") < 1e-5
    lines = format_table(rows).splitlines()
    assert lines[-1].startswith(f"{len(rows)} compared, 0 missed, 0 skipped; worst relative error ")
    assert "edit_global" in lines and not any("MISS" in line for line in lines)


def test_without_autoencoder(tmp_path):
    folder = reduced(tmp_path, "text", "vae", "vae_prefill", "t2i_notebook", "edit_text_channel", "edit_global")
    (folder / "model" / "ae.safetensors").unlink()
    rows = {row.name: row for row in compare_folder(folder)}
    assert all(row.ok for row in rows.values())
    skipped = {name for name, row in rows.items() if row.result == "skipped"}
    assert skipped == {
        *(f"vae.{name}" for name in ("mean", "logvar", "latent_sampled", "latent_mean", "decoded_mean")),
        *("t2i_notebook.image_u8", "edit_text_channel.image_u8"),
        *("edit_text_channel.vae_latent.0", "edit_global.vae_latent.0"),
    }
    assert {rows[name].note for name in skipped} == {"no VAE weights"}
    assert rows["vae.llm_hidden"].result == rows["edit_global.final_latent_tokens"].result == "pass"
    assert ", 0 missed, 9 skipped; " in format_table(list(rows.values()))


TENSORS = [
    ("text.logits", one_more(1e-2)),
    ("text.hidden", lambda t: t[1:]),
    ("text.k.layer1", lambda t: t * float("nan")),
    ("vit.position_ids", one_more(1)),
    ("tf.vit_u8_from_original", lambda t: t ^ (torch.arange(t.numel()).view_as(t) == 5).to(t.dtype)),
    ("vae.decoded_mean", one_more(1e-2)),
    ("t2i_notebook.image_u8", lambda t: t + torch.where(t < 128, 2, -2).to(t.dtype)),
    ("t2i_notebook.v_cfgtext_step0", one_more(1e-2)),
    ("train.visible.1", lambda t: t.T),
    ("train.mse_per_element", one_more(1e-1)),
    ("train.vit_token_seqlens", lambda t: t + 1),
]


@pytest.mark.parametrize(("name", "change"), TENSORS, ids=[name for name, _ in TENSORS])
def test_wrong_tensor_is_a_miss(tmp_path, name, change):
    folder = reduced(tmp_path, name.split(".")[0])
    change_tensor(folder, name, change)
    assert missed(folder) == {name}


FACTS = [
    ("text_prefill/rope_next", lambda n: n + 1),
    ("greedy_text/argmax_tokens", lambda ids: [*ids[:-1], ids[-1] ^ 1]),
    ("greedy_text/min_top1_top2_margin", lambda x: x + 0.01),
    ("understand/text_fed_tokens", lambda ids: [ids[0], ids[1] + 1]),
    ("understand_think/text_reencoded_ids", lambda ids: ids[:-1]),
    ("t2i_notebook/main/kv_len", lambda n: n + 1),
    ("t2i_notebook/cfg_img/rope", lambda n: n - 1),
    ("t2i_notebook/image_hw", lambda hw: hw[::-1]),
    ("t2i_notebook/n_flow_calls", lambda n: n + 1),
    ("t2i_notebook/t_per_call", lambda t: [*t[:-1], t[-1] + 1e-3]),
    ("t2i_interval_edge/cfg_text_scale_per_call", lambda s: s[::-1]),
    ("train/sample_lens", lambda n: n[::-1]),
    ("train/ce_mean", lambda x: x * 1.001),
    ("train/params_without_grad", lambda names: names[1:]),
    ("train/grad_norms/vae2llm.weight", lambda x: x * 1.001),
    ("train/grad_norms/vit_model.vision_model.encoder.layers.0.self_attn.k_proj.bias", lambda x: 1e-3),
]


@pytest.mark.parametrize(("path", "change"), FACTS, ids=[path for path, _ in FACTS])
def test_wrong_fact_is_a_miss(tmp_path, path, change):
    folder = reduced(tmp_path, path.split("/")[0])
    change_fact(folder, path, change)
    assert missed(folder) == {path.replace("/", ".")}


def test_decoded_image_may_be_off_by_one(tmp_path):
    folder = reduced(tmp_path, "t2i_notebook")
    change_tensor(folder, "t2i_notebook.image_u8", lambda t: t + torch.where(t < 128, 1, -1).to(t.dtype))
    assert missed(folder) == set()


@pytest.mark.parametrize(
    ("weight", "hit"),
    [
        ("language_model.model.layers.1.mlp_moe_gen.up_proj.weight", "t2i_notebook.v_main_step0"),
        ("time_embedder.mlp.0.bias", "t2i_notebook.final_latent_tokens"),
        ("language_model.lm_head.weight", "text.logits"),
        ("vit_model.vision_model.encoder.layers.1.mlp.fc2.bias", "vit.features"),
    ],
)
def test_wrong_weight_is_a_miss(tmp_path, weight, hit):
    folder = reduced(tmp_path, "text", "vit", "t2i_notebook")
    # Half of the rows: what follows a norm would not notice a common factor or shift.
    change_tensor(
        folder, weight, lambda t: torch.cat((t[: len(t) // 2] * 2, t[len(t) // 2 :])), "model/ema.safetensors"
    )
    found = missed(folder)
    assert hit in found and not {"vit.patches_first2", "t2i_notebook.main.kv_len", "text.k.layer0"} & found


def test_wrong_hyper_parameter_is_a_miss(tmp_path):
    folder = reduced(tmp_path, "edit_channel", "edit_text_channel")
    change_fact(folder, "edit_channel/hyper/cfg_renorm_min", lambda x: 0.0)
    assert missed(folder) == {"edit_channel.v_step0", "edit_channel.final_latent_tokens"}


def test_what_is_unknown_is_reported(tmp_path):
    folder = reduced(tmp_path, "text", "t2i_notebook")
    tensors = load_file(folder / "expected_fp32.safetensors")
    tensors |= {"text.k.layer9": torch.zeros(2), "strange.piece": torch.zeros(3)}
    save_file(tensors, folder / "expected_fp32.safetensors")
    meta = read(folder / "meta.json")
    meta["aliases"] = {
        "t2i_notebook.v_other": "t2i_notebook.v_step0",
        "t2i_notebook.vae_eps.0": "t2i_notebook.init_noise",
    }
    meta["scenarios"]["novelty"] = {"hyper": {"cfg_text_scale": 2.0}, "kv_len": 3}
    write(folder / "meta.json", meta)
    rows = [row for row in compare_folder(folder) if not row.ok]
    assert {row.name for row in rows} == {"text.k.layer9", "strange.piece", "t2i_notebook.v_other", "novelty.kv_len"}
    assert all(row.note.startswith("not compared") for row in rows)
    assert "MISS (not compared" in format_table(rows)


def test_one_broken_scenario_hides_no_other(tmp_path):
    folder = reduced(tmp_path, "text", "t2i_notebook", "t2i_think")
    inputs = load_file(folder / "inputs.safetensors")
    del inputs["t2i_think.init_noise"]
    save_file(inputs, folder / "inputs.safetensors")
    rows = [row for row in compare_folder(folder) if not row.ok]
    assert "t2i_think.final_latent_tokens" in {row.name for row in rows}
    assert {row.group for row in rows} == {"t2i_think"}
    assert {row.note for row in rows} == {"not compared: the set holds no tensor 't2i_think.init_noise'"}


BROKEN = {
    "no meta.json": lambda f: (f / "meta.json").unlink(),
    "meta.json cut": lambda f: (f / "meta.json").write_text('{"scenarios": '),
    "no expected": lambda f: (f / "expected_fp32.safetensors").unlink(),
    "expected cut": lambda f: (f / "expected_fp32.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{"),
    "no model": lambda f: shutil.rmtree(f / "model"),
    "no configuration": lambda f: (f / "model" / "toy_bagel_config.json").unlink(),
    "no ids": lambda f: write(f / "model" / "toy_bagel_config.json", {"bagel": {}}),
    "autoencoder cut": lambda f: (f / "model" / "ae.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{"),
    "folder": shutil.rmtree,
}


@pytest.mark.parametrize("breaks", BROKEN.values(), ids=BROKEN)
def test_bad_folder_is_one_line(tmp_path, breaks):
    folder = reduced(tmp_path, "text")
    breaks(folder)
    with pytest.raises(StrokesError) as error:
        compare_folder(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("ema", "vae2llm.bias"),
        ("ema", "language_model.model.embed_tokens.weight"),
        ("ema", "vit_model.vision_model.embeddings.patch_embedding.weight"),
        ("ae", "encoder.conv_in.weight"),
        ("ae", "encoder.mid.attn_1.q.weight"),
        ("ae", "encoder.down.0.downsample.conv.bias"),
        ("ae", "decoder.conv_out.weight"),
    ],
)
def test_missing_weight_is_one_line(tmp_path, file, key):
    folder = reduced(tmp_path, "text")
    path = folder / "model" / f"{file}.safetensors"
    tensors = load_file(path)
    del tensors[key]
    save_file(tensors, path)
    with pytest.raises(StrokesError) as error:
        compare_folder(folder)
    assert "\n" not in str(error.value)


def other_set(folder: Path) -> None:
    """A set with other sizes, ids, grids, step counts and layers and no autoencoder; the engine's own results."""
    config = BagelConfig(
        language=LanguageConfig(
            vocab_size=301,
            hidden_size=48,
            intermediate_size=80,
            num_hidden_layers=3,
            num_attention_heads=3,
            num_key_value_heads=1,
            head_dim=16,
            rope_theta=5e5,
            rms_norm_eps=1e-5,
        ),
        vision=VisionConfig(
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=1,
            num_attention_heads=2,
            patch_size=16,
            patches_per_side=5,
            layer_norm_eps=1e-5,
        ),
        latent_patch_size=1,
        latent_channels=12,
        max_latent_size=11,
    )
    generator = torch.Generator().manual_seed(3)
    model = Bagel(config)
    model.initialise(generator)
    nn.init.normal_(model.llm2vae.weight, std=0.2, generator=generator)
    (folder / "model").mkdir(parents=True)
    save_file(model.state_dict(), folder / "model" / "ema.safetensors")
    write(folder / "model" / "llm_config.json", {"rms_norm_eps": 1e-5, "rope_theta": 5e5})
    write(folder / "model" / "vit_config.json", {"num_attention_heads": 2, "layer_norm_eps": 1e-5})
    ids = {"bos_token_id": 300, "eos_token_id": 299, "start_of_image": 1, "end_of_image": 0}
    release = {"bagel": {"latent_patch_size": 1, "timestep_shift": 2.0}, "special_token_ids": ids}
    release |= {
        "vae_transform": {"max": 80, "min": 32, "stride": 8},
        "vit_transform": {"max": 80, "min": 32, "stride": 16},
    }
    write(folder / "model" / "other_bagel_config.json", release)

    names = ("prompt", "prompt2", "question", "gen_think_system", "vlm_think_system")
    prompts = {name: list(range(20 + i, 23 + 3 * i)) for i, name in enumerate(names)}
    think = {"think": True, "max_think_token_n": 4}
    facts_of = {
        "greedy_text": {"fed_tokens": [0] * 3},
        "t2i_defaults": {"hyper": {"image_shapes": [24, 40], "num_timesteps": 3}},
        "edit_think": {"hyper": {**think, "num_timesteps": 4, "cfg_renorm_type": "channel"}},
        "multi_image": {"hyper": {"num_timesteps": 3, "timestep_shift": 1.5}},
        "understand": {"hyper": {"understanding_output": True, "max_think_token_n": 3}},
        "train": {"latent_shapes": [[3, 2], [4, 5], [2, 2], [4, 4], [4, 4]]},
    }
    noise = {"t2i_defaults": 15, "edit_think": 50, "multi_image": 24}
    inputs = {f"{name}.init_noise": torch.randn(rows, 12, generator=generator) for name, rows in noise.items()}
    latents = {"edit_think": [(5, 10)], "multi_image": [(5, 10), (6, 4)]}
    for name, shapes in latents.items():
        inputs |= {f"{name}.vae_latent.{i}": torch.randn(12, *hw, generator=generator) for i, hw in enumerate(shapes)}
    for name, hw in (("image_u8", (40, 80)), ("image2_u8", (45, 30))):
        inputs[name] = torch.randint(256, (*hw, 3), generator=generator, dtype=torch.uint8)
    inputs["train.padded_latent"] = torch.randn(5, 12, 4, 5, generator=generator)
    inputs["train.noise"] = torch.randn(62, 12, generator=generator)
    texts = [[300, 30 + i, 31, 299] for i in range(5)]
    times = zip((6, 20, 4, 16, 16), (0.3, float("-inf"), -1.0, 2.0, float("-inf")), strict=True)
    expected = {
        "vae.latent_sampled": torch.randn(12, 5, 10, generator=generator),
        "train.packed_text_ids": torch.tensor([i for text in texts for i in (*text, 1, 0)]),
        "train.packed_timesteps": torch.cat([torch.full((rows,), t) for rows, t in times]),
    }
    save_file(inputs, folder / "inputs.safetensors")
    meta = {"prompt_ids": prompts, "scenarios": facts_of, "aliases": {}}

    def save() -> None:
        save_file(expected, folder / "expected_fp32.safetensors")
        write(folder / "meta.json", meta)

    save()
    s = GoldenSet.read(folder)
    facts_of["train"]["grad_norms"] = s.facts["train"]["grad_norms"] = {"vae2llm.bias": 1.0, "llm2vae.bias": 1.0}
    for _, scenario in scenarios(s):
        for name, value in scenario(s):
            if isinstance(value, torch.Tensor):
                expected[name] = value.detach().clone(memory_format=torch.contiguous_format)
            elif not isinstance(value, Skipped):
                group, *inner = name.split(".", 2)
                facts = facts_of.setdefault(group, {})
                if len(inner) == 2:
                    facts = facts.setdefault(inner[0], {})
                facts[inner[-1]] = value.value if isinstance(value, Scaled) else value
    save()


def test_nothing_is_fixed_at_the_toy_sizes(tmp_path):
    folder = tmp_path / "other"
    other_set(folder)
    rows = {row.name: row for row in compare_folder(folder)}
    assert [row for row in rows.values() if not row.ok] == []
    assert {"text.v.layer2", "vit.k.layer0", "train.visible.2", "edit_think.main.rope"} <= set(rows)
    assert rows["vae.k.layer2"].result == rows["multi_image.final_latent_tokens"].result == "pass"
    change_fact(folder, "t2i_defaults/hyper", lambda hyper: {**hyper, "cfg_text_scale": 3.5})
    assert missed(folder) == {
        f"t2i_defaults.{name}" for name in ("v_step0", "final_latent_tokens", "cfg_text_scale_per_call")
    }


LAYERS = ("Linear", "Embedding", "LayerNorm", "RMSNorm")


def test_layers_come_from_the_operations(tmp_path):
    made: Counter[str] = Counter()

    def counted(kind: type[nn.Module]) -> type[nn.Module]:
        class Counted(kind):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                made[kind.__name__] += 1

        return Counted

    operations = SimpleNamespace(**{name: counted(getattr(nn, name)) for name in LAYERS})
    folder = reduced(tmp_path, "text", "vit", "t2i_notebook", "edit_text_channel")
    assert all(row.ok for row in compare_folder(folder, operations))

    made.clear()
    model = Bagel(BAGEL_7B, operations, device="meta")
    ours = tuple(vars(operations).values())
    plain = tuple(getattr(nn, name) for name in LAYERS)
    assert not [m for m in model.modules() if isinstance(m, plain) and not isinstance(m, ours)]
    # Per decoder layer 14 linears and 8 norms, per vision layer 6 linears and 2 norms; then what stands around them.
    assert made == {"Linear": 28 * 14 + 26 * 6 + 8, "Embedding": 2, "LayerNorm": 26 * 2 + 1, "RMSNorm": 28 * 8 + 2}
