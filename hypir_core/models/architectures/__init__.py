"""Feed-forward generators and the one list of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, TypeVar

from torch import Tensor, nn

from ...config import build
from ...registry import Registry, lazy
from .sizes import Sizes


class Architecture(Protocol):
    """A module class: the constructor takes its `Options` and nothing else.

    ``forward`` maps [b in_channels *cells] to [b out_channels *cells·scale] in the range of the weights. An instance
    says in `receptive_radius` how many input cells a result depends on to each side, and in `maps_per_cell` how many
    numbers its largest feature map has for every input cell, which memory is planned by. It may have ``fold``
    (input sides must divide by it), ``least_px`` (they must be at least so long), ``noise_dim`` (``forward`` takes a
    latent [b noise_dim] as second argument) and ``tile_side`` (input cells along a side of the tiles that suit it).
    Where a file holds its tensors otherwise than the module, the class has the functions ``for_file`` and ``from_file``.
    """

    Options: ClassVar[type[Sizes]]

    def __call__(self, options: Any) -> nn.Module:
        """Make the network, with weights to train from."""
        ...


ARCHITECTURES: Registry[Architecture] = Registry("architecture", group="onestep_restore.generators")
"""Name → class. Installed packages add theirs as entry points ``onestep_restore.generators``."""

for _name, _target, _summary in (
    (
        "compact",
        ".compact:Compact",
        "plain 3×3 convolutions + PReLU, pixel shuffle, nearest-upsampled skip (small and fast)",
    ),
    ("span", ".span:Span", "blocks with attention that has no weights (arXiv 2311.12770)"),
    ("rrdb", ".rrdb:RRDBNet", "residual-in-residual dense blocks (ESRGAN, arXiv 1809.00219)"),
    ("srresnet", ".srresnet:SRResNet", "residual blocks with batch norms (SRGAN, arXiv 1609.04802)"),
    (
        "residual",
        ".residual:Residual",
        "residual blocks of a kind: standard, res, rcab (channel attention), rrdb (dense), lka (large kernels)",
    ),
    (
        "stochastic",
        ".stochastic:Stochastic",
        "residual blocks that a latent vector steers: many possible results",
    ),
    ("esrgan", ".esrgan:Esrgan", "dense blocks and pixel shuffle, as remote-sensing GANs have them"),
    ("unet", ".unet:Unet", "the U-Net of diffusion, told a timestep: denoising, and regression in one step"),
    (
        "progressive_unet",
        ".unet_progressive:ProgressiveUnet",
        "the same network, learning at a resolution that grows",
    ),
):
    ARCHITECTURES.add(_name, lazy(_target, __package__), summary=_summary, lazy=True)


A = TypeVar("A", bound=Callable[..., Any])


def register_generator(name: str, *, summary: str = "") -> Callable[[A], A]:
    """Return a decorator that makes a generator known under `name`: to training, and to files that say it."""
    return ARCHITECTURES.decorator(name, summary=summary)


def options_of(architecture: str, data: Mapping[str, Any], *, where: str) -> Sizes:
    """Return the options of an architecture from plain data; `where` names them in errors.

    Raises:
        UnknownNameError: no such architecture.
        ConfigError: lists every unknown key (with the nearest one), wrong type and failed check.
    """
    return build(ARCHITECTURES.get(architecture).Options, data, where=where)


def build_architecture(architecture: str, data: Mapping[str, Any], *, where: str) -> nn.Module:
    """Return a network with random weights; errors as `options_of`."""
    return ARCHITECTURES.get(architecture)(options_of(architecture, data, where=where))


def tensors_for_file(architecture: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what a file holds for the tensors of a network."""
    return _changed("for_file", architecture, tensors)


def tensors_from_file(architecture: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a network for what a file holds, or what is one already."""
    return _changed("from_file", architecture, tensors)


def _changed(how: str, architecture: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    change = getattr(ARCHITECTURES.get(architecture), how, None)
    return dict(tensors) if change is None else change(tensors)
