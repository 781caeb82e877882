"""Degrade Image."""

from __future__ import annotations

import torch

from ..hypir_core.degrade import degrade, degrade_clip, load_recipe, recipe_names
from ..hypir_core.degrade.strength import LIMIT, Strengths, with_strengths
from ..hypir_core.image.resize import resize
from .convert import to_bchw, to_bhwc
from .host import memory
from .host.face import said
from .host.schema import beside, io, schema
from .inputs import default_of

TOOLTIPS = {
    "blur": "Width of the blur: 0 none, 1 as the preset has it, 3 three times as wide.",
    "noise": "Amount of noise: 0 none, 1 as the preset has it.",
    "compression": "Damage by JPEG: 0 none, 1 as the preset has it, more lowers the quality further.",
    "age": "Fading, scratches, dust and dot screen: 0 none, 1 as the preset has it. Only some presets have them.",
}


class HypirDegradeImage(io.ComfyNode):
    """A good picture made worse, as the world does it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirDegradeImage",
            display_name="Degrade Image",
            category=beside("ImageBlur", otherwise="image/postprocessing"),
            description="Blur, noise, shrinking, JPEG and age, drawn at random for every picture: for trying "
            "restorers and for making training pairs. The same seed gives the same picture.",
            search_aliases=["degrade", "jpeg", "noise", "blur", "age", "real-esrgan"],
            inputs=[
                io.Image.Input("image", tooltip="Good pictures. Transparency is kept."),
                io.Combo.Input(
                    "preset",
                    options=list(recipe_names()),
                    default="realesrgan",
                    tooltip="Which kind of damage: a print from an album, a picture from the web, a scan, or the "
                    "mixture that restorers are trained with.",
                ),
                *(
                    io.Float.Input(
                        name, default=default_of(Strengths, name), min=0.0, max=LIMIT, step=0.05, tooltip=text
                    )
                    for name, text in TOOLTIPS.items()
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**63 - 1,
                    control_after_generate=True,
                    tooltip="Decides every random choice; each picture of a batch gets its own.",
                ),
                # Saved workflows hold widgets by their order: a new one is the last.
                io.Boolean.Input(
                    "one_clip",
                    default=False,
                    optional=True,
                    tooltip="The batch is a clip: all frames get the same damage, with noise of their own.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="IMAGE", tooltip="The degraded pictures, in their original size."
                ),
                io.String.Output(display_name="what was done", tooltip="One line per picture."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        preset: str,
        blur: float,
        noise: float,
        compression: float,
        age: float,
        seed: int,
        one_clip: bool = False,
    ) -> io.NodeOutput:
        """Degrade picture by picture, each with choices of its own, or all with the same."""
        color, alpha = to_bchw(image)
        strengths = Strengths(blur=blur, noise=noise, compression=compression, age=age)
        recipe = with_strengths(load_recipe(preset), strengths)
        generator = torch.Generator().manual_seed(seed)
        results, notes = [], []
        frames = color.split(1)
        if one_clip:
            all_done = degrade_clip(frames, recipe, generator=generator)
        else:
            all_done = (degrade(one, recipe, generator=generator) for one in frames)
        for done in all_done:
            memory.interrupted()
            results.append(done.lq_01)
            notes += done.notes
        worse = torch.cat(results)
        if alpha is not None:
            alpha = resize(alpha, (worse.shape[-2], worse.shape[-1])).clamp(0, 1)
        lines = "\n".join(notes)
        return io.NodeOutput(memory.as_image(to_bhwc(worse, alpha)), lines, ui=said(lines))
