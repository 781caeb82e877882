"""SeeSR on the small UNet: random image blocks, ControlNets and files of them, and the library's engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hypir_core.diffusion.schedule import NoiseSchedule
from hypir_core.diffusion.scheduler_file import Sampling
from hypir_core.diffusion.timesteps import Spacing
from hypir_core.engines.diffusion.engine import Diffusion
from hypir_core.engines.diffusion.seesr.condition import SeesrConditioner
from hypir_core.engines.diffusion.seesr.making import Guide, SeesrParts, make_seesr
from hypir_core.engines.diffusion.seesr.options import SeesrOptions
from hypir_core.models.sd.backbone import Backbone
from hypir_core.models.sd.controlnet import ControlNet, empty_controlnet
from hypir_core.models.sd.image_blocks import MARK, MergeReport, add_empty_image_blocks_
from hypir_core.models.sd.random_sd21 import fill_randomly_
from hypir_core.request import Tag
from hypir_core.weights.ldm_names import ldm_controlnet_names
from hypir_core.weights.spec import Prediction
from tests.comfyui.small_unet import CONFIG

TOKENS, WIDTH = 145, 512
EDGE_STRENGTH, STRENGTH = 0.7, 0.9


@dataclass(frozen=True)
class SmallSeesr:
    """Networks of diffusers, in float32."""

    unet: nn.Module
    """With image blocks."""
    controlnet: nn.Module
    """With image blocks."""
    edge: nn.Module | None = None


@dataclass(frozen=True)
class SeenTokens:
    """Stands for what a tagger saw."""

    tokens: Tensor
    tags: tuple[Tag, ...] = ()


def small_seesr(unet: nn.Module, config: Mapping[str, Any] = CONFIG) -> SmallSeesr:
    """Return random networks around a UNet, which gets image blocks itself; a full-size one gets no edge ControlNet."""
    rng = torch.Generator().manual_seed(17)
    nets = [unet, *(empty_controlnet(config) for _ in range(2 if config is CONFIG else 1))]
    for net in nets[:2]:
        add_empty_image_blocks_(net, width=WIDTH)
    for net in nets:
        fill_randomly_(net, rng, only_empty=True)
    return SmallSeesr(*nets)


def write_seesr(folder: Path, seesr: SmallSeesr) -> None:
    """Write the files that SeeSR publishes, and the edge ControlNet as ComfyUI's own loader knows it in any size."""
    save_file(published(seesr.unet), folder / "seesr_unet.safetensors")
    save_file(published(seesr.controlnet), folder / "seesr_controlnet.safetensors")
    if seesr.edge is None:
        return
    edge = seesr.edge.state_dict()
    names = ldm_controlnet_names(edge)
    save_file({names[name]: tensor for name, tensor in edge.items()}, folder / "edge.safetensors")


def published(net: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a network under SeeSR's names."""
    out = {}
    for name, tensor in net.state_dict().items():
        place, paired, inner = name.partition(".image.")
        if paired:
            stem, _, number = place.rpartition(".attentions.")
            out[f"{stem}{MARK}{number}.{inner}"] = tensor
        else:
            out[name.replace(".text.", ".")] = tensor
    return {name: tensor.contiguous() for name, tensor in out.items()}


def library_engine(
    seesr: SmallSeesr,
    vae: nn.Module,
    options: SeesrOptions,
    *,
    words: Tensor,
    negative: Tensor,
    tokens: Tensor | None,
    edge: Tensor | None,
    native_px: int = 128,
) -> Diffusion:
    """Return the library's engine on the networks, which it folds; its words are given."""
    nets, guides = seesr, []
    if edge is not None:
        assert nets.edge is not None
        net = ControlNet(net=nets.edge, image_blocks=None)
        guides = [
            Guide(
                name="edge",
                net=net,
                strength=EDGE_STRENGTH,
                picture=lambda _image, _size: (edge, ()),
                label="edge",
            )
        ]
    parts = SeesrParts(
        backbone=Backbone(
            unet=nets.unet,
            vae=vae,
            text_encoder=nn.Identity(),
            tokenizer=None,
            schedule=NoiseSchedule(),
            prediction=Prediction.eps,
            scaling_factor=0.18215,
            native_px=native_px,
            vocabulary=1,
            found_in="random",
        ),
        sampling=Sampling(spacing=Spacing.trailing),
        image_blocks=True,
        control=ControlNet(net=nets.controlnet, image_blocks=MergeReport(merged=0, unused=0)),
        guides=guides,
        look=None if tokens is None else lambda _: SeenTokens(tokens),
        build=lambda _tags, _user, _words: ("", ()),
        weights="random",
        licence="none",
    )
    engine = make_seesr(parts, options, device=torch.device("cpu"), dtype=torch.float32)
    assert isinstance(engine.conditioner, SeesrConditioner)
    conditioner = replace(engine.conditioner, read=lambda prompt: (negative if prompt else words, ()))
    return replace(engine, conditioner=conditioner)
