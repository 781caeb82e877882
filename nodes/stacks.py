"""Load 16-bit Stack and Save 16-bit Stack: microscope stacks as IMAGEs, no number lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ..hypir_core.files.scenes.planes import StackInfo, read_planes, write_planes
from .host import folders, memory
from .host.face import said
from .host.schema import advanced, io, schema

CATEGORY = "image/microscopy"

HYPIR_STACK_INFO = io.Custom("HYPIR_STACK_INFO")
"""A `StackInfo`."""

ENDINGS = (".ome.tif", ".tif", ".zarr", ".h5")


class HypirLoadStack(io.ComfyNode):
    """A stack as a batch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirLoadStack",
            display_name="Load 16-bit Stack",
            category=CATEGORY,
            description="Reads a TIFF, OME-TIFF, ImageJ, Zarr or HDF5 stack with all of its bits, one picture for "
            "each plane. Load Image would make 8 bit of it.",
            search_aliases=["tiff", "ome", "imagej", "zarr", "16 bit", "microscopy", "z stack"],
            inputs=[
                io.String.Input(
                    "path",
                    default="stack.ome.tif",
                    tooltip="File or Zarr folder: in ComfyUI's input folder, or with its whole path.",
                ),
                advanced(
                    io.String.Input(
                        "axes",
                        default="",
                        tooltip="Where the file names no axes, a letter of TZCYX for each, such as ZYX. Empty: as "
                        "the file says.",
                    )
                ),
                advanced(
                    io.String.Input(
                        "dataset",
                        default="",
                        tooltip="Of an HDF5 file or a Zarr group with several arrays: which one, such as /measured.",
                    )
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="IMAGE",
                    tooltip="The planes in the order T Z C, grey. 1 is 65535 of 16 bit, 255 of 8 bit; of other "
                    "formats the greatest number.",
                ),
                HYPIR_STACK_INFO.Output(
                    display_name="STACK_INFO",
                    tooltip="Axes, number format and size of a pixel, for Restore Microscopy and Save 16-bit Stack.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, path: str) -> bool | str:
        """Say when the workflow is queued that the file is missing."""
        return (
            folders.input_path(path).exists()
            or f"{path or 'no file'} is not there: put it into ComfyUI's input folder"
        )

    @classmethod
    def fingerprint_inputs(cls, path: str, **_: Any) -> str:
        """Run again when the file has changed."""
        place = folders.input_path(path)
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        stats = [file.stat() for file in files if file.is_file()]
        return " ".join(f"{stat.st_mtime_ns} {stat.st_size}" for stat in stats)

    @classmethod
    def execute(cls, path: str, axes: str, dataset: str) -> io.NodeOutput:
        """Read the stack."""
        planes, info = read_planes(folders.input_path(path), axes=axes, dataset=dataset)
        image = planes[..., None].expand(-1, -1, -1, 3)  # always float32: half floats would lose bits
        return io.NodeOutput(image, info, ui=said(info.summary(), info.notes))


class HypirSaveStack(io.ComfyNode):
    """A batch as a stack."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirSaveStack",
            display_name="Save 16-bit Stack",
            category=CATEGORY,
            description="Writes planes as a stack with the axes, number format and pixel size of the one that they "
            "come from. Save Image would make 8 bit of them.",
            search_aliases=["tiff", "ome", "zarr", "16 bit", "microscopy"],
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The planes, as many as the stack has; grey."),
                io.String.Input(
                    "filename_prefix",
                    default="stack",
                    tooltip="Name in ComfyUI's output folder; a number is added.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(ENDINGS),
                    default=ENDINGS[0],
                    tooltip=".ome.tif keeps axes and pixel size for every program; .tif keeps the source's dialect, "
                    "such as ImageJ's; .zarr and .h5 suit large stacks.",
                ),
                HYPIR_STACK_INFO.Input(
                    "stack_info",
                    optional=True,
                    tooltip="From Load 16-bit Stack. Without it, 16 bit and the axes ZYX.",
                ),
            ],
            outputs=[io.String.Output(display_name="path", tooltip="The file that was written.")],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        filename_prefix: str,
        format: str,  # noqa: A002  # the name on the node
        stack_info: StackInfo | None = None,
    ) -> io.NodeOutput:
        """Write the stack."""
        memory.interrupted()
        path = Path(folders.output_path(filename_prefix, format))
        notes = write_planes(path, image[..., :3].float().mean(-1), stack_info)
        return io.NodeOutput(str(path), ui=said(str(path), notes))
