"""Trainers of diffusion models by one call: from names, from a preset, or from a file of settings.

    trainer = create_from_preset("microscopy_2p", image_size=512)
    loss = trainer.training_step(batch, 0)   # one's own loop: backward, optimiser, as one likes
    trainer.fit()                            # or the whole training, as `python -m train` runs it

A trainer is composed of a model, a schedule, a sampler, a loss, a range and a microscope; each may be given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hypir_core.components import BaseSampler, BaseScheduler, create_loss, create_sampler, create_scheduler
from hypir_core.config import build, merge
from hypir_core.diffusion.schedule import a_bars64
from hypir_core.engines.pixel.network import build_network
from hypir_core.errors import ConfigError, ShapeError, UnknownNameError
from hypir_core.image.ranges import AnyRange

from .config import TrainConfig
from .config.presets import find_preset, read_preset, with_modality
from .data.batch import Batch
from .data.measured import Measured
from .data.seeds import generator_for
from .generators.light import file_range, light_of
from .generators.pixel import spec_of
from .options import check_options
from .strategies import with_strategy
from .tasks.denoising import guessed

SMALL = "pixel_small_cpu"
"""The preset that settings are laid on where none is named."""

PRESETS: Mapping[str, str] = {
    "microscopy_2p": "pixel_2p",
    "fast_inference": "pixel_fast",
    "high_quality": "pixel_high_quality",
    "microscopy_small": SMALL,
}
"""Name → preset in ``train/presets``, which `create_from_preset` takes as well by its own name."""

SUFFIXES = (".yaml", ".yml", ".json")


class DDPMTrainer:
    """What one step of learning to denoise needs, and what it gives.

    Args:
        model: x_t with the condition behind it, and timesteps [b] → a prediction; None: the network of `config`.
        scheduler: the noise schedule, or its name; None: that of `config`.
        sampler: what `sample` uses, or its name; None: that of `config`.
        loss: prediction and what it should be → a scalar; None: mean squared error.
        transform: from file values to [-1,1]; None: that of `config`.
        forward_model: the microscope that measures clean pictures; None: that of `config`, if it has one.
        config: the settings of a whole training; None: those of the preset pixel_small_cpu.
    """

    def __init__(
        self,
        model: nn.Module | Callable[..., Tensor] | None = None,
        scheduler: BaseScheduler | str | None = None,
        sampler: BaseSampler | str | None = None,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        transform: AnyRange | None = None,
        forward_model: Measured | None = None,
        *,
        config: TrainConfig | None = None,
    ):
        config = config or small_config({})
        if isinstance(scheduler, str):
            config = replace(
                config, denoising=replace(config.denoising, schedule=scheduler, schedule_options={})
            )
        if isinstance(sampler, str):
            config = replace(config, denoising=replace(config.denoising, sampler=sampler, sampler_options={}))
        self.config, self._model = config, model
        self.scheduler = (
            scheduler
            if isinstance(scheduler, BaseScheduler)
            else create_scheduler(config.denoising.schedule, config.denoising.schedule_options)
        )
        self._sampler = sampler if isinstance(sampler, BaseSampler) else None
        self.loss = loss or create_loss("mse")
        self.transform: AnyRange = transform or file_range(config)
        physics = config.data.physics
        self.forward_model = forward_model or (Measured(physics) if physics else None)
        self.steps = 0
        """Training steps so far."""
        self._a_bars = a_bars64(self.scheduler.as_schedule())

    @cached_property
    def model(self) -> Any:
        """The network; that of the settings is made when it is first asked for."""
        if self._model is not None:
            return self._model
        torch.manual_seed(self.config.seed)
        return build_network(spec_of(self.config, self.config.export, ""), where="generator.options")

    @property
    def conditional(self) -> bool:
        """Whether the model is told the measurement."""
        return bool(self.config.generator.options.get("conditional", True))

    @cached_property
    def sampler(self) -> BaseSampler:
        """The sampler, with the model in it."""
        if self._sampler is not None:
            return self._sampler
        d = self.config.denoising
        return create_sampler(
            d.sampler,
            d.sampler_keywords,
            model=self.model,
            scheduler=self.scheduler,
            prediction=d.prediction.value,
        )

    def training_step(self, batch: Batch | Tensor | tuple[Tensor, Tensor], batch_idx: int = 0) -> Tensor:
        """Return the loss of one batch, a scalar with gradient.

        Args:
            batch: a `Batch`; clean pictures [b c h w] in file values, which the microscope measures, if there is one;
                or such pictures with what the model is told of them [b c' h w].
            batch_idx: the number of the batch in its epoch; not used, the noise depends on seed and `steps`.

        Raises:
            ShapeError: it is something else.
        """
        del batch_idx
        draw = generator_for(self.config.seed, "training step", self.steps)
        self.steps += 1
        x0, told = self._pair(batch, draw)
        t = torch.randint(len(self._a_bars), (len(x0),), generator=draw)
        if told is not None:
            kept = torch.rand(len(x0), generator=draw) >= self.config.denoising.condition_dropout
            told = told * kept.to(told).view(-1, *[1] * (told.ndim - 1))
        guess = guessed(
            self.model,
            x0,
            told,
            eps=torch.randn(x0.shape, generator=draw).to(x0),
            a_bar=self._a_bars[t].to(x0).view(-1, *[1] * (x0.ndim - 1)),
            t=t.to(x0.device),
            kind=self.config.denoising.prediction,
        )
        return self.loss(guess.predicted, guess.wanted)

    def sample(self, shape: tuple[int, ...], y: Tensor | None = None, *, seed: int = 0) -> Tensor:
        """Return pictures of `shape` [b c h w] in file values, of noise, told `y` [b c' h w] or nothing."""
        if y is None and self.conditional:
            b, c, *cells = shape
            y = torch.zeros(b, 2 * c, *cells)
        generator = torch.Generator().manual_seed(seed)
        return self.transform.undo(self.sampler.sample(shape, None, y, generator=generator))

    def fit(self) -> Path:
        """Run the training of the settings, from data to export, and return its folder; see `run.recipe.train`.

        Raises:
            ConfigError: parts were given that no settings describe.
        """
        if self._model is not None or self._sampler is not None:
            raise ConfigError(
                "fit trains what the settings say; with a model or sampler of your own call training_step in a loop"
            )
        from .run.recipe import train

        return train(self.config)

    def _pair(
        self, batch: Batch | Tensor | tuple[Tensor, Tensor], draw: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Return clean pictures in network units, and what the model is told of them."""
        if isinstance(batch, (tuple, list)):
            if len(batch) != 2:
                raise ShapeError(f"a batch is pictures, or pictures and a condition, got {len(batch)} things")
            return self.transform.apply(batch[0]), batch[1]
        if isinstance(batch, Tensor):
            if batch.ndim != 4 or not batch.is_floating_point():
                raise ShapeError(
                    f"a batch is floating pictures [b c h w], got {list(batch.shape)} {batch.dtype}"
                )
            if self.forward_model is None or not self.conditional:
                x0 = self.transform.apply(batch)
                b, c, *cells = x0.shape
                return x0, torch.zeros(b, 2 * c, *cells).to(x0) if self.conditional else None
            exposed = [self.forward_model.expose(each, draw) for each in batch]
            batch = Batch(
                batch,
                torch.stack([each.lq for each in exposed]),
                light=torch.stack([each.light for each in exposed]).to(batch.device),
            )
        light = light_of(self.config, batch)
        return light.to_net(batch.hq), light.condition(batch.lq) if self.conditional else None


class ModelFactory:
    """Trainers by names or from files."""

    @staticmethod
    def create_trainer(
        scheduler_type: str = "cosine",
        sampler_type: str = "ddim",
        model: nn.Module | None = None,
        config: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> DDPMTrainer:
        """Return a trainer with this schedule and sampler.

        Args:
            scheduler_type: a name in `SCHEDULER_REGISTRY`.
            sampler_type: a name in `SAMPLER_REGISTRY`.
            model: a network of one's own; None: the small one.
            config: settings of a training, as presets hold them, laid on those of pixel_small_cpu.
            settings: the same, by their first key.

        Raises:
            UnknownNameError: no such schedule or sampler.
            ConfigError: lists every setting that is wrong.
        """
        names = {"denoising": {"schedule": scheduler_type, "sampler": sampler_type}}
        laid = merge(merge(dict(config or {}), settings), names)
        return DDPMTrainer(model, config=_checked(small_config(laid)))

    @staticmethod
    def from_config_file(config_path: str | Path) -> DDPMTrainer:
        """Return the trainer of a file of settings, YAML or JSON, as ``python -m train`` takes it.

        Raises:
            FileNotFoundError: there is no such file.
            ConfigError: another ending, or a setting that is wrong; lists all of them.
        """
        path = Path(config_path)
        if path.suffix.lower() not in SUFFIXES:
            raise ConfigError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: there is no such file; check the path")
        return DDPMTrainer(config=_checked(_config(read_preset(path), path.name)))


def create_from_preset(
    name: str,
    *,
    image_size: int | None = None,
    num_steps: int | None = None,
    enable_guidance: bool | None = None,
    **settings: Any,
) -> DDPMTrainer:
    """Return the trainer of a preset: microscopy_2p, fast_inference, high_quality, microscopy_small.

    Args:
        name: one of those, or of a preset in ``train/presets``.
        image_size: side of the pictures it learns from; where they are synthetic, they are made so much larger.
        num_steps: steps of its sampler.
        enable_guidance: whether validation moves clean estimates towards the measurement.
        settings: further settings by their first key, laid on those of the preset.

    Raises:
        UnknownNameError: no such preset; lists them.
        ConfigError: lists every setting that is wrong.
    """
    try:
        path = find_preset(PRESETS.get(name, name))
    except UnknownNameError as err:
        raise UnknownNameError("preset", name, PRESETS) from err
    base = read_preset(path)
    given: dict[str, Any] = {}
    if image_size is not None:
        data: dict[str, Any] = {"crop_px": image_size}
        source = base.get("data", {}).get("source", {})
        if source.get("dataset") == "synthetic_microscopy":
            margin_px = base["data"].get("margin_px", 0)
            data["source"] = {"options": {"side_px": image_size + 2 * margin_px}}
        given["data"] = data
    if num_steps is not None:
        given["denoising"] = {"steps": num_steps}
    if enable_guidance is not None:
        given.setdefault("denoising", {})["guide"] = enable_guidance
    laid = merge(merge(base, given), settings)
    return DDPMTrainer(config=_checked(_config(laid, path.name)))


def small_config(settings: Mapping[str, Any]) -> TrainConfig:
    """Return the settings of the preset pixel_small_cpu with `settings` laid on."""
    path = find_preset(SMALL)
    return _config(merge(read_preset(path), settings), path.name)


def _config(settings: Mapping[str, Any], where: str) -> TrainConfig:
    stated = merge({"output_dir": "runs/diffusion"}, with_modality(settings))
    return build(TrainConfig, stated, where=where)


def _checked(config: TrainConfig) -> TrainConfig:
    """Return the settings; names and options are looked up, nothing is made.

    Raises:
        UnknownNameError: no such schedule or sampler.
        ConfigError: lists everything else that is wrong.
    """
    create_scheduler(config.denoising.schedule, config.denoising.schedule_options)
    create_sampler(config.denoising.sampler, config.denoising.sampler_keywords)
    check_options(with_strategy(config))
    return config
