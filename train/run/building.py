"""Everything a step needs, made from the settings and brought to the checkpoint that the run goes on from."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin

from hypir_core.errors import ConfigError

from ..config import Precision, Resume, TrainConfig
from ..config.checks import raise_all
from ..data.axes import scales_of
from ..data.bad_files import BadFiles
from ..data.checking import check_data
from ..data.degrading import build_mixture
from ..data.measured import Measured
from ..data.opening import open_source
from ..data.pairs import PairSequence
from ..data.scene_tiles import bands_of
from ..data.source import Channels
from ..data.statistics import settled_ranges
from ..data.stream import PairStream, Position
from ..data.wanted import channels_of, dims_of, scale_of
from ..discriminators import Rival, build_rivals
from ..generators import Generator, build_generator
from ..losses import WeightedLoss, build_losses
from ..options import check_files, check_options
from ..players import GENERATOR, Player, build_player
from ..strategies import with_strategy
from ..tasks import Task, build_task
from .checkpoint import Best, Resumed, check_exact, load_checkpoint
from .checkpoint_folders import clear_leftovers, read_about
from .divergence import Watch
from .phases import OpenStream, position_at
from .precision import precision_here
from .resuming import BASE_HASH, resume_settings
from .run_folder import describe_run
from .sharding import check_distribution, is_split
from .starting_point import StartingPoint, choose_start
from .tracking import Trackers, open_trackers
from .validation import FixedPairs, fixed_pairs

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Run:
    """Everything a step needs. Only `stream`, `aside`, `latest` and what validation found change."""

    config: TrainConfig
    accelerator: Accelerator
    generator: Generator
    player: Player
    rivals: tuple[Rival, ...]
    losses: tuple[WeightedLoss, ...]
    task: Task
    stream: PairStream
    open_stream: OpenStream
    """Opens the stream of another phase."""
    pairs: FixedPairs | None
    trackers: Trackers
    watch: Watch
    settings: Mapping[str, object]
    commit: str
    pictures: int
    """Pictures found to train on."""
    point: StartingPoint
    changed: tuple[str, ...]
    """What differs from the checkpoint that the run goes on from."""
    start: int
    """Steps done before this process started."""
    best: Best | None
    validated: int | None
    """The last step that was validated; None: none, or nobody knows."""
    aside: tuple[Path, ...]
    """Checkpoints that the run does not go on from; they are renamed with the first one of its own."""
    scores: list[tuple[float, int]] = field(default_factory=list)
    """The best validations, as many as are kept: score and step, the best first."""
    misses: int = 0
    """Validations since the best one."""
    latest: dict[str, float] = field(default_factory=dict)
    """The last line of scalars."""

    @property
    def players(self) -> dict[str, Player]:
        """All players by name."""
        return {player.name: player for player in (self.player, *(rival.player for rival in self.rivals))}


def build(config: TrainConfig, *, write: bool = True) -> Run:
    """Make everything, and bring it to the checkpoint that the run goes on from.

    What can be known before anything heavy is read is refused first. Without `write` the run folder is left alone.

    Raises:
        ConfigError: the settings do not fit the data, the machine or the checkpoint; names every key.
        WeightsError: weights to start from cannot be had or do not fit.
        HypirError: a checkpoint cannot be read.
    """
    config = with_strategy(config)
    check_options(config)
    accelerator = _accelerator(config)
    check_files(config)
    check_data(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    scale, channels = scale_of(config.generator), channels_of(config.generator)
    source = open_source(config.widest_data, scale=scale, channels=channels, dims=dims_of(config.generator))
    mixture = build_mixture(
        config.data.degrade,
        scale=scale,
        sharpen_target=config.data.sharpen_target,
        bounded=config.data.bounded,
        noise=config.data.noise,
        physics=config.data.physics,
    )
    if write and accelerator.is_main_process:
        clear_leftovers(config.output_dir)
    accelerator.wait_for_everyone()
    _check_start(config, source.hash, accelerator)
    ranges = settled_ranges(config, source, mixture, write=write and accelerator.is_main_process)
    export = replace(config.export, bands=config.export.bands or bands_of(source))
    settled = replace(config, ranges=ranges, export=export, precision=precision_here(config))
    generator = build_generator(settled, accelerator.device)
    task = build_task(settled, generator)
    _check_crops(config, generator)
    losses = build_losses(config.losses, accelerator.device)
    settings = resume_settings(config, data_hash=source.hash, base_hash=generator.base_hash)
    point = choose_start(config.output_dir, config.checkpoint, settings)
    player, rivals = _players(config, generator, accelerator)
    players = {each.name: each for each in (player, *(rival.player for rival in rivals))}
    resumed = Resumed(step=0, position=Position(), best=None)
    if point.folder:
        resumed = load_checkpoint(
            point.folder, players=players, settings=settings, accelerator=accelerator, how=point.how
        )
    commit, trackers = "unknown", Trackers([])
    if write and accelerator.is_main_process:
        commit = describe_run(config, data_hash=source.hash, processes=accelerator.num_processes)
        trackers = open_trackers(
            config.tracking, config.output_dir, start_step=resumed.step, settings=dict(settings)
        )
    report = _report(config, source.skipped, accelerator, resumed=resumed.step > 0) if write else _log_only

    def open_stream(step: int, position: Position) -> PairStream:
        data = config.data_at(step)
        return PairStream(
            PairSequence(source, data, mixture, seed=config.seed),
            data,
            device=accelerator.device,
            rank=accelerator.process_index,
            processes=accelerator.num_processes,
            position=position_at(config, step, position),
            report=report,
        )

    return Run(
        config=config,
        accelerator=accelerator,
        generator=generator,
        player=player,
        rivals=rivals,
        losses=losses,
        task=task,
        stream=open_stream(resumed.step, resumed.position),
        open_stream=open_stream,
        pairs=_pairs(config, generator, accelerator, mixture.measured),
        trackers=trackers,
        watch=Watch(image_losses=frozenset(loss.name for loss in losses)),
        settings=settings,
        commit=commit,
        pictures=len(source),
        point=point,
        changed=resumed.changed,
        start=resumed.step,
        best=resumed.best,
        validated=resumed.validated,
        aside=point.aside,
        scores=list(resumed.scores),
        misses=resumed.misses,
    )


def _check_crops(config: TrainConfig, generator: Generator) -> None:
    """Refuse crops, also of later phases, that the generator cannot make."""
    factors = scales_of(generator.scale, generator.dims)
    grains = (generator.grain_px,) * generator.dims if len(set(factors)) == 1 else factors
    crops = [("data.crop_px", config.data.crop_px)]
    crops += [
        (f"curriculum.{n}.crop_px", phase.crop_px)
        for n, phase in enumerate(config.curriculum)
        if phase.crop_px is not None
    ]
    problems = []
    for key, crop_px in crops:
        sides = (crop_px,) * generator.dims if isinstance(crop_px, int) else crop_px
        if len(sides) != generator.dims:
            problems.append(f"{key}: expected one number or {generator.dims}, got {list(sides)}")
        elif any(side % grain for side, grain in zip(sides, grains, strict=True)):
            problems.append(
                f"{key}: {crop_px} must divide by {max(grains)}, which the generator {config.generator.name} needs"
            )
    raise_all(problems)


def _accelerator(config: TrainConfig) -> Accelerator:
    precision = precision_here(config)
    if config.precision is Precision.fp16 and (config.cpu or not torch.cuda.is_available()):
        raise ConfigError("precision: fp16 needs a GPU; use bf16 or fp32 on the CPU")
    check_distribution(os.environ, config.precision)
    return Accelerator(
        mixed_precision="no" if precision is Precision.fp32 else precision.value,
        cpu=config.cpu,
        # Stated, since accelerate divides every loss by what its own config or environment says otherwise.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
    )


def _check_start(config: TrainConfig, data_hash: str, accelerator: Accelerator) -> None:
    """Refuse a checkpoint that does not fit, but for the base model, which is not read yet."""
    settings = resume_settings(config, data_hash=data_hash)
    point = choose_start(config.output_dir, config.checkpoint, settings)
    if point.folder and point.how is Resume.exact:
        then = read_about(point.folder)["settings"]
        same_base: dict[str, Any] = {BASE_HASH: then[BASE_HASH]} if BASE_HASH in then else {}
        check_exact(point.folder, settings | same_base, processes=accelerator.num_processes)


def _players(
    config: TrainConfig, generator: Generator, accelerator: Accelerator
) -> tuple[Player, tuple[Rival, ...]]:
    if config.channels_last:
        generator.module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if config.compile:
        generator.module.compile()
    player = build_player(
        GENERATOR,
        generator.module,
        config.generator.optimiser,
        ema=config.generator.ema,
        accelerator=accelerator,
        max_steps=config.max_steps,
        factor=lambda step: config.phase_at(step).lr_factor,
    )
    return player, build_rivals(config, accelerator, channels=generator.out_channels)


def _report(
    config: TrainConfig, skipped: Sequence[str], accelerator: Accelerator, *, resumed: bool
) -> Callable[[Sequence[str]], None]:
    """Return what takes down unusable pictures; a list that cannot be written is no reason to stop on the way."""
    bad_files = BadFiles(config.output_dir, skipped, process=accelerator.process_index, resumed=resumed)

    def report(lines: Sequence[str]) -> None:
        try:
            bad_files.add(lines)
        except ConfigError as err:
            log.warning("%s; training goes on", err)

    return report


def _log_only(lines: Sequence[str]) -> None:
    for line in lines:
        log.warning("data.root: skipped %s", line)


def _pairs(
    config: TrainConfig, generator: Generator, accelerator: Accelerator, measured: Measured | None
) -> FixedPairs | None:
    # A split network needs all processes for a pass; each then measures the same.
    if config.validation is None or not (accelerator.is_main_process or is_split(accelerator)):
        return None
    channels = Channels(hq=generator.out_channels, lq=generator.in_channels)
    return fixed_pairs(
        config.validation,
        scale=generator.scale,
        grain_px=generator.grain_px,
        channels=channels,
        dims=generator.dims,
        values=generator.gives,
        bands=config.tracking.bands,
        microscope=measured,
    )
