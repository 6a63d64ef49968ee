"""What a person sees while it runs, over the real server's websocket: live text, previews, progress, and their bytes."""

from __future__ import annotations

import io
import re
from urllib.parse import urlencode
from urllib.request import urlopen

import numpy as np
import pytest
from graphs import loop, node, one_round, pair
from PIL import Image
from server import Server


@pytest.fixture(scope="module")
def server(comfy, base):
    server = Server(comfy, base)
    yield server
    server.close()


def watched(graph):
    """A graph of these tests with only core nodes at its end."""
    del graph["report"]
    last = next(name for name in ("loop", "end", "refine") if name in graph)
    return graph | {"preview": node("PreviewImage", images=[last, 1])}


def pixels(server, reference):
    query = urlencode({name: reference[name] for name in ("filename", "subfolder", "type")})
    with urlopen(f"http://127.0.0.1:{server.port}/view?{query}", timeout=60) as answer:
        return np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB"), int)


def test_the_last_preview_is_the_final_picture(server):
    run = server.run(watched(one_round(sketch={"steps": 12})))
    assert not run.error
    for stage in ("sketch", "refine"):
        shown = [Image.open(io.BytesIO(data)) for _, name, data in run.previews if name == stage]
        final = pixels(server, run.history["outputs"][stage]["images"][0])
        small = np.asarray(shown[-1].convert("RGB").resize((64, 64), Image.Resampling.BOX), int)
        assert np.abs(small - final).mean() < 4  # a JPEG of it


def test_text_is_shown_as_words(server):
    run = server.run(watched(one_round(plan={"seed": 1})))
    texts = {name: text for _, name, text in run.texts}
    # Two spaces before a line break: Nodes 2.0 shows Markdown.
    cost, said = texts["plan"].split("  \n")
    assert said == "add a red circle → a red circle" and re.fullmatch(r"\d+ tokens · [\d.]+ s", cost)
    verdict, cost, critique = texts["inspect"].split("  \n")
    assert re.fullmatch(r"Accepted \+[\d.]+", verdict) and critique.startswith("the step is") and "scored" in cost
    assert re.match(r"Nothing repainted; (not )?finished [+-][\d.]+  \n", texts["refine"])
    assert not any(re.search("[<>]", text) for _, _, text in run.texts)
    outputs = run.history["outputs"]
    assert outputs["plan"]["text"] == [texts["plan"].replace("  \n", "\n")] and outputs["plan"]["strokes_round"] == [1]


def test_a_loop_says_in_the_end_how_it_ended_and_what_it_cost(server):
    run = server.run(watched(loop(2)))
    ended, costs = [text for _, name, text in run.texts if name == "loop"][-1].split("  \n")
    assert ended == "Finished after 2 rounds."
    assert re.fullmatch(r"\d+ calls · \d+ tokens · \d+ rows scored · [\d.]+ s", costs)
    run = server.run(watched(pair(1, body={"user": node("ImageInvert", image=["sketch", 1])})))
    assert not run.error and [name for _, name, _ in run.texts][-1] == "refine", "Loop End has no text"


def test_at_most_two_progress_messages_a_second(server, toy):
    graph = watched(one_round(begin={"checkpoint": toy}, sketch={"steps": 400}, plan={"max_tokens": 200}))
    run = server.run(graph)
    assert not run.error
    for kind in (run.previews, run.texts):
        for stage in ("plan", "sketch", "inspect"):
            times = [when for when, name, _ in kind if name == stage]
            # The last one, with the result, may come at any time.
            assert all(late - early > 0.4 for early, late in zip(times[:-1], times[1:-1], strict=False)), stage


def test_thirty_two_rounds_over_the_wire(server, toy):
    graph = watched(loop(32, max_tokens=3))
    graph["model"]["inputs"]["checkpoint"] = toy
    run = server.run(graph, seconds=400)
    assert not run.error and sum(name.endswith("sketch") for name in run.ran) == 32
    core = run.bytes.pop("progress_state")
    print(f"32 rounds: {sum(run.bytes.values()):,} bytes, and {core:,} of progress_state")
    assert sum(run.bytes.values()) < 20e6
