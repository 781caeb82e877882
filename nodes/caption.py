"""Caption."""

from __future__ import annotations

import torch

from ..hypir_core.caption.catalog import load_captioner
from .convert import to_bchw
from .host import memory
from .host.face import said
from .host.schema import io, schema

CAPTIONERS = ("fixed", "openai")
"""Those of the core's captioners that hold no model outside ComfyUI's memory management."""

BLIND = ("fixed",)
"""Those that do not look at the picture, which is then not even made."""


class HypirCaption(io.ComfyNode):
    """What a picture shows, for a prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirCaption",
            display_name="Caption",
            category="text",
            description="Says what a picture shows, as a prompt. 'openai' asks a server that speaks OpenAI's "
            "protocol; its address and key come from the environment variables HYPIR_CAPTION_BASE_URL and "
            "HYPIR_CAPTION_API_KEY and are never saved with a workflow.",
            search_aliases=["caption", "describe", "vlm", "image to text", "prompt"],
            inputs=[
                io.Image.Input(
                    "image",
                    lazy=True,
                    tooltip="The picture to describe; the first of a batch. Not made for 'fixed'.",
                ),
                io.Combo.Input(
                    "captioner",
                    options=list(CAPTIONERS),
                    default="fixed",
                    tooltip="fixed: the text below. openai: a server, to which the picture is sent.",
                ),
                io.String.Input(
                    "text",
                    default="",
                    multiline=True,
                    tooltip="fixed: the caption itself. openai: what the server is asked; empty asks the usual.",
                ),
                io.String.Input(
                    "model_name",
                    default="",
                    tooltip="openai: the server's name of the model. Empty takes HYPIR_CAPTION_MODEL, else gpt-4o-mini.",
                ),
            ],
            outputs=[io.String.Output(display_name="caption", tooltip="One line.")],
        )

    @classmethod
    def check_lazy_status(cls, image: torch.Tensor | None, captioner: str, **_: str) -> list[str]:
        """Ask for the picture only where somebody looks at it."""
        return ["image"] if image is None and captioner not in BLIND else []

    @classmethod
    def execute(cls, image: torch.Tensor | None, captioner: str, text: str, model_name: str) -> io.NodeOutput:
        """Describe the first picture."""
        if captioner in BLIND or image is None:
            options, picture = {"text": text}, torch.zeros(1, 3, 1, 1)
        else:
            given = {"instruction": text.strip(), "model": model_name.strip()}
            options = {name: value for name, value in given.items() if value}
            picture = to_bchw(image)[0][:1]
        caption = load_captioner(captioner, options)(picture, should_stop=memory.interrupted)
        return io.NodeOutput(caption, ui=said(caption))
