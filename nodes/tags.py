"""Tag Image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..hypir_core.engines.diffusion.seesr.options import SeesrOptions
from ..hypir_core.tags.files import read_tagger
from ..hypir_core.tags.tagger import Seen, Tagger
from .convert import to_bchw
from .host import folders, memory
from .host.face import said
from .host.schema import advanced, io, schema
from .inputs import default_of
from .seesr import HYPIR_TOKENS

FOLDERS = ("hypir", "controlnet")

WITHOUT_DAPE = (
    "the tagger looks without DAPE, SeeSR's LoRA for degraded pictures; put DAPE.pth into models/hypir, or use a "
    "tagger with DAPE in it (`hypir convert --to tagger`)"
)


class HypirTagImage(io.ComfyNode):
    """What is in a picture, in words and as SeeSR's tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirTagImage",
            display_name="Tag Image",
            category="text",
            description="Says in tags what is in a picture (RAM, with SeeSR's DAPE where that is found), and gives the "
            "tokens that Apply SeeSR takes.",
            search_aliases=["tag", "tagger", "caption", "ram", "dape", "seesr"],
            inputs=[
                io.Image.Input("image", tooltip="The degraded pictures, in any size."),
                io.Combo.Input(
                    "tagger",
                    options=folders.file_names(*FOLDERS),
                    tooltip="ram_swin_large_14m.pth, or what `hypir convert --to tagger` made of it, in models/hypir. "
                    "DAPE.pth is looked for by itself, unless it is in the file.",
                ),
                advanced(
                    io.Float.Input(
                        "threshold",
                        default=0.0,
                        min=0.0,
                        max=1.0,
                        step=0.01,
                        tooltip="How sure the tagger must be of a tag. 0 takes the threshold of each tag itself.",
                    )
                ),
                io.Int.Input(
                    "max_tags",
                    default=default_of(SeesrOptions, "max_tags"),
                    min=1,
                    max=1000,
                    tooltip="How many tags are kept, the surest first.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="tags",
                    tooltip="With commas between them, for CLIP Text Encode; of a batch, those of all its pictures.",
                ),
                io.String.Output(
                    display_name="confidences",
                    tooltip="The same with how sure each is, one line per picture.",
                ),
                HYPIR_TOKENS.Output(display_name="tokens", tooltip="For Apply SeeSR."),
            ],
        )

    @classmethod
    def validate_inputs(cls, tagger: str) -> bool | str:
        """Say where a missing file belongs."""
        if tagger in folders.file_names(*FOLDERS):
            return True
        return f"{tagger or 'no file'} is not there: put the tagger's file into ComfyUI's models/hypir"

    @classmethod
    def fingerprint_inputs(cls, tagger: str, **_: Any) -> str:
        """Run again when the file has changed."""
        stat = folders.file_path(tagger, *FOLDERS, what="tagger").stat()
        return f"{tagger} {stat.st_mtime_ns} {stat.st_size}"

    @classmethod
    def execute(cls, image: Tensor, tagger: str, threshold: float, max_tags: int) -> io.NodeOutput:
        """Look at every picture; ComfyUI makes room for the network, and takes it back."""
        path, notes = folders.file_path(tagger, *FOLDERS, what="tagger"), ()
        file = read_tagger(path)
        if file.spec.lora is None:
            lora = _dape()
            notes = (WITHOUT_DAPE,) if lora is None else ()
            file = file if lora is None else read_tagger(path, lora)
        looking = Tagger(
            file,
            threshold=threshold or None,
            max_tags=max_tags,
            device=memory.device(),
            dtype=memory.dtype_name(),
            place=memory.lending(),
        )
        color, _alpha = to_bchw(image)
        seen = []
        for picture in color.split(1):
            memory.interrupted()
            seen.append(looking.look(picture))
        lines = [", ".join(f"{tag.name} {tag.probability:.2f}" for tag in one.tags) for one in seen]
        tokens = torch.cat([one.tokens for one in seen])
        return io.NodeOutput(
            ", ".join(_of_all(seen, max_tags)),
            "\n".join(lines),
            tokens,
            ui=said("\n".join(lines), notes),
        )


def _dape() -> Path | None:
    """Return SeeSR's LoRA for the tagger, where it lies in the same folders."""
    names = (name for name in folders.file_names(*FOLDERS) if "dape" in Path(name).stem.lower())
    found = next((name for name in names if "tagger" not in Path(name).stem.lower()), None)
    return None if found is None else folders.file_path(found, *FOLDERS, what="LoRA")


def _of_all(seen: list[Seen], most: int) -> list[str]:
    """Return the tags of all pictures, each once, the surest first."""
    best: dict[str, float] = {}
    for tag in (tag for one in seen for tag in one.tags):
        best[tag.name] = max(tag.probability, best.get(tag.name, 0.0))
    return sorted(best, key=lambda name: -best[name])[:most]
