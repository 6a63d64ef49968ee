"""The comparison of the engine with a set of golden tensors: one row for each tensor and each fact.

Source of names and tolerances: the README beside the sets (``tests/golden``).
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
from .scenarios import scenarios
from .values import Scaled, Skipped

# Largest relative error of float32 values.
FLOAT = 2e-4
# Kinds whose error is relative. float16 is, too, but its error says how exact the file is, and not the engine.
RELATIVE = ("float", "number", "gradient")
# Names of inputs: nothing computes them.
GIVEN = re.compile(r"image2?_u8|(.+\.)?(init_noise|vae_eps\.\d+|eps|noise|padded_latent)")
# Latents are inputs too, but can be computed where their noise is an input as well.
LATENT = re.compile(r".+\.vae_latent\.\d+")


@dataclass(frozen=True, kw_only=True)
class Row:
    """The comparison of one value. ``error`` is None where nothing was compared: skipped where ``ok``, else a miss.

    ``kind`` is that of :func:`rule`; ``note`` says why a value was not compared or what differs.
    """

    name: str
    kind: str
    error: float | None
    tolerance: float
    ok: bool
    note: str = ""

    @property
    def group(self) -> str:
        """The scenario: the first word of the name."""
        return self.name.split(".")[0]

    @property
    def result(self) -> str:
        """``pass``, ``MISS`` or ``skipped``."""
        if not self.ok:
            return "MISS"
        return "skipped" if self.error is None else "pass"


def _has_float(value: Any) -> bool:
    """Whether a value of JSON is a float or a list with one in it."""
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
    """``max|got−want|`` over ``scale``, by default the largest finite ``|want|``; infinite where infinities differ."""
    got, want = got.double(), want.double()
    differs = got != want
    if not bool(differs.any()):
        return 0.0
    finite = want[want.isfinite()].abs()
    largest = float(finite.max()) if scale is None and len(finite) else scale
    return float((got - want)[differs].abs().max()) / (largest or 1.0)


def compare(name: str, got: Any, want: Any) -> Row:
    """The row of a computed and an expected value: tensors, numbers, or facts of JSON."""
    kind, tolerance = rule(name, want)
    if isinstance(got, Skipped):
        return Row(name=name, kind=kind, error=None, tolerance=tolerance, ok=True, note=got.why)
    relative = kind in (*RELATIVE, "float16")
    if kind == "fact":
        error = 0.0 if got == want else float("inf")
        note = "" if got == want else f"got {got}, expected {want}"
        return Row(name=name, kind=kind, error=error, tolerance=tolerance, ok=error == 0, note=note)
    scale = got.scale if isinstance(got, Scaled) else None if relative else 1.0
    if not isinstance(want, Tensor):
        got, want = (
            torch.tensor(x, dtype=torch.float64) for x in (got.value if isinstance(got, Scaled) else got, want)
        )
    if got.shape != want.shape:
        note = f"got shape {list(got.shape)}, expected {list(want.shape)}"
        return Row(name=name, kind=kind, error=float("inf"), tolerance=tolerance, ok=False, note=note)
    error = _distance(got, want, scale)
    ok = error < tolerance if relative else error <= tolerance
    return Row(name=name, kind=kind, error=error, tolerance=tolerance, ok=ok)


def _facts(scenario: str, facts: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """A scenario's expected facts by dotted names. ``hyper`` is an input; null is a fact that was not recorded."""
    for key, value in facts.items():
        if isinstance(value, dict) and key != "hyper":
            yield from _facts(f"{scenario}.{key}", value)
        elif key != "hyper" and value is not None:
            yield f"{scenario}.{key}", value


def _wanted(s: GoldenSet) -> dict[str, Any]:
    """Every expected value by name: tensors, aliases of outputs, latents whose noise is an input, facts."""
    aliases = [name for name in s.meta.get("aliases", {}) if not GIVEN.fullmatch(name)]
    latents = [name for name in (*s.inputs, *aliases) if LATENT.fullmatch(name) and name.split(".")[0] in s.facts]
    names = [*s.expected, *(name for name in aliases if not LATENT.fullmatch(name))]
    names += [name for name in latents if s.find(name.replace("vae_latent", "vae_eps")) is not None]
    wanted: dict[str, Any] = {name: s.find(name) for name in names}
    for scenario, facts in s.facts.items():
        wanted.update(_facts(scenario, facts))
    return wanted


@torch.no_grad()
def compare_folder(folder: Path, operations: Operations = nn) -> list[Row]:
    """A row for each expected value of a folder of golden tensors, computed in float32 on the CPU.

    A value that the engine failed to compute, or whose name no scenario yields, is a miss that says so. ``operations``
    is the namespace of the network's layers. Raises :class:`StrokesError` where folder or model cannot be read.
    """
    s = GoldenSet.read(Path(folder), operations)
    wanted = _wanted(s)
    rows: list[Row] = []
    reasons: dict[str, str] = {}
    for groups, scenario in scenarios(s):
        if not any(name.split(".")[0] in groups for name in wanted):
            continue
        try:
            for name, got in scenario(s):
                if wanted.get(name) is not None:
                    rows.append(compare(name, got, wanted.pop(name)))
        # One scenario with wrong inputs must not hide the others.
        except (StrokesError, LookupError, ValueError, TypeError, RuntimeError) as error:
            said = f"lacks {error}" if isinstance(error, KeyError) else str(error).split("\n")[0]
            reasons |= dict.fromkeys(groups, f"not compared: {said}")
    for name, want in wanted.items():
        note = reasons.get(name.split(".")[0], "not compared: no rule for this name")
        kind, tolerance = rule(name, want)
        rows.append(Row(name=name, kind=kind, error=None, tolerance=tolerance, ok=False, note=note))
    return rows


def _summary(rows: Sequence[Row]) -> str:
    """One line: how many values were compared, missed and skipped, and the worst relative error."""
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
    """The rows as plain text: a block for each scenario, a line for each row, the summary last."""
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
