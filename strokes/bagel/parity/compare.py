"""Comparing the engine with golden tensors of the reference, tensor by tensor and fact by fact.

Source of the rules: the README beside the sets (``tests/golden``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import StrokesError
from ..network.operations import Operations
from .golden import GoldenSet
from .scenarios import Scaled, Skipped, parts

FLOAT = 2e-4
# Kinds whose error is relative and therefore says how exact the engine is.
RELATIVE = ("float", "number", "gradient")
# Names that are only given, never computed.
GIVEN = re.compile(r"image2?_u8|(.+\.)?(init_noise|vae_eps\.\d+|eps|noise|padded_latent)")
# Latents are given too, but where their noise is given with them they can be computed again.
LATENT = re.compile(r".+\.vae_latent\.\d+")


@dataclass(frozen=True)
class Row:
    """One comparison. ``error`` is None where nothing was compared: skipped where ``ok``, else a miss."""

    name: str
    kind: str
    error: float | None
    tolerance: float
    ok: bool
    note: str = ""

    @property
    def group(self) -> str:
        return self.name.split(".")[0]

    @property
    def result(self) -> str:
        if not self.ok:
            return "MISS"
        return "skipped" if self.error is None else "pass"


def _has_float(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, list) and any(map(_has_float, value)))


def rule(name: str, want: Any) -> tuple[str, float]:
    """The kind of an expected value and its tolerance."""
    if not isinstance(want, Tensor):
        if ".grad_norms." in name:
            return "gradient", FLOAT
        return ("number", FLOAT) if _has_float(want) else ("fact", 0.0)
    if want.dtype == torch.float16:
        # Storing a value of at most max|want| in float16 moves it by up to half a unit in the last place: 2^-11 of it.
        return "float16", FLOAT + 2.0**-11
    if want.is_floating_point():
        return "float", FLOAT
    if name.endswith(".image_u8"):
        return "decoded", 1.0
    if name.startswith("tf.") and want.dtype == torch.uint8:
        return "resized", 0.0
    return "integer", 0.0


def _distance(got: Tensor, want: Tensor, scale: float | None = None) -> float:
    """``max|got−want|`` over ``scale``, by default the largest finite ``|want|``; infinities must stand in the same places."""
    got, want = got.double(), want.double()
    differs = got != want
    if not bool(differs.any()):
        return 0.0
    finite = want[want.isfinite()].abs()
    largest = float(finite.max()) if scale is None and len(finite) else scale
    return float((got - want)[differs].abs().max()) / (largest or 1.0)


def compare(name: str, got: Any, want: Any) -> Row:
    """One row for a computed and an expected value."""
    kind, tolerance = rule(name, want)
    if isinstance(got, Skipped):
        return Row(name, kind, None, tolerance, True, got.why)
    relative = kind in (*RELATIVE, "float16")
    if kind == "fact":
        error = 0.0 if got == want else float("inf")
        return Row(name, kind, error, tolerance, error == 0, "" if got == want else f"got {got}, expected {want}")
    scale = got.scale if isinstance(got, Scaled) else None if relative else 1.0
    if not isinstance(want, Tensor):
        got, want = (
            torch.tensor(x, dtype=torch.float64) for x in (got.value if isinstance(got, Scaled) else got, want)
        )
    if got.shape != want.shape:
        note = f"got shape {list(got.shape)}, expected {list(want.shape)}"
        return Row(name, kind, float("inf"), tolerance, False, note)
    error = _distance(got, want, scale)
    return Row(name, kind, error, tolerance, error < tolerance if relative else error <= tolerance)


def _facts(scenario: str, facts: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """A scenario's facts with dotted names. ``hyper`` is given; null says that nothing was recorded."""
    for key, value in facts.items():
        if isinstance(value, dict) and key != "hyper":
            yield from _facts(f"{scenario}.{key}", value)
        elif key != "hyper" and value is not None:
            yield f"{scenario}.{key}", value


def _wanted(s: GoldenSet) -> dict[str, Any]:
    """Everything that a set expects by name: tensors, aliases that are outputs, latents whose noise is known, facts."""
    aliases = [name for name in s.meta.get("aliases", {}) if not GIVEN.fullmatch(name)]
    latents = [name for name in (*s.inputs, *aliases) if LATENT.fullmatch(name) and name.split(".")[0] in s.scenarios]
    names = [*s.expected, *(name for name in aliases if not LATENT.fullmatch(name))]
    names += [name for name in latents if s.find(name.replace("vae_latent", "vae_eps")) is not None]
    wanted: dict[str, Any] = {name: s.find(name) for name in names}
    for scenario, facts in s.scenarios.items():
        wanted.update(_facts(scenario, facts))
    return wanted


@torch.no_grad()
def compare_folder(folder: Path, operations: Operations = nn) -> list[Row]:
    """A row for everything that a folder of golden tensors expects, in float32 on the CPU.

    What the engine could not compute, or does not know, is a miss that says so. ``operations`` is the namespace that
    the network's layers come from. Raises :class:`StrokesError` where the folder or its model cannot be read.
    """
    s = GoldenSet.read(Path(folder), operations)
    wanted = _wanted(s)
    rows: list[Row] = []
    reasons: dict[str, str] = {}
    for groups, part in parts(s):
        if not any(name.split(".")[0] in groups for name in wanted):
            continue
        try:
            for name, got in part(s):
                if wanted.get(name) is not None:
                    rows.append(compare(name, got, wanted.pop(name)))
        # One scenario with wrong inputs must not hide the others.
        except (StrokesError, LookupError, ValueError, TypeError, RuntimeError) as error:
            said = f"lacks {error}" if isinstance(error, KeyError) else str(error).split("\n")[0]
            reasons |= dict.fromkeys(groups, f"not compared: {said}")
    for name, want in wanted.items():
        note = reasons.get(name.split(".")[0], "not compared: no rule for this name")
        kind, tolerance = rule(name, want)
        rows.append(Row(name, kind, None, tolerance, False, note))
    return rows


def _summary(rows: Sequence[Row]) -> str:
    compared = sum(row.error is not None for row in rows)
    missed = sum(not row.ok for row in rows)
    skipped = sum(row.result == "skipped" for row in rows)
    line = f"{compared} compared, {missed} missed, {skipped} skipped"
    relative = [(row.error, row.name) for row in rows if row.kind in RELATIVE and row.error is not None]
    if relative:
        worst, name = max(relative)
        line += f"; worst relative error {worst:.1e} ({name})"
    return line


def format_table(rows: Sequence[Row]) -> str:
    """Plain text: a block for each scenario or piece, a line for each row, and a summary line last."""
    width = max((len(row.name) - len(row.group) for row in rows), default=4)
    lines = [f"  {'name':{width}}{'kind':>10}{'error':>10}{'tolerance':>11}  result"]
    order = list(dict.fromkeys(row.group for row in rows))
    for group, members in groupby(sorted(rows, key=lambda row: order.index(row.group)), key=lambda row: row.group):
        lines += ["", group]
        for row in members:
            error = "-" if row.error is None else f"{row.error:.1e}" if row.error else "0"
            tolerance = f"{row.tolerance:.1e}" if row.tolerance else "equal"
            result = f"{row.result} ({row.note})" if row.note else row.result
            name = row.name[len(group) + 1 :]
            lines.append(f"  {name:{width}}{row.kind:>10}{error:>10}{tolerance:>11}  {result}")
    return "\n".join([*lines, "", _summary(rows)])
