"""SeeSR's image blocks and ControlNet, trained on a Stable Diffusion 2 that stays as it is.

Wu et al., "SeeSR: Towards Semantics-Aware Real-World Image Super-Resolution", arXiv 2311.16518, section 3: the UNet
takes noise off the target's latent, told what is in the picture by words and by the tagger's tokens of the degraded
picture, and held by a ControlNet that reads it. The UNet's image blocks and the whole ControlNet learn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hypir_core.config import build, strict
from hypir_core.engines.diffusion.seesr.load import BASES
from hypir_core.engines.diffusion.seesr.networks import for_unet
from hypir_core.errors import ConfigError, SpecMismatchError, WeightsError, WeightsNotFoundError
from hypir_core.image.resize import resize
from hypir_core.models.sd.backbone import Backbone, load_base, require_prediction
from hypir_core.models.sd.controlnet import ControlNet, fresh_controlnet, load_controlnet
from hypir_core.models.sd.image_blocks import MergeReport, add_fresh_image_blocks_, add_image_blocks_
from hypir_core.tags.find import find_tagger
from hypir_core.tags.tagger import MAX_TAGS, Tagger
from hypir_core.weights.search.locate_seesr import SeesrFiles, locate_seesr
from hypir_core.weights.search.wanted_base import SD2_BASE
from hypir_core.weights.seesr_spec import SeesrSpec
from hypir_core.weights.spec import Prediction
from hypir_core.weights.tensors import read_tensors

from ..config import ExportConfig, TrainConfig
from ..config.checks import at_least, raise_all
from ..data.batch import Batch
from .base import Generator, GeneratorKind, Latents
from .cut_prompts import CutPrompts
from .frozen_base import FROZEN_DTYPE, conditions, find_base_model, hash_of

AUTO = "auto"


class Tags(str, Enum):
    """Where the words about a picture come from."""

    data = "data"
    """The text that came with it: ``cat.txt`` beside ``cat.jpg``, a column of the list, a member of the shard."""
    tagger = "tagger"
    """What the tagger names in the target."""


@dataclass(frozen=True, kw_only=True)
class SeesrTrainOptions:
    """``generator.options`` of ``seesr``."""

    __pydantic_config__ = strict

    seesr: str | None = None
    """What to start from: a folder with `unet` and `controlnet`, or `auto`, the published ones where they lie on this
    machine. None starts from copies of the base model's own blocks, which change nothing at first."""
    tags: Tags = Tags.data
    tagger: str = AUTO
    """RAM's weight file, whose tokens the image blocks read; `auto` looks for it."""
    tagger_lora: str | None = None
    """DAPE, its LoRA for degraded pictures; None looks for it, and does without where there is none."""
    tag_list: Path | None = None
    """A folder with `tag_list.txt` and `thresholds.txt` of another tagger; None takes RAM's 4585 tags."""
    threshold: float | None = None
    """0 to 1: with ``tags: tagger``, a tag is kept above this probability; None takes each tag's own threshold."""
    max_tags: int = MAX_TAGS
    """With ``tags: tagger``, the surest that are kept."""
    scale: int = 1
    """High-quality pixels per low-quality pixel; the low-quality picture is enlarged bicubically to the target's
    size for the ControlNet, and looked at by the tagger as it is."""
    gradient_checkpointing: bool = True
    """Compute activations again instead of keeping them: less memory, more time."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tags", Tags(self.tags))
        problems = at_least(self, 1, "scale", "max_tags")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            problems.append(f"threshold must lie in [0, 1], got {self.threshold:g}")
        if self.tags is Tags.data and (self.threshold is not None or self.max_tags != MAX_TAGS):
            problems.append("threshold and max_tags are not read with tags: data; leave them out")
        raise_all(problems)


MANY = 32
"""After so many pictures without words a person should know."""


@dataclass
class Wordless:
    """Whether any picture to train on came with words so far; told once."""

    pictures: int = 0
    settled: bool = False
    """One came with words, or it was told."""

    def count(self, texts: tuple[str, ...]) -> None:
        """Look at the words of a batch."""
        self.pictures += len(texts)
        self.settled = self.settled or any(text.strip() for text in texts)

    def notes(self) -> tuple[str, ...]:
        """Return one sentence after `MANY` pictures without words, else nothing."""
        if self.settled or self.pictures < MANY:
            return ()
        self.settled = True
        return (
            f"none of the first {self.pictures} pictures came with words: write them beside the pictures with "
            "`hypir caption PHOTOS --captioner tags --write-sidecar`, or set generator.options.tags=tagger",
        )


class Held(nn.Module):
    """A UNet with image blocks, and the ControlNet that holds it."""

    def __init__(self, unet: nn.Module, controlnet: nn.Module):
        super().__init__()
        self.unet, self.controlnet = unet, controlnet

    def forward(self, x: Tensor, t: Tensor, words: Tensor, tokens: Tensor, hint_01: Tensor) -> Tensor:
        """Return the prediction [b 4 h w].

        Shapes: x [b 4 h w], timesteps [b], words [b m width], tokens [b n width], hint [b 3 8h 8w] in [0,1].
        """
        control = ControlNet(net=self.controlnet, image_blocks=MergeReport(merged=0, unused=0))
        residuals = control.residuals(x, t, words, tokens, hint_01, strength=1.0)
        unet: Any = self.unet
        return unet(x, t, (words, tokens), **for_unet(residuals), return_dict=False)[0]


def read_options(options: Mapping[str, Any]) -> SeesrTrainOptions:
    """Read ``generator.options``.

    Raises:
        ConfigError: lists the unknown keys and the wrong values.
    """
    return build(SeesrTrainOptions, options, where="generator.options")


def find_files(config: TrainConfig) -> None:
    """Look for the base model, the tagger and what to start from.

    Raises:
        ConfigError: the settings do not go with this generator.
        WeightsNotFoundError: one of them is nowhere to be found; names the key.
    """
    options = read_options(config.generator.options)
    problems = []
    if config.task != "denoising":
        problems.append(
            f"task: the generator seesr learns to take noise off; expected denoising, got {config.task}"
        )
    if not config.data.bounded:
        problems.append("data.source.kind: seesr takes pictures in [0,1], got scenes")
    if config.export.original_pth:
        problems.append("export.original_pth: only a LoRA has an original layout; set it to false")
    raise_all(problems)
    find_base_model(config.base_model, wanted=SD2_BASE)
    _find_tagger(options, torch.device("cpu"))
    if options.seesr is not None:
        _find_seesr(options.seesr)


def seesr(config: TrainConfig, device: torch.device) -> Generator:
    """Make the generator from a base model and a tagger on this machine; nothing is fetched.

    Raises:
        ConfigError: an option that is unknown.
        WeightsNotFoundError: a file is nowhere to be found.
        WeightsError, SpecMismatchError: a file cannot be read or does not fit.
    """
    options = read_options(config.generator.options)
    backbone = load_base(find_base_model(config.base_model, wanted=SD2_BASE), wanted=BASES)
    require_prediction(backbone, Prediction.eps, eps_base=BASES)
    base_hash = hash_of(backbone.unet, backbone.vae)
    tagger, notes = _find_tagger(options, device)
    width = tagger.file.sizes.token_width
    module = _held(backbone, options, width)
    vae: Any = backbone.vae
    for weight in (*module.parameters(), *vae.parameters()):
        if not weight.requires_grad:
            weight.data = weight.data.to(FROZEN_DTYPE[config.precision])
    if options.gradient_checkpointing:
        for net in (module.unet, module.controlnet):
            plain: Any = net
            plain.enable_gradient_checkpointing()
    module.train()  # older diffusers checkpoint in training mode only; there is no dropout
    vae.to(device)
    cut_prompts, wordless = CutPrompts(), Wordless()
    words_of = conditions(backbone, device, cut_prompts)
    controlnet_config = _plain_config(module.controlnet)

    @torch.no_grad()
    def encode(image_01: Tensor) -> Tensor:
        z = vae.encode((image_01 * 2 - 1).to(vae.dtype)).latent_dist.mean
        return z.float() * backbone.scaling_factor

    @torch.no_grad()
    def decode(z: Tensor) -> Tensor:
        image_pm1 = vae.decode((z / backbone.scaling_factor).to(vae.dtype), return_dict=False)[0]
        return (image_pm1.float() / 2 + 0.5).clamp(0, 1)

    def ask(prepared: nn.Module, batch: Batch, told: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        h, w = batch.lq.shape[-2:]
        with torch.no_grad():
            texts = _texts(batch, tagger if options.tags is Tags.tagger else None)
            if prepared.training and options.tags is Tags.data:
                wordless.count(texts)
            kept = [text if here else "" for text, here in zip(texts, told.tolist(), strict=True)]
            words = words_of(kept, count=prepared.training)
            tokens = torch.cat([tagger.look(each[None]).tokens for each in batch.lq]).to(device)
            hint_01 = resize(batch.lq, (h * options.scale, w * options.scale)).clamp(0, 1)
        return lambda x, t: prepared(x, t, words, tokens, hint_01)

    def restore(prepared: nn.Module, batch: Batch) -> Tensor:
        raise ConfigError("task: the generator seesr needs task=denoising")

    def spec(export: ExportConfig, trained_with: str) -> SeesrSpec:
        return SeesrSpec(
            name=export.name,
            base_model=Path(config.base_model).name if config.base_model else SD2_BASE.sources[0],
            prediction=backbone.prediction,
            token_width=width,
            tagger=tagger.label,
            controlnet=controlnet_config,
            trained_on=export.trained_on,
            trained_with=trained_with,
            licence=export.licence,
        )

    unet: Any = backbone.unet
    levels = len(vae.config.block_out_channels) + len(unet.config.block_out_channels) - 2
    return Generator(
        module=module,
        scale=options.scale,
        restore=restore,
        spec=spec,
        grain_px=math.lcm(2**levels, options.scale),
        base_hash=base_hash,
        frozen=(vae,),
        latents=Latents(
            schedule=backbone.schedule,
            prediction=backbone.prediction,
            encode=encode,
            decode=decode,
            ask=ask,
        ),
        notes=lambda: (*_told_once(notes), *wordless.notes(), *cut_prompts.notes()),
    )


def _held(backbone: Backbone, options: SeesrTrainOptions, width: int) -> Held:
    """Return both networks, with what learns in float32 and asking for gradients, and everything else frozen."""
    unet = backbone.unet
    if options.seesr is None:
        control = fresh_controlnet(unet)
        for net in (unet, control):
            add_fresh_image_blocks_(net, width=width)
    else:
        files = _find_seesr(options.seesr)
        tensors = read_tensors(files.unet).tensors
        add_image_blocks_(unet, tensors, where=str(files.unet))
        loaded = load_controlnet(files.controlnet)
        if loaded.image_blocks is None:
            raise WeightsError(f"generator.options.seesr: {files.controlnet} has no image blocks")
        control = loaded.net
    own: Any = unet
    theirs: Any = control
    if theirs.config.block_out_channels != own.config.block_out_channels:
        raise SpecMismatchError(
            f"generator.options.seesr: its ControlNet is {theirs.config.block_out_channels} wide, the base model "
            f"{own.config.block_out_channels}; give the base model that it was trained on"
        )
    control.float().requires_grad_(True)
    for name, weight in unet.named_parameters():
        weight.requires_grad_(".image." in name)
    return Held(unet, control)


def _texts(batch: Batch, tagger: Tagger | None) -> tuple[str, ...]:
    """Return the words about every picture, without those about quality."""
    if tagger is None:
        return batch.prompts or ("",) * len(batch)
    return tuple(", ".join(tag.name for tag in tagger.look(each[None]).tags) for each in batch.hq)


def _find_tagger(options: SeesrTrainOptions, device: torch.device) -> tuple[Tagger, list[str]]:
    try:
        found = find_tagger(
            None if options.tagger == AUTO else options.tagger,
            options.tagger_lora,
            tag_list=options.tag_list,
            threshold=options.threshold,
            max_tags=options.max_tags,
            device=device,
        )
    except WeightsNotFoundError as err:
        raise WeightsNotFoundError(
            f"generator.options.tagger: {err}\nthen set it to the file (tagger_lora for DAPE)"
        ) from err
    return found.tagger, list(found.notes)


def _find_seesr(given: str) -> SeesrFiles:
    try:
        return locate_seesr(None if given == AUTO else Path(given))
    except WeightsNotFoundError as err:
        raise WeightsNotFoundError(f"generator.options.seesr: {err}\nthen set it to the folder") from err


def _plain_config(net: Any) -> dict[str, Any]:
    """Return the settings of a diffusers network as JSON has them."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in net.config.items()
        if not name.startswith("_")
    }


def _told_once(notes: list[str]) -> tuple[str, ...]:
    said = tuple(notes)
    notes.clear()
    return said


SEESR = GeneratorKind(make=seesr, check=read_options, find=find_files)
