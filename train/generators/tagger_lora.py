"""A LoRA of the tagger that keeps its tokens and tags right on degraded pictures: SeeSR's DAPE, trained here.

Wu et al., "SeeSR: Towards Semantics-Aware Real-World Image Super-Resolution", arXiv 2311.16518, section 3.1: the tagger
as it is looks at the clean picture, the tagger with the LoRA at the degraded one, and learns to see the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hypir_core.config import build, strict
from hypir_core.errors import ConfigError, SpecMismatchError, WeightsNotFoundError
from hypir_core.models.tagger.ram import Ram, prepare
from hypir_core.tags.files import TaggerFile, load_ram, read_tagger
from hypir_core.tags.lora import TaggerLora, adapted_weights, factor_shapes, read_tagger_lora
from hypir_core.weights.search.locate_tagger import locate_tagger
from hypir_core.weights.tagger_lora_spec import TaggerLoraSpec

from ..config import ExportConfig, TrainConfig
from ..config.checks import at_least, raise_all
from ..data.batch import Batch
from .base import Generator, GeneratorKind, Sight

AUTO = "auto"
RANK = 8
DOT = "/"
"""Stands for the dots in a weight's name, which the name of a parameter may not have."""


@dataclass(frozen=True, kw_only=True)
class TaggerLoraOptions:
    """``generator.options`` of ``tagger_lora``."""

    __pydantic_config__ = strict

    tagger: str = AUTO
    """RAM's weight file; `auto` looks for it."""
    start: Path | None = None
    """A LoRA to go on from, the published DAPE.pth or one that was trained here; None starts with one that changes
    nothing."""
    rank: int | None = None
    """Of every pair of factors; None takes 8, or that of `start`."""
    scale: int = 1
    """High-quality pixels per low-quality pixel."""
    tokens_weight: float = 1.0
    """Of the squared difference of the tokens."""
    tags_weight: float = 1.0
    """Of the cross-entropy of the tags."""

    def __post_init__(self) -> None:
        problems = at_least(self, 1, "scale", *(() if self.rank is None else ("rank",)))
        if self.rank is not None and self.start is not None:
            problems.append("rank is not read with start, which has one; leave it out")
        if min(self.tokens_weight, self.tags_weight) < 0 or not self.tokens_weight + self.tags_weight > 0:
            problems.append("tokens_weight and tags_weight must be 0 or more, and one of them above 0")
        raise_all(problems)


class AdaptedTagger(nn.Module):
    """A frozen tagger, whose weights are not in this module, with a LoRA that is."""

    def __init__(self, ram: Ram, pairs: Mapping[str, tuple[Tensor, Tensor]]):
        super().__init__()
        self._ram = (ram,)
        self._weights = tuple(pairs)
        self.factors = nn.ParameterDict(
            {
                f"{name.removesuffix('.weight').replace('.', DOT)}{DOT}lora_{letter}": nn.Parameter(
                    factor.detach().float().clone()
                )
                for name, pair in pairs.items()
                for letter, factor in zip("AB", pair, strict=True)
            }
        )

    def forward(self, prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Return (tokens [b n width], logits [b labels]) of pictures as `prepare` makes them."""
        (ram,) = self._ram
        lora = TaggerLora(pairs={name: self._pair(name) for name in self._weights})
        own = dict(ram.named_parameters())
        changed = {}
        for name in self._weights:
            delta = lora.delta(name)
            assert delta is not None
            changed[name] = own[name] + delta
        return functional_call(ram, changed, (prepared,))

    def _pair(self, weight: str) -> tuple[Tensor, Tensor]:
        name = weight.removesuffix(".weight").replace(".", DOT)
        return self.factors[f"{name}{DOT}lora_A"], self.factors[f"{name}{DOT}lora_B"]


def names_for_file(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what an `AdaptedTagger` trains under the names of the published file."""
    return {name.removeprefix("factors.").replace(DOT, "."): tensor for name, tensor in tensors.items()}


def read_options(options: Mapping[str, Any]) -> TaggerLoraOptions:
    """Read ``generator.options``.

    Raises:
        ConfigError: lists the unknown keys and the wrong values.
    """
    return build(TaggerLoraOptions, options, where="generator.options")


def find_files(config: TrainConfig) -> None:
    """Look for the tagger and what to start from.

    Raises:
        ConfigError: the settings do not go with this generator.
        WeightsNotFoundError: one of them is nowhere to be found; names the key.
    """
    options = read_options(config.generator.options)
    problems = []
    if config.task != "tagging":
        problems.append(
            f"task: the generator tagger_lora learns to see alike; expected tagging, got {config.task}"
        )
    if config.base_model is not None:
        problems.append(
            "base_model: tagger_lora has none; name RAM's file with generator.options.tagger, and a LoRA to go on from "
            "with generator.options.start"
        )
    if not config.data.bounded:
        problems.append("data.source.kind: tagger_lora takes pictures in [0,1], got scenes")
    if config.export.original_pth:
        problems.append("export.original_pth: the export is laid out as the published file; set it to false")
    raise_all(problems)
    _find(options)
    if options.start is not None and not options.start.is_file():
        raise WeightsNotFoundError(
            f"generator.options.start: there is no file {options.start}; check the path"
        )


def tagger_lora(config: TrainConfig, device: torch.device) -> Generator:
    """Make the generator from RAM on this machine; nothing is fetched.

    Raises:
        ConfigError: an option that is unknown.
        WeightsNotFoundError: a file is nowhere to be found.
        WeightsError, SpecMismatchError: a file cannot be read or does not fit.
    """
    options = read_options(config.generator.options)
    file = _find(options)
    if file.spec.lora is not None:
        raise SpecMismatchError(
            f"{file.path}: {file.spec.lora} is merged into this tagger, and what is clean must be seen without; "
            "give RAM's own file"
        )
    ram = load_ram(file, torch.float32).to(device)
    pairs = _pairs(ram, options)
    rank = len(pairs[next(iter(pairs))][1][0])

    def see(module: nn.Module, image_01: Tensor) -> tuple[Tensor, Tensor]:
        tokens, logits = module(prepare(image_01, ram.side_px))
        return tokens.float(), logits.float()

    @torch.no_grad()
    def clean(image_01: Tensor) -> tuple[Tensor, Tensor]:
        return see(ram, image_01)

    def restore(prepared: nn.Module, batch: Batch) -> Tensor:
        raise ConfigError("task: the generator tagger_lora needs task=tagging")

    def spec(export: ExportConfig, trained_with: str) -> TaggerLoraSpec:
        return TaggerLoraSpec(
            name=export.name,
            rank=rank,
            tagger=file.label,
            trained_on=export.trained_on,
            trained_with=trained_with,
            licence=export.licence,
        )

    return Generator(
        module=AdaptedTagger(ram, pairs),
        scale=options.scale,
        restore=restore,
        spec=spec,
        grain_px=options.scale,
        base_hash=file.label,
        frozen=(ram,),
        sight=Sight(see=see, clean=clean, weights=(options.tokens_weight, options.tags_weight)),
    )


def _find(options: TaggerLoraOptions) -> TaggerFile:
    try:
        return read_tagger(locate_tagger(None if options.tagger == AUTO else options.tagger))
    except WeightsNotFoundError as err:
        raise WeightsNotFoundError(f"generator.options.tagger: {err}\nthen set it to the file") from err


def _pairs(ram: Ram, options: TaggerLoraOptions) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Return the factors to begin with: A as a linear layer begins, B zeros."""
    weights = dict(ram.named_parameters())
    if options.start is not None:
        return read_tagger_lora(options.start, weights).pairs
    pairs = {}
    for name in adapted_weights(weights):
        down, up = (
            torch.zeros(shape) for shape in factor_shapes(name, weights[name].shape, options.rank or RANK)
        )
        nn.init.kaiming_uniform_(down, a=math.sqrt(5))
        pairs[name] = (down, up)
    return pairs


TAGGER_LORA = GeneratorKind(make=tagger_lora, check=read_options, find=find_files)
