"""What makes a restorer of a base model: a file of the one-step family, merged into its networks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import ConfigError, SpecMismatchError
from ...lora.merge import merge_lora_
from ...lora.mixing import Mixed
from ...lora.one_step_file import OneStepFile
from ...lora.recipe import OneStepRecipe
from ...models.sd.backbone import Backbone
from ...weights.download.sources import load_source
from ...weights.search.base_files import BaseFiles
from ...weights.search.wanted_base import BASES, WantedBase, named_by
from .per_picture import Estimating

Pass = tuple[float, nn.Module]
"""Weight of a prediction, and the UNet that makes it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Restorer:
    """A recipe and the networks that it runs on."""

    recipe: OneStepRecipe
    label: str
    """Names base model and restorer, and tells them apart by content."""
    passes: tuple[Pass, ...] = ()
    """The prediction is their weighted sum; empty: the base model's UNet predicts alone."""
    mixed: tuple[Mixed, ...] = ()
    """Its networks, where they are mixed anew for every picture."""
    estimating: Estimating | None = None
    """What they are mixed by."""
    notes: tuple[str, ...] = ()


def require_base(recipe: OneStepRecipe, files: BaseFiles) -> None:
    """Refuse a base model whose name says that it is another one of the same shapes.

    Raises:
        SpecMismatchError: names both.
    """
    path = files.single_file or files.unet
    named = None if path is None else named_by(path)
    wanted = base_of(recipe)
    # 2-base and 2.1-base are of one kind; SD-Turbo was made for one step of its own.
    turbo = [base is not None and "turbo" in base.what.lower() for base in (named, wanted)]
    if named is not None and turbo[0] != turbo[1]:
        raise SpecMismatchError(
            f"{path}: {recipe.title} was trained on {recipe.base_model}, got {named.what.removeprefix('an ')}; "
            "give that base model"
        )


def base_of(recipe: OneStepRecipe) -> WantedBase | None:
    """Return the base model that a recipe names; None: one that is not known here."""
    called = recipe.base_model.rpartition("/")[2]
    return next((base for base in BASES if base.is_called(called, whole=True)), None)


def base_licence(recipe: OneStepRecipe) -> str:
    """Return the licence of the base model that a recipe names, for reports."""
    base = base_of(recipe)
    return "see its source" if base is None else load_source(base.sources[0]).licence


def pass_weights(sliders: Mapping[str, float]) -> dict[str, float]:
    """Return slider → weight of the prediction of the UNet with the adapters up to that one.

    With p_k the prediction with the first k adapters, and λ the sliders, the authors take λ₁·p₁ + λ₂·(p₂ − p₁) + …
    (Sun et al., PiSA-SR, arXiv 2412.03017, eq. 10): p_k has the weight λ_k − λ_{k+1}. What has none is not run.
    """
    names = list(sliders)
    following = [*(sliders[name] for name in names), 0.0][1:]
    return {name: sliders[name] - after for name, after in zip(names, following, strict=True)}


def merge_restorer_(
    backbone: Backbone,
    file: OneStepFile,
    *,
    strength: float = 1.0,
    sliders: Mapping[str, float] | None = None,
) -> tuple[Pass, ...]:
    """Merge a restorer into a base model's UNet and VAE, in place and in float32; return the passes of the UNet.

    Args:
        backbone: the base model.
        file: what is merged; it was checked against these networks when it was read.
        strength: how much of every change is merged; 0 leaves the base model.
        sliders: of the recipe, by their names; those left out are 1.

    Raises:
        ConfigError: a slider that the recipe has not.
        SpecMismatchError: the file does not fit.
    """
    values = dict.fromkeys(file.unet, 1.0) | dict(sliders or {})
    unknown = [name for name, value in values.items() if name not in file.unet and value != 1]
    if unknown:
        known = f" (it has {', '.join(file.recipe.sliders)})" if file.recipe.sliders else ""
        raise ConfigError(f"{file.recipe.title} has no {' and no '.join(unknown)}{known}; leave it out")
    _put_(backbone.unet, file.unet_whole, strength)
    _put_(backbone.vae, file.vae_whole, strength)
    if file.vae is not None:
        merge_lora_(backbone.vae, file.vae, strength=strength)
    weights = pass_weights({name: values[name] for name in file.unet})
    passes: list[Pass] = []
    names = list(file.unet)
    for number, name in enumerate(names):
        merge_lora_(backbone.unet, file.unet[name], strength=strength)
        if weights[name] != 0:
            last = not any(weights[later] for later in names[number + 1 :])
            passes.append((weights[name], backbone.unet if last else copy.deepcopy(backbone.unet)))
            if last:
                break
    return tuple(passes)


def mixed_restorer_(backbone: Backbone, file: OneStepFile, *, strength: float = 1.0) -> tuple[Mixed, ...]:
    """Give a base model the whole modules of a restorer; return its networks, to be mixed for every picture.

    Args:
        backbone: the base model, in float32.
        file: with `mixing`.
        strength: how much of every change is added; 0 leaves the base model.
    """
    _put_(backbone.unet, file.unet_whole, strength)
    networks = {"unet": (backbone.unet, file.unet["all"]), "vae": (backbone.vae, file.vae)}
    return tuple(
        Mixed(net, lora, file.mixing[name], strength=strength)
        for name, (net, lora) in networks.items()
        if lora is not None
    )


def _put_(net: nn.Module, whole: Mapping[str, Tensor], strength: float) -> None:
    """Let weights stand in for a network's own, or lie so far between."""
    weights = dict(net.named_parameters())
    unknown = sorted(whole.keys() - weights.keys())
    if unknown:
        raise SpecMismatchError(
            f"a whole weight of the restorer fits nothing in the base model: {unknown[0]}"
        )
    with torch.no_grad():
        for name, tensor in whole.items():
            weight = weights[name]
            new = tensor.to(weight.device, torch.float32)
            weight.copy_(new if strength == 1 else torch.lerp(weight.float(), new, strength))
