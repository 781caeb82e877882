"""Compare Before/After."""

from __future__ import annotations

import torch

from ..hypir_core.errors import ShapeError
from ..hypir_core.image.compare import compare_picture
from ..hypir_core.image.lettering import missing_letters
from ..hypir_core.image.resize import resize
from ..hypir_core.metrics.fidelity import SSIM_WINDOW_PX, psnr, ssim
from .convert import to_bchw, to_bhwc
from .host import memory
from .host.face import said
from .host.schema import io, schema, ui

SLIDER_PX = 2048


class HypirCompare(io.ComfyNode):
    """Two pictures next to each other, and how close they are."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirCompare",
            display_name="Compare Before/After",
            category="image",
            description="Lays two pictures out next to each other under their labels, and measures PSNR and SSIM.",
            search_aliases=["compare", "before after", "psnr", "ssim", "slider"],
            is_output_node=True,
            inputs=[
                io.Image.Input("before", tooltip="The first picture; it is resized to the second's size."),
                io.Image.Input("after", tooltip="The second picture."),
                io.String.Input("before_label", default="before", tooltip="Text above the first picture."),
                io.String.Input("after_label", default="after", tooltip="Text above the second picture."),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The labelled comparison."),
                io.String.Output(
                    display_name="metrics", tooltip="PSNR in dB and SSIM, one line per picture."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, before: torch.Tensor, after: torch.Tensor, before_label: str, after_label: str
    ) -> io.NodeOutput:
        """Compare pair by pair."""
        first, second = to_bchw(before)[0], to_bchw(after)[0]
        if len(first) not in {1, len(second)}:
            raise ShapeError(f"expected 1 or {len(second)} pictures before, got {len(first)}")
        pictures, lines, notes = [], [], missing_letters(before_label + after_label)
        for i, good in enumerate(second.split(1)):
            memory.interrupted()
            other = first[i : i + 1] if len(first) > 1 else first
            pictures.append(compare_picture(other, good, labels=(before_label, after_label)))
            lines.append(measured(other, good))
        shown = memory.as_image(to_bhwc(torch.cat(pictures)))
        sides = {"onestep_before": first, "onestep_after": second}
        results = {
            **ui.PreviewImage(shown, cls=cls).as_dict(),
            **said("\n".join(lines), notes).as_dict(),
            **{name: ui.PreviewImage(for_slider(side), cls=cls).values for name, side in sides.items()},
        }
        return io.NodeOutput(shown, "\n".join(lines), ui=results)


def for_slider(image_bchw: torch.Tensor) -> torch.Tensor:
    """Return pictures as IMAGEs that the page's slider can show, no side longer than `SLIDER_PX`."""
    h, w = image_bchw.shape[-2:]
    shrink = min(1.0, SLIDER_PX / max(h, w))
    size_px = (max(1, round(h * shrink)), max(1, round(w * shrink)))
    return to_bhwc(resize(image_bchw, size_px).clamp(0, 1))


def measured(before_01: torch.Tensor, after_01: torch.Tensor) -> str:
    """Return one line of PSNR and SSIM; `before` is resized."""
    channels = max(before_01.shape[1], after_01.shape[1])
    size_px = (after_01.shape[-2], after_01.shape[-1])
    before = resize(before_01, size_px).clamp(0, 1).expand(-1, channels, -1, -1)
    after = after_01.expand(-1, channels, -1, -1)
    line = f"PSNR {psnr(before, after).item():.2f} dB"
    if min(size_px) < SSIM_WINDOW_PX:
        return f"{line}, SSIM needs {SSIM_WINDOW_PX} px"
    return f"{line}, SSIM {ssim(before, after).item():.4f}"
