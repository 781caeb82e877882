"""A network of somebody else's, called as spandrel's descriptor calls it.

The descriptor knows what the bare module does not: which sizes it needs, which of several results is the picture, that
a noise channel belongs to the input, or how the result is scaled. Two things of its own call are not wanted here: it
cuts the result to [0,1], which would hide infinities from the search for bad tiles, and it makes tensors of inference
mode. So its parts are used, and a test holds that the result is the descriptor's.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError, MissingDependencyError, WeightsError
from ...weights.tensors import TensorFile

TRIAL_PX = (24, 40)
"""Sides of the picture on which a network is tried, unless it needs more. They differ from each other and from the sizes
that networks are trained on, for which some keep a mask ready that fits no other."""

TRIAL_FAULTS = (
    RuntimeError,  # torch's own, NotImplementedError among them
    ValueError,
    TypeError,
    AssertionError,
    LookupError,
    ArithmeticError,
    AttributeError,
)
"""What a network raises that cannot run."""

NOISE_SEED = 0

SAME = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""How far two pictures in one call may differ from the same two in two calls."""


class SpandrelNet(nn.Module):
    """[n c h w] in [0,1] → [n c' h·scale w·scale], float32 on both sides; the network runs in its own format."""

    def __init__(self, descriptor: Any, dtype: torch.dtype):
        """`descriptor` is a `spandrel.ImageModelDescriptor`; its module is copied if it has another format."""
        super().__init__()
        module = descriptor.model
        self.net: nn.Module = module if descriptor.dtype == dtype else deepcopy(module).to(dtype)
        self.dtype = dtype
        self.batches = False
        """Whether several pictures go through the network in one call; descriptors promise only one."""
        self.draws_noise = False
        """Whether the network draws noise; it then draws the same for every picture and tile, and in every run."""
        self._call = descriptor._call_fn
        self._needs = descriptor.size_requirements
        self._scale: int = descriptor.scale

    def forward(self, image_01: Tensor) -> Tensor:
        """Pad, cast, run, cast back, crop."""
        h, w = image_01.shape[-2:]
        pad_w, pad_h = self._needs.get_padding(w, h)
        # A copy, for some networks change what they are given.
        x = _padded(image_01.to(self.dtype, copy=True), pad_h, pad_w)
        at_once = self.batches or len(x) == 1
        out = self._run(x) if at_once else torch.cat([self._run(one) for one in x.split(1)])
        return out[..., : h * self._scale, : w * self._scale].float()

    def _run(self, x: Tensor) -> Tensor:
        if not self.draws_noise:
            return self._call(self.net, x)
        with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
            torch.manual_seed(NOISE_SEED)
            return self._call(self.net, x.contiguous())  # noise is drawn in the order of memory


def _padded(x: Tensor, below: int, right: int) -> Tensor:
    """Mirror [n c h w] at its far edges as far as that goes, and repeat the last cell beyond, as spandrel does."""
    h, w = x.shape[-2:]
    mirrored = (min(right, w - 1), min(below, h - 1))
    if any(mirrored):
        x = F.pad(x, (0, mirrored[0], 0, mirrored[1]), mode="reflect")
    rest = (right - mirrored[0], below - mirrored[1])
    return F.pad(x, (0, rest[0], 0, rest[1]), mode="replicate") if any(rest) else x


@dataclass(frozen=True, kw_only=True, eq=False)
class Tried:
    """A network that has run, and what was found."""

    net: SpandrelNet
    dtypes: tuple[str, ...]
    """Formats that spandrel names, less one in which it did not run."""
    notes: tuple[str, ...] = ()


def read_descriptor(file: TensorFile) -> Any:
    """Return the `spandrel.ImageModelDescriptor` of a file.

    Raises:
        MissingDependencyError: spandrel is not installed.
        WeightsError: spandrel cannot read it, or it wants more than a picture.
    """
    try:
        import spandrel
    except ModuleNotFoundError as err:
        raise MissingDependencyError("spandrel", "upscalers", f"reading {file.path.name}") from err
    wanted = f"{file.path}: expected a picture-to-picture model that spandrel reads"
    try:
        model = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(file.tensors))
    except spandrel.UnsupportedModelError as err:
        first = next(iter(file.tensors), "no tensors")
        raise WeightsError(
            f"{wanted}, got an unknown layout of {len(file.tensors)} tensors ({first}, …)"
        ) from err
    except TRIAL_FAULTS as err:
        raise WeightsError(f"{wanted}, got tensors that do not fit together ({in_one_line(err)})") from err
    if not isinstance(model, spandrel.ImageModelDescriptor):
        raise WeightsError(
            f"{wanted}, got {model.architecture.name}, which fills holes and wants a mask as well"
        )
    return model


def formats_of(descriptor: Any) -> tuple[str, ...]:
    """Return the number formats that a descriptor names."""
    halves = {"bfloat16": descriptor.supports_bfloat16, "float16": descriptor.supports_half}
    return ("float32", *(name for name, supported in halves.items() if supported))


@torch.no_grad()
def tried(descriptor: Any, dtype: torch.dtype, *, device: torch.device, asked: bool, where: str) -> Tried:
    """Run a network once on a small picture, in the format it is meant to run in.

    Args:
        descriptor: `spandrel.ImageModelDescriptor`. Its module is returned on the device where it was.
        dtype: the format to try.
        device: where it will run.
        asked: the format was asked for by name, so no other will do; else float32 takes the place of one that fails.
        where: names the weights in errors.

    Raises:
        ConfigError: it cannot run in the format that was asked for.
        WeightsError: it cannot run, or gives another picture than its file says.
    """
    descriptor.model.eval().requires_grad_(False)
    names, name = formats_of(descriptor), str(dtype).removeprefix("torch.")
    home = descriptor.device
    try:
        descriptor.model.to(device)
        net, fault = _try(descriptor, dtype, where)
        if fault is None:
            return Tried(net=net.to(home), dtypes=names)
        if asked and dtype != torch.float32:
            raise ConfigError(f"{where}: does not run in {name} ({fault}); choose float32")
        notes = (f"the network does not run in {name} ({fault}); it ran in float32",)
        if dtype != torch.float32:
            net, fault = _try(descriptor, torch.float32, where)
        if fault is not None:
            raise WeightsError(f"{where}: {descriptor.architecture.name} does not run ({fault})")
        return Tried(net=net.to(home), dtypes=tuple(n for n in names if n != name), notes=notes)
    finally:
        descriptor.model.to(home)


def _try(descriptor: Any, dtype: torch.dtype, where: str) -> tuple[SpandrelNet, str | None]:
    """Return the network in a format, and why it does not run in it, if it does not."""
    net = SpandrelNet(descriptor, dtype)
    pictures = _trial_pictures(descriptor).to(descriptor.device)
    try:
        single = net(pictures)
    except TRIAL_FAULTS as err:
        return net, in_one_line(err)
    if not bool(single.isfinite().all()):
        return net, "it gives NaN or infinity"
    _check_picture(descriptor, pictures, single, where)
    net.draws_noise = not _same(net(pictures), single, dtype)
    net.batches = not net.draws_noise and _takes_batches(net, pictures, single)
    return net, None


def _takes_batches(net: SpandrelNet, pictures: Tensor, single: Tensor) -> bool:
    """Tell whether two pictures in one call come out as in two."""
    net.batches = True
    try:
        both = net(pictures)
    except TRIAL_FAULTS:  # it takes one picture, which is all that descriptors promise
        return False
    return both.shape == single.shape and _same(both, single, net.dtype)


def _same(a: Tensor, b: Tensor, dtype: torch.dtype) -> bool:
    return float((a - b).abs().max()) <= SAME[dtype] * max(1.0, float(b.abs().max()))


def _check_picture(descriptor: Any, pictures: Tensor, out: Tensor, where: str) -> None:
    (h, w), scale = pictures.shape[-2:], descriptor.scale
    if out.ndim != 4 or out.shape[1] != descriptor.output_channels:
        raise WeightsError(
            f"{where}: {descriptor.architecture.name} should make {descriptor.output_channels} channels of "
            f"{descriptor.input_channels}, it made {out.shape[1] if out.ndim > 1 else 'none'}; it cannot be used"
        )
    if out.shape[-2:] != (h * scale, w * scale):
        got = "×".join(map(str, reversed(out.shape[-2:])))
        raise WeightsError(
            f"{where}: {descriptor.architecture.name} should make {w * scale}×{h * scale} px of {w}×{h}, it made "
            f"{got}; it cannot be used"
        )


def _trial_pictures(descriptor: Any) -> Tensor:
    """Return two different pictures [2 c h w] in [0,1], smooth with a little noise."""
    sides = least_sides(descriptor.size_requirements, TRIAL_PX)
    noise = torch.rand(2, descriptor.input_channels, *sides, generator=torch.Generator().manual_seed(0))
    ramp = torch.linspace(0.1, 0.9, sides[1])
    return torch.stack([0.8 * ramp + 0.1 * noise[0], 0.8 * ramp.flip(0) + 0.2 * noise[1]])


def least_sides(needs: Any, sides: tuple[int, int]) -> tuple[int, int]:
    """Return sides (h, w) at least as long that need no padding."""
    pad_w, pad_h = needs.get_padding(sides[1], sides[0])
    return sides[0] + pad_h, sides[1] + pad_w


def in_one_line(err: BaseException) -> str:
    """Return what an error says, in one line."""
    return shorten(str(err), 200, placeholder=" …") or type(err).__name__
