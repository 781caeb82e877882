"""Nodes for tests in a running ComfyUI: random words without a text encoder, tokens without a tagger, a thin VAE."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from comfy_api.latest import ComfyExtension, io


class GivenWords(io.ComfyNode):
    """A CONDITIONING of random numbers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Take a seed."""
        return io.Schema(
            node_id="GivenWords", inputs=[io.Int.Input("seed")], outputs=[io.Conditioning.Output()]
        )

    @classmethod
    def execute(cls, seed: int) -> io.NodeOutput:
        """Draw them."""
        return io.NodeOutput([[torch.randn(1, 77, 1024, generator=torch.manual_seed(seed)), {}]])


class GivenTokens(io.ComfyNode):
    """Random HYPIR_TOKENS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Take nothing."""
        return io.Schema(
            node_id="GivenTokens",
            inputs=[],
            outputs=[io.Custom("HYPIR_TOKENS").Output(display_name="tokens")],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        """Draw them."""
        return io.NodeOutput(torch.randn(1, 145, 512, generator=torch.manual_seed(3)))


class GivenVae(io.ComfyNode):
    """The thin VAE of the benchmarks."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Take nothing."""
        return io.Schema(node_id="GivenVae", inputs=[], outputs=[io.Vae.Output()])

    @classmethod
    def execute(cls) -> io.NodeOutput:
        """Make it."""
        path = Path(__file__).resolve().parents[3] / "benchmarks" / "comfyui_tiles.py"
        spec = importlib.util.spec_from_file_location("comfyui_tiles", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return io.NodeOutput(module.random_vae(32))


class GivenExtension(ComfyExtension):
    """What ComfyUI loads."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the nodes."""
        return [GivenWords, GivenTokens, GivenVae]


async def comfy_entrypoint() -> GivenExtension:
    """Begin."""
    return GivenExtension()
