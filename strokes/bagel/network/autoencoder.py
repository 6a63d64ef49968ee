"""The FLUX autoencoder: diffusers' ``AutoencoderKL`` behind the original key names.

diffusers takes seconds to import, so it is imported only here and only when a model is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...errors import StrokesError
from ...files import check_shapes

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

# FLUX's scale and shift of latents. Source: its model configuration.
SCALE, SHIFT = 0.3611, 0.1159


def autoencoder_kwargs(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Keyword arguments of ``AutoencoderKL``, read off tensors with FLUX's original names.

    Raises :class:`StrokesError` naming a tensor that is missing, and widths that are no multiples of 32.
    """

    def rows(key: str) -> int:
        if key not in state:
            raise StrokesError(f"the autoencoder file lacks '{key}': expected FLUX's original key names")
        return state[key].shape[0]

    def count(pattern: str) -> int:
        return 1 + max((int(m.group(1)) for key in state if (m := re.match(pattern, key))), default=0)

    levels = count(r"encoder\.down\.(\d+)\.")
    widths = tuple(rows(f"encoder.down.{level}.block.0.conv1.weight") for level in range(levels))
    if any(width % 32 for width in widths):
        raise StrokesError(f"the autoencoder's widths are {list(widths)}; multiples of 32 were expected")
    return {
        "in_channels": rows("decoder.conv_out.weight"),
        "out_channels": rows("decoder.conv_out.weight"),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": widths,
        "layers_per_block": count(r"encoder\.down\.0\.block\.(\d+)\."),
        "latent_channels": rows("encoder.conv_out.weight") // 2,
        "norm_num_groups": 32,
        "scaling_factor": SCALE,
        "shift_factor": SHIFT,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    }


def build(kwargs: Mapping[str, Any]) -> AutoencoderKL:
    """A diffusers ``AutoencoderKL`` with fresh weights."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(**kwargs)


class Autoencoder:
    """The autoencoder: pixels ``[B, 3, H, W]`` in −1…1 to scaled latents ``[B, C, H/8, W/8]`` and back.

    Scaled latents are ``scale·(sample − shift)``. ``module`` is the plain diffusers module, which the manager of memory
    may move.
    """

    def __init__(self, module: AutoencoderKL, scale: float = SCALE, shift: float = SHIFT):
        self.module = module.eval().requires_grad_(False)
        self.scale, self.shift = scale, shift

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], scale: float = SCALE, shift: float = SHIFT) -> Autoencoder:
        """An autoencoder of tensors with FLUX's original names.

        Raises :class:`StrokesError` naming a tensor that is missing or misshapen.
        """
        from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

        kwargs = autoencoder_kwargs(state)
        with torch.device("meta"):  # weights that are replaced at once need no memory
            module = build(kwargs)
        expected = {key: tuple(tensor.shape) for key, tensor in to_original_names(module).items()}
        check_shapes({key: tuple(tensor.shape) for key, tensor in state.items()}, expected, "the autoencoder file")
        own = convert_ldm_vae_checkpoint({key: state[key] for key in expected}, kwargs)
        module.load_state_dict(own, assign=True)
        return cls(module, scale, shift)

    @property
    def is_flux(self) -> bool:
        """Whether it has the sizes of FLUX's autoencoder; then its latents are taken for FLUX latents."""
        config = self.module.config
        return config.latent_channels == 16 and tuple(config.block_out_channels) == (128, 256, 512, 512)

    @property
    def _where(self) -> dict[str, Any]:
        """Device and type of its weights, as keyword arguments of ``Tensor.to``."""
        weight = self.module.encoder.conv_in.weight
        return {"device": weight.device, "dtype": weight.dtype}

    @torch.inference_mode()
    def moments(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior, ``[B, C, H/8, W/8]`` each, float32, unscaled."""
        posterior = self.module.encode(pixels.to(**self._where)).latent_dist
        return posterior.mean.float(), posterior.logvar.float()

    def encode(self, pixels: Tensor, noise: Tensor | None = None) -> Tensor:
        """Scaled latents, float32: of the mean, or of a sample where ``noise`` is given, as the reference does.

        ``noise [B, C, H/8, W/8]`` is standard normal.
        """
        mean, logvar = self.moments(pixels)
        if noise is not None:
            mean = mean + torch.exp(0.5 * logvar) * noise.to(mean.device)
        return self.scale * (mean - self.shift)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Pixels ``[B, 3, 8h, 8w]``, float32, about −1…1 and not clamped, of scaled latents ``[B, C, h, w]``."""
        return self.module.decode((latents / self.scale + self.shift).to(**self._where)).sample.float()


# (pattern, replacement) in order: diffusers' names to FLUX's.
_TO_ORIGINAL = (
    (r"^(\w+)\.down_blocks\.(\d+)\.resnets\.(\d+)\.", r"\1.down.\2.block.\3."),
    (r"^(\w+)\.down_blocks\.(\d+)\.downsamplers\.0\.", r"\1.down.\2.downsample."),
    (r"^(\w+)\.up_blocks\.(\d+)\.resnets\.(\d+)\.", r"\1.up.\2.block.\3."),
    (r"^(\w+)\.up_blocks\.(\d+)\.upsamplers\.0\.", r"\1.up.\2.upsample."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.group_norm\.", ".mid.attn_1.norm."),
    (r"\.mid_block\.attentions\.0\.to_([qkv])\.", r".mid.attn_1.\1."),
    (r"\.mid_block\.attentions\.0\.to_out\.0\.", ".mid.attn_1.proj_out."),
    (r"\.conv_norm_out\.", ".norm_out."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
)


def to_original_names(module: AutoencoderKL) -> dict[str, Tensor]:
    """The tensors of an ``AutoencoderKL`` under FLUX's original names and shapes, as ``ae.safetensors`` holds them."""
    levels = len(module.config.block_out_channels)
    out = {}
    for key, tensor in module.state_dict().items():
        for pattern, replacement in _TO_ORIGINAL:
            key = re.sub(pattern, replacement, key)
        key = re.sub(r"^decoder\.up\.(\d+)", lambda m: f"decoder.up.{levels - 1 - int(m.group(1))}", key)
        if ".mid.attn_1." in key and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]
        out[key] = tensor.contiguous()
    return out
