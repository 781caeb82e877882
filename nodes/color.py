"""Wavelet Color Fix."""

from __future__ import annotations

import torch

from ..hypir_core.color.fix import color_fix as fix_colors
from ..hypir_core.color.mode import ColorFix
from ..hypir_core.errors import ShapeError
from ..hypir_core.image.resize import resize
from .convert import to_bchw, to_bhwc
from .host import memory
from .host.schema import beside, io, schema
from .inputs import color_fix_inputs


class HypirWaveletColorFix(io.ComfyNode):
    """The colours of one picture onto another."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirWaveletColorFix",
            display_name="Wavelet Color Fix",
            category=beside("ColorTransfer", otherwise=beside("ImageBlur", otherwise="image/postprocessing")),
            description="Gives an upscaled picture the colours of the one it was made from. Useful after any upscaler.",
            search_aliases=["color match", "colour fix", "color transfer", "adain", "lab"],
            inputs=[
                io.Image.Input("image", tooltip="The picture whose colours have drifted."),
                io.Image.Input(
                    "reference", tooltip="The picture with the right colours; it is resized to fit."
                ),
                *color_fix_inputs(default=ColorFix.wavelet.value),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The picture with the reference's colours.")
            ],
        )

    @classmethod
    def execute(
        cls, image: torch.Tensor, reference: torch.Tensor, color_fix: str, color_strength: float
    ) -> io.NodeOutput:
        """Fix picture by picture; one reference serves a whole batch."""
        color, alpha = to_bchw(image)
        wanted, _alpha = to_bchw(reference)
        if len(wanted) not in {1, len(color)}:
            raise ShapeError(f"expected 1 or {len(color)} references, got {len(wanted)}")
        color, wanted = color.expand(-1, 3, -1, -1), wanted.expand(-1, 3, -1, -1)
        size_px = (color.shape[-2], color.shape[-1])
        fixed = []
        for i in range(len(color)):
            memory.interrupted()
            one = resize(wanted[i : i + 1] if len(wanted) > 1 else wanted, size_px)
            fixed.append(fix_colors(color[i : i + 1], one, mode=ColorFix(color_fix), strength=color_strength))
        return io.NodeOutput(memory.as_image(to_bhwc(torch.cat(fixed).clamp(0, 1), alpha)))
