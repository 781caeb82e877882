"""LoRA layers inside a frozen UNet, by PEFT, under the published names."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from hypir_core.errors import ConfigError, MissingDependencyError
from hypir_core.lora.file import Lora, lora_to_tensors
from hypir_core.lora.names import LoraForm, adaptable_modules, adapted_modules


def add_lora_(unet: nn.Module, *, rank: int, targets: Iterable[str], start: Lora | None = None) -> None:
    """Put a LoRA of `rank` into the modules that `targets` names, in place; everything else is frozen.

    alpha = rank. The factors are float32 whatever the UNet is, under ``<module>.lora_A.default.weight`` and
    ``lora_B``. On a UNet on the meta device they are there, too.

    Args:
        unet: `diffusers.UNet2DConditionModel`.
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
        raise ConfigError(
            f"generator.options.target_modules: no module of the UNet ends with {', '.join(targets)}"
        )
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
