"""The state of a training run: weights, their exponential moving average, optimizer moments, step."""

from __future__ import annotations

from pathlib import Path

import torch

from ..bagel.network.model import Bagel
from ..files import check_same_shapes, open_safetensors, shapes_of, write_whole


class RunState:
    """All that a run needs to go on: weights, their average, the optimizer's moments, the step."""

    def __init__(self, model: Bagel, optimizer: torch.optim.Optimizer):
        self.parameters = dict(model.named_parameters())
        self.ema = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.optimizer = optimizer

    def update_ema(self, decay: float) -> None:
        """Move the average towards the weights."""
        torch._foreach_lerp_(list(self.ema.values()), [p.detach() for p in self.parameters.values()], 1 - decay)

    def swap_in_ema(self) -> None:
        for name, parameter in self.parameters.items():
            parameter.data.copy_(self.ema[name])

    def save(self, folder: Path, step: int) -> None:
        from safetensors.torch import save_file

        tensors = {f"average.{name}": value for name, value in self.ema.items()}
        for name, p in self.parameters.items():
            tensors[f"model.{name}"] = p.detach()
            for key, value in self.optimizer.state.get(p, {}).items():
                tensors[f"optimizer.{name}.{key}"] = value
        whole = {name: value.contiguous() for name, value in tensors.items()}
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "state.safetensors", lambda path: save_file(whole, path, {"step": str(step)}))

    def load(self, folder: Path) -> int:
        """The step to go on from; 0 where nothing was saved. Raises StrokesError for a damaged file or the state of another
        network."""
        path = folder / "state.safetensors"
        if not path.exists():
            return 0
        saved = {key: shape for key, shape in shapes_of(path).items() if key.startswith("model.")}
        wanted = {f"model.{name}": tuple(p.shape) for name, p in self.parameters.items()}
        check_same_shapes(saved, wanted, f"the state {path}")
        with open_safetensors(path) as file:
            for name, parameter in self.parameters.items():
                parameter.data.copy_(file.get_tensor(f"model.{name}"))
                self.ema[name].copy_(file.get_tensor(f"average.{name}"))
                if parameter.requires_grad:
                    state = {k: file.get_tensor(f"optimizer.{name}.{k}") for k in ("step", "exp_avg", "exp_avg_sq")}
                    moments = {k: state[k].to(parameter.device) for k in ("exp_avg", "exp_avg_sq")}
                    self.optimizer.state[parameter] = {**state, **moments}
            return int(file.metadata()["step"])
