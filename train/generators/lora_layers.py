"""LoRA layers inside a frozen UNet or VAE, by PEFT, under the published names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from hypir_core.errors import ConfigError, MissingDependencyError
from hypir_core.lora.file import Lora, lora_to_tensors
from hypir_core.lora.names import LoraForm, adaptable_modules, adapted_modules

OF_UNET = "unet."
"""Begins the names of the UNet's tensors where those of a VAE stand beside them."""

ENCODER_TARGETS = (
    *("to_q", "to_k", "to_v", "to_out.0"),
    *("conv", "conv1", "conv2", "conv_in", "conv_out", "conv_shortcut"),
)
"""What OSEDiff and OMGSR adapt in the VAE's encoder, by the endings of the names."""


class UnetAndEncoder(nn.Module):
    """A UNet and the encoder of its VAE, trained together: what is prepared is called as one."""

    def __init__(self, unet: Any, vae: Any):
        super().__init__()
        self.unet = unet
        self.vae = nn.Module()
        self.vae.encoder, self.vae.quant_conv = vae.encoder, vae.quant_conv  # by the names of the VAE
        self._encode = vae.encode

    def forward(
        self, image_pm1: Tensor, begin: Callable[[Tensor], Tensor], t: int, condition: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what the step begins with and what the UNet predicts of it, [b 4 h/8 w/8] each.

        Args:
            image_pm1: [b 3 h w] in [-1,1].
            begin: the posterior's mean → what the step begins with.
            t: timestep.
            condition: what the UNet's cross-attention reads.
        """
        z = begin(self._encode(image_pm1).latent_dist.mean)
        return z, self.unet(z, t, condition, return_dict=False)[0]


def add_lora_(unet: nn.Module, *, rank: int, targets: Iterable[str], start: Lora | None = None) -> None:
    """Put a LoRA of `rank` into the modules that `targets` names, in place; everything else is frozen.

    alpha = rank. The factors are float32 whatever the UNet is, under ``<module>.lora_A.default.weight`` and
    ``lora_B``. On a UNet on the meta device they are there, too.

    Args:
        unet: `diffusers.UNet2DConditionModel`, or the encoder of a VAE.
        rank: of every pair of factors.
        targets: endings of the modules' names, as in `hypir_core.weights.lora_names.adapted_modules`.
        start: a LoRA of this rank that was checked against the same modules. Without it A ~ N(0, 1/rank²) and
            B = 0 (PEFT's "gaussian"), so that the UNet starts as it is.

    Raises:
        ConfigError: `targets` fits no module.
        MissingDependencyError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as err:
        raise MissingDependencyError("peft", "train", "training a LoRA") from err
    weights = dict(unet.named_parameters())
    modules = adapted_modules(adaptable_modules(weights), targets)
    if not modules:
        raise ConfigError(f"generator.options.target_modules: no module ends with {', '.join(targets)}")
    config = LoraConfig(
        r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(modules), bias="none"
    )
    empty = start is not None or all(weight.is_meta for weight in weights.values())
    inject_adapter_in_model(config, unet, low_cpu_mem_usage=empty)
    if start:
        tensors, _ = lora_to_tensors(start, LoraForm.original)
        unet.load_state_dict(tensors, strict=False, assign=True)
    for factor in unet.parameters():
        if factor.requires_grad:
            factor.data = factor.data.float()
