"""Load Restorer: a generator that this project's training made."""

from __future__ import annotations

from typing import Any

from ..hypir_core.engines.feed_forward.descriptor import descriptor_of
from ..hypir_core.engines.feed_forward.load import load_upscaler
from ..hypir_core.engines.feed_forward.options import UpscalerOptions
from .host import folders, memory
from .host.face import said
from .host.schema import beside, io, schema
from .host.upscaler import as_upscale_model

FOLDERS = ("upscale_models", "hypir")


class HypirLoadRestorer(io.ComfyNode):
    """A generator with its range, by the spec in its file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirLoadRestorer",
            display_name="Load Restorer",
            category=beside("UpscaleModelLoader", otherwise="loaders"),
            description="Loads a restorer of any architecture that this project trains, with the range of its numbers, "
            "and any other super-resolution file. Use it in Restore Image, Restore Clip, or ComfyUI's own upscale node.",
            search_aliases=["hypir", "restorer", "upscale model", "generator", "super resolution", "opensr"],
            inputs=[
                io.Combo.Input(
                    "restorer",
                    options=folders.file_names(*FOLDERS),
                    tooltip="A file in models/upscale_models or models/hypir: one that the training exported, or one "
                    "of opensr-srgan.",
                ),
            ],
            outputs=[
                io.UpscaleModel.Output(display_name="UPSCALE_MODEL", tooltip="The restorer, for any node.")
            ],
        )

    @classmethod
    def validate_inputs(cls, restorer: str) -> bool | str:
        """Say where a missing file belongs."""
        if restorer in folders.file_names(*FOLDERS):
            return True
        return f"{restorer or 'no file'} is not there: put the restorer into ComfyUI's models/upscale_models"

    @classmethod
    def fingerprint_inputs(cls, restorer: str) -> str:
        """Run again when the file has changed."""
        stat = folders.file_path(restorer, *FOLDERS, what="restorer").stat()
        return f"{restorer} {stat.st_mtime_ns} {stat.st_size}"

    @classmethod
    def execute(cls, restorer: str) -> io.NodeOutput:
        """Load the file."""
        path = folders.file_path(restorer, *FOLDERS, what="restorer")
        engine = load_upscaler(UpscalerOptions(weights=path), memory.device(), memory.dtype_name())
        model: Any = as_upscale_model(descriptor_of(engine, where=restorer), engine)
        grey = " · grey: each colour for itself" if engine.spec.in_channels == 1 else ""
        line = f"{engine.spec.weights} · ×{engine.scale[0]}{grey} · {engine.spec.licence}"
        return io.NodeOutput(model, ui=said(line, engine.spec.notes))
