"""Everything a step needs, made from the settings and brought to the newest checkpoint."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from hypir_core.errors import ConfigError

from ..config import Precision, TrainConfig
from ..data.bad_files import BadFiles
from ..data.checking import check_data
from ..data.degrading import build_mixture
from ..data.opening import open_source
from ..data.pairs import PairSequence
from ..data.source import Channels
from ..data.stream import PairStream, Position
from ..discriminators import Rival, build_rivals
from ..generators import Generator, build_generator
from ..losses import WeightedLoss, build_losses
from ..options import check_options
from ..players import Player, build_player
from .checkpoint import Best, load_checkpoint, newest_checkpoint
from .resuming import resume_settings
from .run_folder import describe_run
from .sharding import check_distribution, is_split
from .tracking import Tracker, open_trackers
from .validation import FixedPairs, fixed_pairs

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Run:
    """Everything a step needs. Only `best` changes."""

    config: TrainConfig
    accelerator: Accelerator
    generator: Generator
    player: Player
    rivals: tuple[Rival, ...]
    losses: tuple[WeightedLoss, ...]
    stream: PairStream
    pairs: FixedPairs | None
    trackers: tuple[Tracker, ...]
    settings: Mapping[str, object]
    commit: str
    start: int
    """Steps done before this process started."""
    best: Best | None

    @property
    def players(self) -> dict[str, Player]:
        """All players by name."""
        return {player.name: player for player in (self.player, *(rival.player for rival in self.rivals))}


def build(config: TrainConfig) -> Run:
    """Make everything, and bring it to the newest checkpoint."""
    check_options(config)
    accelerator = _accelerator(config)
    check_data(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    generator = build_generator(config, accelerator.device)
    channels = Channels(hq=generator.out_channels, lq=generator.in_channels)
    source = open_source(config.data, scale=generator.scale, channels=channels)
    if config.data.crop_px % generator.grain_px:
        raise ConfigError(
            f"data.crop_px: {config.data.crop_px} must divide by {generator.grain_px}, which the generator "
            f"{config.generator.name} needs"
        )
    losses = build_losses(config.losses, accelerator.device)
    mixture = build_mixture(
        config.data.degrade, scale=generator.scale, sharpen_target=config.data.sharpen_target
    )
    settings = resume_settings(config, data_hash=source.hash, base_hash=generator.base_hash)
    newest = newest_checkpoint(config.output_dir)
    if newest and not config.checkpoint.resume:
        raise ConfigError(
            f"output_dir: {config.output_dir} already holds {newest.name}; "
            "use another folder, or checkpoint.resume=true"
        )
    if config.channels_last:
        generator.module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    player = build_player(
        "generator",
        generator.module,
        config.generator.optimiser,
        ema=config.generator.ema,
        accelerator=accelerator,
        max_steps=config.max_steps,
    )
    rivals = build_rivals(config, accelerator, channels=generator.out_channels)
    players = {each.name: each for each in (player, *(rival.player for rival in rivals))}
    resumed = (
        load_checkpoint(newest, players=players, settings=settings, accelerator=accelerator)
        if newest
        else None
    )
    commit = "unknown"
    trackers: tuple[Tracker, ...] = ()
    if accelerator.is_main_process:
        commit = describe_run(config, data_hash=source.hash, processes=accelerator.num_processes)
        trackers = open_trackers(
            config.tracking,
            config.output_dir,
            start_step=resumed.step if resumed else 0,
            settings=dict(settings),
        )
        if newest:
            log.info("going on from %s", newest)
    stream = PairStream(
        PairSequence(source, config.data, mixture, seed=config.seed),
        config.data,
        device=accelerator.device,
        rank=accelerator.process_index,
        processes=accelerator.num_processes,
        position=resumed.position if resumed else Position(),
        report=BadFiles(
            config.output_dir,
            source.skipped,
            process=accelerator.process_index,
            resumed=resumed is not None,
        ).add,
    )
    return Run(
        config=config,
        accelerator=accelerator,
        generator=generator,
        player=player,
        rivals=rivals,
        losses=losses,
        stream=stream,
        pairs=_pairs(config, generator, accelerator),
        trackers=trackers,
        settings=settings,
        commit=commit,
        start=resumed.step if resumed else 0,
        best=resumed.best if resumed else None,
    )


def _accelerator(config: TrainConfig) -> Accelerator:
    precision = "no" if config.precision is Precision.fp32 else config.precision.value
    if config.precision is Precision.fp16 and (config.cpu or not torch.cuda.is_available()):
        raise ConfigError("precision: fp16 needs a GPU; use bf16 or fp32 on the CPU")
    check_distribution(os.environ, config.precision)
    return Accelerator(mixed_precision=precision, cpu=config.cpu)


def _pairs(config: TrainConfig, generator: Generator, accelerator: Accelerator) -> FixedPairs | None:
    # A split network needs all processes for a pass; each then measures the same.
    if config.validation is None or not (accelerator.is_main_process or is_split(accelerator)):
        return None
    channels = Channels(hq=generator.out_channels, lq=generator.in_channels)
    return fixed_pairs(
        config.validation, scale=generator.scale, grain_px=generator.grain_px, channels=channels
    )
