"""What comes over the wires: pictures, masks and latents of every kind, overruling, and every sort of bad input."""

from __future__ import annotations

import json
import shutil

import pytest
from graphs import PROMPT, inspect, loop, node, one_round, pair, plan, refine, report, sketch, start

CORRECTED = {"verdict": "correct", "correction": "add a red circle"}


def supply(shape, dtype="float32", value=0.5):
    return node("TestSupply", shape=json.dumps(shape), dtype=dtype, value=value)


def replaced(**inputs):
    """A sketch whose picture is replaced, with a report of it."""
    graph = one_round()
    given = {"model": ["model", 0], "trajectory": ["sketch", 0], "resize_canvas": False, **inputs}
    graph["replace"] = node("StrokesReplaceImage", **given)
    graph["report"] = report(trajectory=["replace", 0])
    return graph


# Caching


@pytest.mark.parametrize(
    "changes, ran",
    [
        ({"refine": {"seed": 1}}, ["refine", "report"]),
        ({"inspect": {"seed": 1}}, ["inspect", "refine", "report"]),
        ({"sketch": {"steps": 3}}, ["sketch", "inspect", "refine", "report"]),
        ({"plan": {"instruction": "add a green cross"}}, ["plan", "sketch", "inspect", "refine", "report"]),
        ({}, []),
    ],
)
def test_a_change_runs_only_what_follows(fresh, changes, ran):
    fresh.run(one_round())
    assert fresh.run(one_round(**changes))["ran"] == ran


# Overruling


def test_a_persons_plan_and_verdict(fresh):
    mine = {"instruction": "add a green cross", "description": "a green cross"}
    found = fresh.run(one_round(plan=mine, inspect={**CORRECTED, "critique": "a shape is missing."}))["reports"][0]
    assert found["texts"][0] == "<ins>add a green cross</ins><des>a green cross</des>"
    assert found["texts"][1] == "a shape is missing. <refine>add a red circle</refine>"
    assert found["authors"] == ["user", "model", "user", "model"] and len(found["pictures"]) == 2


def test_an_instruction_alone_is_described_by_the_model(fresh):
    found = fresh.run(one_round(plan={"instruction": "add a red circle"}))["reports"][0]
    assert found["texts"][0].startswith("<ins> add a red circle </ins>") and "<des>" in found["texts"][0]


def test_overruled_in_a_loop_holds_in_every_round(fresh, toy):
    graph = pair(3)
    graph["model"]["inputs"]["checkpoint"] = toy
    graph["plan"] = plan(["start", 0], instruction="add a red circle", description="a red circle")
    graph["inspect"] = inspect(["replace", 0], verdict="accept")
    found = fresh.run(graph)["reports"][0]
    assert found["rounds"] == 3 and found["texts"].count("<ins>add a red circle</ins><des>a red circle</des>") == 3


def test_an_accepted_verdict_never_ends_the_work(fresh, toy):
    graph = one_round(inspect={"verdict": "accept"})
    graph["model"]["inputs"]["checkpoint"] = toy
    assert not fresh.run(graph)["reports"][0]["ended"]


# Pictures


@pytest.mark.parametrize(
    "shape, dtype",
    [
        ([1, 64, 64, 3], "float32"), ([1, 48, 200, 3], "float16"), ([1, 7, 5, 4], "float32"), ([1, 33, 64, 1], "float64"),
        ([64, 64, 3], "float32"), ([1, 600, 400, 2], "bfloat16"), ([1, 1, 1, 3], "uint8"), ([1, 1500, 20, 3], "float32"),
    ],
)  # fmt: skip
def test_any_picture_goes_back_in(fresh, shape, dtype):
    graph = replaced(image=["supply", 0]) | {"supply": supply(shape, dtype, 1 if dtype == "uint8" else 0.5)}
    found = fresh.run(graph)["reports"][0]
    assert found["sizes"] == [[64, 64]] and found["latents"] != [None] and found["authors"][-1] == "user"


@pytest.mark.parametrize(
    "shape, dtype, value, message",
    [
        ([2, 64, 64, 3], "float32", 0.5, "a batch of 2 pictures"),
        ([1, 64, 64, 5], "float32", 0.5, r"[1, 64, 64, 5]"),
        ([1, 0, 64, 3], "float32", 0.5, r"[1, 0, 64, 3]"),
        ([64], "float32", 0.5, "[64]"),
        ([1, 64, 64, 3], "float32", float("nan"), "NaN"),
        ([1, 64, 64, 3], "float32", float("inf"), "infinite"),
    ],
)
def test_pictures_that_cannot_be_taken(fresh, shape, dtype, value, message):
    graph = replaced(image=["supply", 0]) | {"supply": supply(shape, dtype, value)}
    error = fresh.fails(graph)
    assert error.startswith("Replace Image, round 1: image:") and message in error
    graph = start(image=["supply", 0]) | {
        "supply": supply(shape, dtype, value),
        "report": report(trajectory=["begin", 0]),
    }
    assert message in fresh.fails(graph)
    assert fresh.run(one_round())["reports"]


def test_resizing_the_canvas(fresh, toy):
    graph = replaced(image=["supply", 0], resize_canvas=True) | {"supply": supply([1, 30, 44, 3])}
    graph |= {"inspect": inspect(["replace", 0]), "refine": refine(["inspect", 0]), "plan2": plan(["refine", 0])}
    graph |= {"sketch2": sketch(["plan2", 0]), "report": report(trajectory=["sketch2", 0], image=["sketch2", 1])}
    found = fresh.run(graph)["reports"][0]
    assert set(map(tuple, found["sizes"])) == {(48, 32)} and found["image shape"] == [1, 32, 48, 3]
    graph["supply"] = supply([1, 64, 200, 3])
    assert "canvas 192×64: strokes-embedded needs sides that are multiples of 16, at most 64" in fresh.fails(graph)


def test_neither_or_both_replacements(fresh):
    assert "connect either an image or a latent" in fresh.fails(replaced())
    assert "either" in fresh.fails(replaced(image=["sketch", 1], latent=["sketch", 2]))


def test_an_own_latent_goes_back_in(fresh):
    graph = replaced(latent=["sketch", 2]) | {
        "turn": node("StrokesGetTurn", trajectory=["replace", 0], round=0, picture="last")
    }
    graph["compare"] = node("TestCompareLatents", one=["sketch", 2], other=["turn", 1])
    found = next(each for each in fresh.run(graph)["reports"] if "worst" in each)
    # Scaled and back: float32's rounding, a thousandth of what an encoding would do.
    assert found["worst"] < 1e-5
    graph = replaced(image=["sketch", 1]) | {key: graph[key] for key in ("turn", "compare")}
    found = next(each for each in fresh.run(graph)["reports"] if "worst" in each)
    assert found["worst"] > 1e-3


def test_a_path_over_a_wire_is_cached(fresh):
    graph = one_round()
    graph["save"] = node("StrokesSaveTrajectory", trajectory=["refine", 0], filename_prefix="wired/work")
    graph["load"] = node("StrokesLoadTrajectory", path=["save", 0])
    graph["next"] = report(trajectory=["load", 0])
    fresh.run(graph)
    assert fresh.run(graph)["ran"] == []


def test_latents_of_other_autoencoders(fresh, toy):
    graph = replaced(latent=["supply", 2]) | {"supply": supply([1, 16, 8, 8])}
    assert "not from strokes-embedded's own autoencoder" in fresh.fails(graph)
    graph = replaced(latent=["other", 1])
    graph["toy"] = node("StrokesLoadModel", checkpoint=toy, precision="auto", device="auto")
    graph["other"] = node("StrokesTextToImage", **{**sketch(["x", 0])["inputs"], "model": ["toy", 0], "prompt": PROMPT})
    graph["other"]["inputs"] |= {"width": 0, "height": 0}
    del graph["other"]["inputs"]["trajectory"]
    assert "from another autoencoder" in fresh.fails(graph)


def test_outputs_of_the_stages(fresh):
    graph = one_round(inspect=CORRECTED) | {
        "a": report(text=["plan", 1], flag=["plan", 3], image=["sketch", 1], mask=["sketch", 3]),
        "b": report(text=["inspect", 2], flag=["inspect", 3], image=["refine", 1], mask=["refine", 3]),
    }
    reports = {each["text"]: each for each in fresh.run(graph)["reports"] if "text" in each}
    assert set(reports) == {"add a red circle"} or len(reports) == 2
    for each in reports.values():
        assert each["image shape"] == [1, 64, 64, 3] and each["mask shape"] == [1, 64, 64]
        assert each["flag"] == "False"


# Masks


def test_a_mask_keeps_the_rest_bit_for_bit(fresh):
    mask = {
        "mask": node("SolidMask", value=1.0, width=16, height=16),
        "zero": node("SolidMask", value=0.0, width=64, height=64),
    }
    mask["where"] = node("MaskComposite", destination=["zero", 0], source=["mask", 0], x=0, y=0, operation="add")
    graph = one_round(inspect=CORRECTED, refine={"mask": ["where", 0]}) | mask
    graph["before"] = report(latent=["sketch", 2], trajectory=["sketch", 0])
    graph["compare"] = node("TestCompareLatents", one=["sketch", 2], other=["refine", 2])
    found = fresh.run(graph)["reports"]
    compared = next(each for each in found if "same" in each)
    assert compared["same"] == [[j > 1 or i > 1 for j in range(8)] for i in range(8)]


def test_empty_and_broken_masks(fresh):
    graph = one_round(inspect=CORRECTED, refine={"mask": ["mask", 0]})
    graph["mask"] = node("SolidMask", value=0.0, width=64, height=64)
    assert "Refine, round 1: the mask is empty" in fresh.fails(graph)
    graph["mask"] = supply([1, 64, 64], value=float("nan"))
    graph["refine"]["inputs"]["mask"] = ["mask", 1]
    assert "mask: it holds NaN" in fresh.fails(graph)
    graph["mask"] = supply([3, 64, 64], value=1.0)
    assert "[3, 64, 64]" in fresh.fails(graph)


# Trajectories


def test_save_load_and_go_on(fresh, base):
    graph = one_round()
    graph["save"] = node("StrokesSaveTrajectory", trajectory=["refine", 0], filename_prefix="kept/work")
    saved = fresh.run(graph)["reports"][0]
    assert (base / "output/kept/work_00001_/trajectory.json").is_file()
    graph = {"model": start()["model"], "load": node("StrokesLoadTrajectory", path="kept/work_00001_")}
    graph |= {
        "report": report(trajectory=["load", 0]),
        "plan": plan(["load", 0]),
        "next": report(trajectory=["plan", 0]),
    }
    reports = fresh.run(graph)["reports"]
    assert saved["pictures"] == min(reports, key=lambda each: len(each["texts"]))["pictures"]
    document = base / "output/kept/work_00001_/trajectory.json"
    document.write_text(document.read_text().replace('"version": 2', '"version": 9'))
    assert "made by a newer version of Strokes (format 9)" in fresh.fails(graph)
    graph["load"]["inputs"]["path"] = "../../etc"
    assert "no trajectory '../../etc'" in fresh.fails(graph)
    shutil.rmtree(base / "output/kept")
    graph["load"]["inputs"]["path"] = "kept/work_00001_"
    assert "no trajectory 'kept/work_00001_'" in fresh.fails(graph)


NAMES = ["a\0b", "x" * 5000, "x/" * 3000, "a \ud800 cat", "a\nb", "../../outside", "/etc/outside", "kept/" + "é" * 150]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_that_no_file_can_have(fresh, name):
    """One line that says what a name may be, and nothing is written."""
    save = {"begin": start()["begin"], "model": start()["model"]}
    save["save"] = node("StrokesSaveTrajectory", trajectory=["begin", 0], filename_prefix=name)
    assert "give folders and a name under ComfyUI's output" in fresh.fails(save)
    load = {"load": node("StrokesLoadTrajectory", path=name), "report": report(trajectory=["load", 0])}
    problem = fresh.fails(load)
    assert "give folders and a name under" in problem or "no trajectory '" in problem
    assert "Error" not in problem


def test_another_model_goes_on(fresh, toy):
    graph = one_round(inspect=CORRECTED)
    graph["toy"] = node("StrokesLoadModel", checkpoint=toy, precision="auto", device="auto")
    graph["refine"]["inputs"]["model"] = ["toy", 0]
    assert len(fresh.run(graph)["reports"][0]["pictures"]) == 2


def test_get_turn(fresh):
    graph = one_round(inspect=CORRECTED) | {
        "turn": node("StrokesGetTurn", trajectory=["refine", 0], round=1, picture="sketch"),
        "seen": report(image=["turn", 0], latent=["turn", 1], text=["turn", 5]),
        "straight": report(image=["sketch", 1], latent=["sketch", 2]),
    }
    found = [each for each in fresh.run(graph)["reports"] if "pictures" not in each]
    assert found[0]["image"] == found[1]["image"] and found[0]["latent"] == found[1]["latent"]
    assert {"add a red circle"} == {each["text"] for each in found if "text" in each}
    graph["turn"]["inputs"] |= {"round": 3}
    assert "round 3 was asked for, but the trajectory has 1" in fresh.fails(graph)
    graph["turn"]["inputs"] |= {"round": 0, "picture": "start"}
    assert "round 1 has no picture 'start'; it has: sketch, refined, last" in fresh.fails(graph)


def test_contact_sheet(fresh):
    graph = one_round() | {
        "sheet": node("StrokesContactSheet", trajectory=["refine", 0]),
        "see": report(image=["sheet", 0]),
    }
    shape = next(each for each in fresh.run(graph)["reports"] if "texts" not in each)["image shape"]
    assert shape[2] > 1000 and shape[3] == 3


# One-shot


def test_one_shot(fresh):
    paint = {name: value for name, value in sketch(["x", 0])["inputs"].items() if name not in ("trajectory", "model")}
    size = {"width": 0, "height": 0}
    graph = start() | {
        "paint": node("StrokesTextToImage", model=["model", 0], prompt=PROMPT, **size, **paint),
        "edit": node(
            "StrokesEditImage", model=["model", 0], image=["paint", 0], instruction="add a red circle", **size, **paint
        ),
        "ask": node("StrokesAsk", model=["model", 0], question="a red circle", seed=0, temperature=0.0, max_tokens=8),
        "a": report(image=["paint", 0], latent=["paint", 1]),
        "b": report(image=["edit", 0], latent=["edit", 1], text=["ask", 0]),
    }
    found = fresh.run(graph)["reports"]
    assert len(found) == 2 and all(each["image shape"] == [1, 64, 64, 3] for each in found)


# Bad input


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"begin": {"prompt": "  "}}, "the prompt is empty"),
        ({"begin": {"prompt": "a unicorn"}}, "strokes-embedded does not know 'unicorn'; it knows:"),
        ({"begin": {"prompt": "a red circle and " * 60 + "a red circle"}}, "reads at most 64 at a time"),
        ({"begin": {"width": 64}}, "give both, or 0 (auto) for both"),
        ({"begin": {"width": 40, "height": 64}}, "sides must be multiples of 16"),
        ({"begin": {"width": 512, "height": 512}}, "at most 64"),
        ({"begin": {"width": 8000, "height": 8000}}, "sides must be from 0 to 4096"),
        ({"begin": {"width": -64, "height": -64}}, "sides must be from 0 to 4096"),
        ({"sketch": {"steps": -1}}, "smaller than min"),
        ({"inspect": {"verdict": "correct"}}, "there is no correction"),
        ({"inspect": {"correction": "x"}}, 'set it to "correct"'),
        ({"inspect": {"critique": "x"}}, 'set it to "accept" or "correct"'),
        ({"inspect": {"verdict": "maybe"}}, "unknown verdict maybe"),
        ({"plan": {"instruction": "add a <des> circle"}}, "reserved tag <des>"),
    ],
)
def test_bad_settings(fresh, changes, message):
    error = fresh.fails(one_round(**changes))
    assert message in error, error
    assert fresh.run(one_round())["reports"]


def test_stages_out_of_order(fresh):
    graph = one_round()
    graph["refine"]["inputs"]["trajectory"] = ["sketch", 0]
    assert "Refine, round 1: cannot refine now: round 1 of the trajectory expects inspect next" in fresh.fails(graph)
    graph = loop(2)
    graph["replace"] = node(
        "StrokesReplaceImage", model=["model", 0], trajectory=["begin", 0], image=["loop", 1], resize_canvas=False
    )
    graph["report"] = report(trajectory=["replace", 0])
    assert "there is no picture to replace yet" in fresh.fails(graph)


def test_bad_checkpoints(fresh, base, toy):
    good = base / "models/strokes/toy"
    bad = base / "models/strokes/bad"

    def fails():
        graph = start(checkpoint="bad/ema.safetensors") | {"report": report(trajectory=["begin", 0])}
        return fresh.fails(graph)

    assert "no checkpoint bad/ema.safetensors: put its folder" in fails()
    shutil.copytree(good, bad)
    whole = (bad / "ema.safetensors").read_bytes()
    (bad / "ema.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "truncated" in fails()
    (bad / "ema.safetensors").write_bytes(whole)
    (bad / "ae.safetensors").unlink()
    assert "holds no ae.safetensors" in fails()
    shutil.copy(bad / "ema.safetensors", bad / "ae.safetensors")
    assert "autoencoder file lacks" in fails()
    shutil.copy(good / "ae.safetensors", bad)
    shutil.copy(good / "ae.safetensors", bad / "ema.safetensors")
    assert "is this a BAGEL checkpoint?" in fails()
    shutil.rmtree(bad)
    graph = start(checkpoint=toy) | {"report": report(trajectory=["begin", 0])}
    assert fresh.run(graph)["reports"]
