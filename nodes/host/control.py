"""ControlNets and adapters of a CONDITIONING, tile by tile: every control of the chain sees its part of its picture.

ComfyUI resizes a control's picture to whatever it is asked to work on. Here it is brought to the size of the canvas
once, as a plane that is cropped with the tile; a copy of the control then gets the crop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import comfy.utils
from torch import Tensor, nn

from ...hypir_core.engines.diffusion.sizing import mirror_to
from ...hypir_core.errors import ConfigError
from ...hypir_core.image.resize import resize
from ...hypir_core.tiling.geometry import Plane

KNOWN = "comfy.controlnet"
"""The module whose controls are known to look at nothing but their picture and its masks."""


def control_planes(control: Any, name: str, content_px: Sequence[int], canvas_px: Sequence[int]) -> dict:
    """Return the pictures of a control and of all before it in its chain, as planes of a canvas, by name.

    Args:
        control: of a CONDITIONING; it is left as it is.
        name: begins the names of the planes.
        content_px: height and width of the picture on the canvas, from its first corner on; the pictures cover it.
        canvas_px: of the canvas; what is beyond the content is mirrored.

    Raises:
        ConfigError: a control of another plugin, which may look at more than its picture.
    """
    planes = {}
    for depth, one in enumerate(_chain(control)):
        if type(one).__module__ != KNOWN:
            raise ConfigError(
                f"the CONDITIONING has a control of the type {type(one).__name__} (of {type(one).__module__}), which "
                "cannot be cut into tiles; use Apply ControlNet of ComfyUI itself"
            )
        for part, picture in _pictures(one):
            fitted = on_canvas(picture, content_px, canvas_px, one.upscale_algorithm, "center")
            planes[f"{name} {depth} {part}"] = Plane(fitted)
    return planes


def cropped_control(control: Any, name: str, guides: Mapping[str, Tensor]) -> Any:
    """Return a copy of a control and its chain for tiles.

    Args:
        control: as it was given to `control_planes`.
        name: as it was given there.
        guides: the planes of that name, cropped: [tiles · images c h w].
    """
    copies = []
    for depth, one in enumerate(_chain(control)):
        copy = one.copy()
        mine = {
            part: guides[f"{name} {depth} {part}"].to(picture.device, picture.dtype)
            for part, picture in _pictures(one)
        }
        copy.cond_hint_original = mine.pop("picture", copy.cond_hint_original)
        copy.extra_concat_orig = list(mine.values())
        copies.append(copy)
    for copy, before in pairwise(copies):
        copy.set_previous_controlnet(before)
    return copies[0]


def with_control(
    conditionings: Sequence[Any], control: Any, picture: Tensor, strength: float, extra: Mapping[str, Any]
) -> list[Any]:
    """Return CONDITIONINGs with one more control on every entry, as Apply ControlNet of ComfyUI does it.

    Args:
        conditionings: several, which are left as they are.
        control: ComfyUI's CONTROL_NET.
        picture: [b 3 h w] in [0,1].
        strength: what its residuals are multiplied by.
        extra: more arguments of its network.
    """
    after: dict[Any, Any] = {}  # one control for all entries that have the same chain
    out = []
    for conditioning in conditionings:
        entries = []
        for text, options in conditioning:
            before = options.get("control")
            if before not in after:
                after[before] = control.copy().set_cond_hint(picture, strength)
                after[before].set_previous_controlnet(before)
                for name, value in extra.items():
                    after[before].set_extra_arg(name, value)
            entries.append([text, {**options, "control": after[before], "control_apply_to_uncond": False}])
        out.append(entries)
    return out


def for_picture(control: Any, extra: str, number: int) -> Any:
    """Return a chain whose extra argument [b …] is that of one picture of the batch, where there are several."""
    copies = []
    for one in _chain(control):
        copy = one.copy()
        value = copy.extra_args.get(extra)
        if value is not None and len(value) > 1:
            copy.set_extra_arg(extra, value[number : number + 1])
        copies.append(copy)
    for copy, before in pairwise(copies):
        copy.set_previous_controlnet(before)
    return copies[0]


def networks_of(conditioning: Sequence[Any]) -> list[nn.Module]:
    """Return the networks of all controls of a CONDITIONING, each once."""
    controls = (one for _, options in conditioning for one in _chain(options.get("control")))
    nets = (getattr(control, "control_model", None) for control in controls)
    return list(dict.fromkeys(net for net in nets if isinstance(net, nn.Module)))


def on_canvas(image: Tensor, content: Sequence[int], canvas: Sequence[int], method: str, crop: str) -> Tensor:
    """Resize [b c h w] to the content as ComfyUI does, then mirror it up to the canvas.

    For "bicubic", which SeeSR's ControlNet asks for, it is resized as the picture on the canvas itself is.
    """
    if method == "bicubic":
        return mirror_to(resize(_middle(image, content), (content[0], content[1])).clamp(0, 1), canvas)
    return mirror_to(comfy.utils.common_upscale(image, content[1], content[0], method, crop), canvas)


def _middle(image: Tensor, sides: Sequence[int]) -> Tensor:
    """Cut [b c h w] to the aspect of `sides`, around its middle, as ComfyUI does."""
    h, w = image.shape[-2:]
    wide, high = w / h, sides[1] / sides[0]
    x = round((w - w * (high / wide)) / 2) if wide > high else 0
    y = round((h - h * (wide / high)) / 2) if wide < high else 0
    return image[..., y : h - y, x : w - x]


def _chain(control: Any) -> Iterator[Any]:
    while control is not None:
        yield control
        control = control.previous_controlnet


def _pictures(control: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield what one control looks at, each [b c h w]: its picture, and the masks that go with it."""
    if control.cond_hint_original is not None:
        yield "picture", control.cond_hint_original
    for i, extra in enumerate(control.extra_concat_orig):
        yield f"mask {i}", extra
