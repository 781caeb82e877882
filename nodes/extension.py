"""The one list of nodes."""

from __future__ import annotations

from ..hypir_core.debug import set_level
from .caption import HypirCaption
from .clip import HypirRestoreClip
from .color import HypirWaveletColorFix
from .compare import HypirCompare
from .conditions import HypirConditionImage
from .degrade import HypirDegradeImage
from .few_step import HypirFewStepRestore
from .host import folders
from .host.schema import ComfyExtension, io, register_replacements
from .latents import HypirOneStepRestore, HypirTiledDecode, HypirTiledEncode
from .lora import HypirLoadLora, HypirSaveCheckpoint
from .microscopy import HypirMicroscope, HypirRestoreMicroscopy
from .replacements import REPLACEMENTS
from .restore import HypirRestoreImage
from .restorer import HypirLoadRestorer
from .seesr import HypirApplySeesr, HypirLoadSeesr
from .stacks import HypirLoadStack, HypirSaveStack
from .tags import HypirTagImage

NODES: list[type[io.ComfyNode]] = [
    HypirRestoreImage,
    HypirRestoreClip,
    HypirLoadLora,
    HypirTiledEncode,
    HypirOneStepRestore,
    HypirTiledDecode,
    HypirWaveletColorFix,
    HypirDegradeImage,
    HypirCaption,
    HypirCompare,
    HypirSaveCheckpoint,
    HypirLoadSeesr,
    HypirTagImage,
    HypirApplySeesr,
    HypirFewStepRestore,
    HypirConditionImage,
    HypirLoadRestorer,
    HypirLoadStack,
    HypirMicroscope,
    HypirRestoreMicroscopy,
    HypirSaveStack,
]


class OneStepRestoreExtension(ComfyExtension):
    """What ComfyUI loads."""

    async def on_load(self) -> None:
        """Log as the environment says, and offer to replace the nodes of other ports."""
        set_level()
        await register_replacements(REPLACEMENTS)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the nodes."""
        folders.register_folders()
        return NODES
