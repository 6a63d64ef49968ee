"""The saved state of a stage: weights, their exponential moving average (EMA), AdamW's moments, and the step."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..bagel.network.model import Bagel
from ..errors import StrokesError
from ..files import Shapes, check_same_shapes, open_safetensors, shapes_of, write_whole
from .checksums import Checksums

FILE = "state.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


class RunState:
    """Weights, their EMA and the optimiser's moments, in one safetensors file; the step stands in its metadata."""

    def __init__(self, model: Bagel, optimizer: torch.optim.Optimizer, checksums: Checksums | None = None):
        self.parameters = dict(model.named_parameters())
        self.ema = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.optimizer, self.checksums = optimizer, checksums

    def update_ema(self, decay: float) -> None:
        """Move the averages towards the weights by 1 − ``decay``."""
        torch._foreach_lerp_(list(self.ema.values()), [p.detach() for p in self.parameters.values()], 1 - decay)

    def swap_in_ema(self) -> None:
        """Replace the weights by their averages."""
        for name, parameter in self.parameters.items():
            parameter.data.copy_(self.ema[name])

    def save(self, folder: Path, step: int) -> None:
        """Write the state after ``step`` steps."""
        whole = {name: value.contiguous() for name, value in self._tensors().items()}
        folder.mkdir(parents=True, exist_ok=True)
        write = self.checksums.write if self.checksums else write_whole
        write(folder / FILE, lambda path: save_file(whole, path, {"step": str(step)}))

    def load(self, folder: Path, steps: int) -> int:
        """The number of steps done, at most ``steps``; 0 where nothing was saved.

        Raises StrokesError for a damaged file, and for the state of another network.
        """
        path = folder / FILE
        if not path.exists():
            return 0
        check_same_shapes(shapes_of(path), self._shapes(), f"the state {path}")
        if self.checksums:
            self.checksums.check(path)
        with open_safetensors(path) as file:
            done = _step(file.metadata(), steps, path)
            for name, parameter in self.parameters.items():
                parameter.data.copy_(file.get_tensor(f"model.{name}"))
                self.ema[name].copy_(file.get_tensor(f"average.{name}"))
                if parameter.requires_grad:
                    moments = {k: file.get_tensor(f"optimizer.{name}.{k}").to(parameter) for k in _MOMENTS}
                    step = file.get_tensor(f"optimizer.{name}.step").float()
                    self.optimizer.state[parameter] = {"step": step, **moments}
        return done

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"average.{name}": value for name, value in self.ema.items()}
        for name, p in self.parameters.items():
            tensors[f"model.{name}"] = p.detach()
            if p.requires_grad:
                # AdamW has no moments of a parameter that no batch has used yet: it would begin with these.
                unused = {"step": torch.tensor(0.0), **{k: torch.zeros_like(p) for k in _MOMENTS}}
                for key, value in (self.optimizer.state.get(p) or unused).items():
                    tensors[f"optimizer.{name}.{key}"] = value
        return tensors

    def _shapes(self) -> Shapes:
        shapes: dict[str, tuple[int, ...]] = {}
        for name, p in self.parameters.items():
            keys = [f"model.{name}", f"average.{name}"]
            if p.requires_grad:
                keys += [f"optimizer.{name}.{k}" for k in _MOMENTS]
                shapes[f"optimizer.{name}.step"] = ()
            shapes |= dict.fromkeys(keys, tuple(p.shape))
        return shapes


def _step(metadata: dict[str, str] | None, steps: int, path: Path) -> int:
    said = (metadata or {}).get("step", "")
    if not (said.isdecimal() and len(said) < 16 and int(said) <= steps):
        raise StrokesError(
            f"the state {path} says no step of its {steps}: delete it, and run again: the stage begins at its first step"
        )
    return int(said)
