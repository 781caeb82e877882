"""The one list of nodes."""

from __future__ import annotations

from typing import Any

from .caption import HypirCaption
from .color import HypirWaveletColorFix
from .compare import HypirCompare
from .degrade import HypirDegradeImage
from .host import folders
from .host.schema import ComfyExtension, io, register_replacements
from .latents import HypirOneStepRestore, HypirTiledDecode, HypirTiledEncode
from .lora import HypirLoadLora, HypirSaveCheckpoint
from .restore import HypirRestoreImage

NODES: list[type[io.ComfyNode]] = [
    HypirRestoreImage,
    HypirLoadLora,
    HypirTiledEncode,
    HypirOneStepRestore,
    HypirTiledDecode,
    HypirWaveletColorFix,
    HypirDegradeImage,
    HypirCaption,
    HypirCompare,
    HypirSaveCheckpoint,
]

REPLACEMENTS: list[dict[str, Any]] = [
    {
        "new_node_id": "HypirRestoreImage",
        "old_node_id": old,
        "input_mapping": [{"new_id": "image", "old_id": "image"}],
        "output_mapping": [{"new_idx": 0, "old_idx": 0}],
    }
    for old in ("HYPIRAdvancedRestoration", "hyper_comfyui_hypir_restore")
]
"""Nodes of other HYPIR ports; only the picture is carried over, because their settings mean other things."""


class OneStepRestoreExtension(ComfyExtension):
    """What ComfyUI loads."""

    async def on_load(self) -> None:
        """Offer to replace the nodes of other ports."""
        await register_replacements(REPLACEMENTS)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the nodes."""
        folders.register_folders()
        return NODES
