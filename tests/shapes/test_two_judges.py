"""The checker and the comparison decide by different means whether a picture is right: their answers are the same."""

from __future__ import annotations

import numpy as np
from PIL import Image

from strokes.shapes.checker import check, detect
from strokes.shapes.compare import compare
from strokes.shapes.drawing import COLOURS, Scene, render
from strokes.shapes.sampling import TRAINED, sample_scene


def picture(scene: Scene) -> Image.Image:
    pixels = (render([scene])[0].permute(1, 2, 0) * 255).round().byte().numpy()
    return Image.fromarray(pixels)


def altered(rng: np.random.Generator, scene: Scene) -> Scene:
    """The scene with one shape recoloured or left out, or two swapped."""
    i, j = (int(n) for n in rng.integers(len(scene), size=2))
    kind = rng.integers(3)
    if kind == 0:
        return [shape for n, shape in enumerate(scene) if n != i]
    changed = list(scene)
    if kind == 1:
        new, old = COLOURS[rng.integers(len(COLOURS))], scene[i]
        changed[i] = type(old)(colour=new, kind=old.kind, x=old.x, y=old.y, r=old.r)
    else:
        changed[i], changed[j] = scene[i].at(scene[j].x, scene[j].y), scene[j].at(scene[i].x, scene[i].y)
    return changed


def test_checker_and_comparison_agree() -> None:
    rng, right = np.random.default_rng(15), []
    for _ in range(80):
        graph, scene = sample_scene(rng, TRAINED)
        image = picture(altered(rng, scene) if rng.random() < 0.7 else scene)
        right.append(check(image, graph).ok)
        assert right[-1] == (not compare(graph, detect(image)).faults), (graph, scene)
    assert 16 < sum(right) < 64
