"""A discriminator at play: what it teaches the generator, and what it learns itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hypir_core.config import build
from hypir_core.errors import ConfigError

from ..config import DiscriminatorConfig, Judging, TrainConfig
from ..config.checks import raise_all
from ..losses import Compared
from ..players import Player, build_player
from ..ramps import ramp_factor
from ..run.sharding import at_rest, whole
from ..three_bands import three_bands_problem
from .catalog import ADVERSARIAL, DISCRIMINATORS, AdversarialLoss
from .feature_matching import feature_matching
from .judgement import Judgement, Logits
from .r1 import r1_penalty
from .weights_file import file_tensors, read_discriminator, write_discriminator


@dataclass(frozen=True, eq=False)
class Rival:
    """A discriminator at play."""

    player: Player
    loss: AdversarialLoss
    config: DiscriminatorConfig

    def due(self, step: int) -> bool:
        """Say whether the discriminator learns at `step`: not before its term comes in."""
        return step >= self.config.ramp.start and self.player.due(step)

    def generator_terms(
        self, step: int, compared: Compared, accelerator: Accelerator
    ) -> dict[str, tuple[float, Tensor]]:
        """Return name → (weight, term) of what the generator has to learn here; weights of 0 are left out.

        The discriminator only looks: it collects no gradients, and in evaluation mode its spectral norms and
        running means stay as they are. DDP is left aside, for it would wait for gradients that never come.
        """
        matching = self.config.feature_matching
        begun = ramp_factor(self.config.ramp, step)
        weight = self.config.weight * begun
        # Features of a discriminator that has not begun to learn are noise.
        match_weight = matching.weight * ramp_factor(matching.ramp, step) if matching and begun else 0.0
        if not (weight or match_weight):
            return {}
        module = accelerator.unwrap_model(self.player.module)
        with_features = match_weight > 0
        image, target = compared.pair(self.config.domain)
        with _only_looking(module, training=self.config.judging is Judging.training):
            fake: Judgement = module(image, with_features=with_features)
            real = Judgement([], [])
            if self.loss.needs_real or with_features:
                with torch.no_grad():
                    real = module(target, with_features=with_features)
        terms = {}
        if weight:
            terms[self.player.name] = weight, self.loss.for_generator(fake.logits, real.logits)
        if match_weight:
            term = feature_matching(fake.features, real.features)
            terms[f"{self.player.name}_features"] = match_weight, term
        return terms

    def own_terms(
        self, step: int, compared: Compared
    ) -> tuple[dict[str, tuple[float, Tensor]], dict[str, Logits]]:
        """Return name → (weight, term) of what the discriminator has to learn, and its logits by name, detached."""
        name, r1 = self.player.name, self.config.r1
        r1_weight = r1.gamma * r1.every * ramp_factor(r1.ramp, step) if r1 and self._r1_due(step) else 0.0
        image, target = compared.pair(self.config.domain)
        shown = target.detach().clone().requires_grad_(r1_weight > 0)
        real, fake = self._judged(shown, image.detach())
        terms = {f"{name}_own": (1.0, self.loss.for_discriminator(fake, real))}
        if r1 and r1_weight:
            terms[f"{name}_r1"] = r1_weight, r1_penalty(shown, real, over=r1.over)
        logits = {f"{name}_fake": _detached(fake), f"{name}_real": _detached(real)}
        return terms, logits

    def _judged(self, real: Tensor, fake: Tensor) -> tuple[Logits, Logits]:
        """Return the logits of both. Norms that collect meet the generated images first, or as the original last."""
        if self.config.judging is Judging.training:
            return self.player.module(real).logits, self.player.module(fake).logits
        made = self.player.module(fake).logits
        return self.player.module(real).logits, made

    def write(self, run_dir: Path, accelerator: Accelerator) -> Path:
        """Write its weights as ``discriminator_<name>.safetensors``; return the file.

        Every process calls this, the main one writes.
        """
        path = run_dir / f"discriminator_{self.player.name}.safetensors"
        module: Any = accelerator.unwrap_model(self.player.module)
        tensors = whole(file_tensors(at_rest(module).in_file))
        if accelerator.is_main_process:
            write_discriminator(path, tensors)
        return path

    def _r1_due(self, step: int) -> bool:
        r1 = self.config.r1
        return r1 is not None and step // self.player.config.every % r1.every == 0


def build_rivals(config: TrainConfig, accelerator: Accelerator, *, channels: int = 3) -> tuple[Rival, ...]:
    """Make every discriminator that `config` lists, for pictures of so many channels.

    Raises:
        UnknownNameError: no such discriminator or adversarial loss.
        ConfigError: an option that the discriminator or its loss does not take, or a name that is taken.
        WeightsError: weights to start from that cannot be had, or do not fit.
    """
    taken = {"generator", *config.losses} & config.discriminators.keys()
    if taken:
        raise ConfigError(
            [f"discriminators.{name}: {name} is what something else is called; rename it" for name in taken]
        )
    return tuple(
        _rival(name, entry, config, accelerator, channels) for name, entry in config.discriminators.items()
    )


def discriminator_options(entry: DiscriminatorConfig, *, where: str, channels: int) -> Any:
    """Return the options of a discriminator that judges pictures of so many channels.

    Raises:
        UnknownNameError: no such discriminator.
        ConfigError: options that it does not take, or that do not go with the channels.
    """
    options = build(DISCRIMINATORS.get(entry.name).Options, entry.options, where=f"{where}.options")
    if hasattr(options, "channels"):
        raise_all(three_bands_problem(options.channels, channels, key=f"{where}.options.channels"))
    if not hasattr(options, "in_channels"):
        return options
    if options.in_channels not in {None, channels}:
        raise ConfigError(
            f"{where}.options.in_channels: is {options.in_channels}, and the generator makes {channels} channels; "
            "leave it out"
        )
    return replace(options, in_channels=channels)


def _rival(
    name: str, entry: DiscriminatorConfig, config: TrainConfig, accelerator: Accelerator, channels: int
) -> Rival:
    where = f"discriminators.{name}"
    options = discriminator_options(entry, where=where, channels=channels)
    module: Any = DISCRIMINATORS.get(entry.name)(options)
    if entry.weights:
        read_discriminator(module.in_file, entry.weights, key=f"{where}.weights")
    if config.channels_last:
        module.to(memory_format=torch.channels_last)
    player = build_player(
        name,
        module,
        entry.optimiser,
        ema=None,
        accelerator=accelerator,
        max_steps=config.max_steps,
        start=entry.ramp.start,
    )
    loss = build(ADVERSARIAL.get(entry.loss), entry.loss_options, where=f"{where}.loss_options")
    return Rival(player, loss, entry)


@contextmanager
def _only_looking(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Let gradients pass through `module` without collecting any for it, in training or evaluation mode."""
    trained, before = [p for p in module.parameters() if p.requires_grad], module.training
    module.train(training)
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)
        module.train(before)


def mean_logit(logits: Logits) -> Tensor:
    """Return the mean over the levels of each one's mean."""
    return torch.stack([level.mean() for level in logits]).mean()


def _detached(logits: Logits) -> Logits:
    return [level.detach() for level in logits]
