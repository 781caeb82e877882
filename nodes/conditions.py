"""Condition Image."""

from __future__ import annotations

from torch import Tensor

from ..hypir_core.conditions.base import ConditionSettings
from ..hypir_core.conditions.edge import load_edge
from .convert import to_bchw
from .host import memory
from .host.schema import advanced, beside, io, schema
from .inputs import default_of, size_inputs, target_of
from .native import DEFAULT_SCALE


class HypirConditionImage(io.ComfyNode):
    """The lines of a picture, for a ControlNet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirConditionImage",
            display_name="Condition Image",
            category=beside("Canny", otherwise="image/preprocessors"),
            description="Draws the edges of a picture, white on black, in the size of the result, for Apply ControlNet "
            "with a ControlNet for edges (canny).",
            search_aliases=["canny", "edge", "lines", "controlnet", "preprocessor", "condition"],
            inputs=[
                io.Image.Input("image", tooltip="The picture to draw the edges of."),
                *size_inputs(),
                advanced(
                    io.Float.Input(
                        "edge_low",
                        default=default_of(ConditionSettings, "edge_low"),
                        min=0.01,
                        max=1.0,
                        step=0.01,
                        tooltip="A line that touches a strong edge goes on down to this steepness.",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "edge_high",
                        default=default_of(ConditionSettings, "edge_high"),
                        min=0.01,
                        max=1.0,
                        step=0.01,
                        tooltip="Edges steeper than this are lines.",
                    )
                ),
            ],
            outputs=[io.Image.Output(display_name="IMAGE", tooltip="The edges.")],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        size_rule: str,
        scale: float,
        longest_side_px: int,
        megapixels: float,
        edge_low: float,
        edge_high: float,
    ) -> io.NodeOutput:
        """Draw picture after picture."""
        draw = load_edge(ConditionSettings(edge_low=edge_low, edge_high=edge_high))
        color, _alpha = to_bchw(image)
        target = target_of(size_rule, scale, longest_side_px, megapixels)
        size_px = target.size_for(*color.shape[-2:], default_scale=DEFAULT_SCALE)
        out = memory.new_image((len(color), *size_px, 3))
        for number, picture in enumerate(color.split(1)):
            memory.interrupted()
            edges = draw(picture.to(memory.device()), size_px).picture_01
            out[number] = edges[0].movedim(0, -1)
        return io.NodeOutput(out)
