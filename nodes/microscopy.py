"""Microscope and Restore Microscopy: 16-bit planes, with the physics in the loop."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..hypir_core.engines.base import Engine
from ..hypir_core.engines.catalog import load_engine
from ..hypir_core.engines.deconvolution.options import DeconvolutionOptions
from ..hypir_core.engines.feed_forward.options import Result
from ..hypir_core.engines.pixel.built_in import BUILT_IN_PIXEL
from ..hypir_core.engines.pixel.engine import Pixel
from ..hypir_core.engines.pixel.options import MOST_SAMPLES, PixelOptions
from ..hypir_core.files.scenes.planes import StackInfo
from ..hypir_core.physics.choices import Term
from ..hypir_core.progress import Progress, Tick
from ..hypir_core.request import Report, Request
from ..hypir_core.scenes.restoring import restore_planes
from ..hypir_core.tiling.plan import TileWish
from .host import folders, memory, progress
from .host.face import said
from .host.schema import advanced, io, require, schema
from .inputs import default_of
from .stacks import CATEGORY, HYPIR_STACK_INFO

FOLDER = "hypir"

HYPIR_PHYSICS = io.Custom("HYPIR_PHYSICS")
"""Options of a microscope, by name: those that the engines share."""

NO_WEIGHTS = "Richardson-Lucy (no weights)"
OFF = "off"
WHITE_ADU = 65535.0


class HypirMicroscope(io.ComfyNode):
    """What made the numbers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirMicroscope",
            display_name="Microscope",
            category=CATEGORY,
            description="Describes a microscope: how it shows a point, and how its camera counts light. The "
            "camera's data sheet has the numbers; a dark frame shows offset and reading noise.",
            search_aliases=["psf", "camera", "deconvolution", "microscopy"],
            inputs=[
                io.Float.Input(
                    "psf_sigma_px",
                    default=1.5,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    tooltip="Width (σ) of a Gaussian point spread in pixels: the full width at half height over "
                    "2.35. 0: no blur. Not read where psf names a file.",
                ),
                io.String.Input(
                    "psf",
                    default="",
                    tooltip="A TIFF of the point spread, in the input folder or with its whole path: `hypir psf` "
                    "makes one of beads. Empty: psf_sigma_px.",
                ),
                io.Float.Input(
                    "gain",
                    default=default_of(DeconvolutionOptions, "gain"),
                    min=0.0001,
                    max=100000.0,
                    step=0.01,
                    tooltip="Numbers of the file per electron. Data sheets often give electrons per number: 1 over "
                    "that.",
                ),
                io.Float.Input(
                    "offset_adu",
                    default=default_of(DeconvolutionOptions, "offset_adu"),
                    min=0.0,
                    max=65535.0,
                    step=1.0,
                    tooltip="What the camera writes in the dark, often 100.",
                ),
                io.Float.Input(
                    "background_e",
                    default=default_of(DeconvolutionOptions, "background_e"),
                    min=0.0,
                    max=1000000.0,
                    step=0.1,
                    tooltip="Light that does not come from the specimen, in electrons per pixel.",
                ),
                advanced(
                    io.Float.Input(
                        "read_noise_e",
                        default=default_of(DeconvolutionOptions, "read_noise_e"),
                        min=0.0,
                        max=1000.0,
                        step=0.1,
                        tooltip="Standard deviation of a reading, in electrons: 1 to 3 of usual cameras.",
                    )
                ),
                advanced(
                    io.Int.Input(
                        "bits",
                        default=default_of(DeconvolutionOptions, "bits"),
                        min=8,
                        max=32,
                        tooltip="Depth of the camera, which may be less than the file's. Pixels at its brightest "
                        "number say nothing.",
                    )
                ),
            ],
            outputs=[HYPIR_PHYSICS.Output(display_name="PHYSICS", tooltip="For Restore Microscopy.")],
        )

    @classmethod
    def execute(cls, psf_sigma_px: float, psf: str, **camera: float) -> io.NodeOutput:
        """Gather the options."""
        spread = {"psf": str(folders.input_path(psf))} if psf.strip() else {"psf_sigma_px": psf_sigma_px}
        return io.NodeOutput(spread | camera)


class HypirRestoreMicroscopy(io.ComfyNode):
    """Planes that are treated as one stack."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirRestoreMicroscopy",
            display_name="Restore Microscopy",
            category=CATEGORY,
            description="Removes noise and blur from the planes of a microscope stack: by Richardson and Lucy's "
            "deconvolution, or by a diffusion model of pixels that is held to the measurement. Several samples show "
            "how sure it is.",
            search_aliases=[
                "denoise",
                "deconvolution",
                "deblur",
                "microscopy",
                "diffusion",
                "pixel",
                "richardson lucy",
            ],
            inputs=[
                io.Image.Input("image", tooltip="The planes, from Load 16-bit Stack."),
                HYPIR_PHYSICS.Input("physics", tooltip="From Microscope."),
                io.Combo.Input(
                    "weights",
                    options=_choices(),
                    default=NO_WEIGHTS,
                    tooltip="A diffusion model of pixels: built-in ones are inside the plugin, others lie in "
                    "models/hypir as `train` exports them. Or the classic without weights.",
                ),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="Rounds of the deconvolution, or calls of the network. 0: 10 rounds, 20 calls, or 1 of "
                    "one-step weights. More rounds are sharper and noisier.",
                ),
                io.Combo.Input(
                    "guidance",
                    options=[OFF, *(term.value for term in Term)],
                    default=Term.pkl.value,
                    tooltip="How a diffusion model is held to the measurement: pkl counts photons, l2 is plain "
                    "squares, off leaves it to the network.",
                ),
                advanced(
                    io.Float.Input(
                        "guidance_strength",
                        default=default_of(PixelOptions, "guidance_strength"),
                        min=0.0,
                        max=10.0,
                        step=0.05,
                        tooltip="How far guidance moves every step.",
                    )
                ),
                io.Int.Input(
                    "samples",
                    default=1,
                    min=1,
                    max=MOST_SAMPLES,
                    tooltip="Pictures that a diffusion model draws of each plane: their mean is nearer to the truth "
                    "than one, their deviation says where it guesses. Time grows alike.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=False,
                    tooltip="Of the noise that a diffusion model begins with.",
                ),
                advanced(
                    io.Int.Input(
                        "tile_px",
                        default=0,
                        min=0,
                        max=8192,
                        step=64,
                        tooltip="Side of a tile in pixels. 0: as the model likes.",
                    )
                ),
                HYPIR_STACK_INFO.Input(
                    "stack_info",
                    optional=True,
                    tooltip="From Load 16-bit Stack: which number of the file 1 stands for. Without it, 65535.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The restored planes, for Save 16-bit Stack."),
                io.Image.Output(
                    display_name="deviation",
                    tooltip="Standard deviation of the samples, in the same numbers: black where there is one "
                    "sample.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="What was done and how well it explains the input, as JSON.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, weights: str) -> bool | str:
        """Say where a missing file belongs."""
        return weights in _choices() or f"{weights} is not there: put it into models/{FOLDER} and press R"

    @classmethod
    def execute(
        cls,
        image: Tensor,
        physics: Mapping[str, Any],
        weights: str,
        steps: int,
        guidance: str,
        guidance_strength: float,
        samples: int,
        seed: int,
        tile_px: int,
        stack_info: StackInfo | None = None,
    ) -> io.NodeOutput:
        """Restore the planes."""
        black, white = (0.0, WHITE_ADU) if stack_info is None else (stack_info.black, stack_info.white)
        if weights == NO_WEIGHTS:
            engine = _deconvolution(physics, steps)
        else:
            asked = {
                "guidance": None if guidance == OFF else guidance,
                "guidance_strength": guidance_strength,
            }
            path = Path(weights)  # a word, for weights inside the plugin
            if weights not in BUILT_IN_PIXEL:
                path = folders.file_path(weights, FOLDER, what="weights")
            engine = _pixel(path, physics, asked | {"samples": samples, "steps": steps or None})
        planes = image[..., :3].float().mean(-1) * (white - black) + black
        request = Request(seed=seed, tile=TileWish(tile_px=tile_px or None))
        runtime = memory.runtime(_shown(progress.progress_bar(backdrop=image[:1].movedim(-1, 1).float())))
        with _room(engine):
            made, report = restore_planes(
                engine, planes.cpu().numpy(), request, replace(runtime, inspect=lambda *_: None)
            )
        found = torch.from_numpy(made)
        restored = ((found[:, 0] - black) / (white - black)).nan_to_num(0.0)
        spread = found[:, 1] / (white - black) if found.shape[1] > 1 else torch.zeros_like(restored)
        return io.NodeOutput(
            _grey(restored), _grey(spread), report.to_json(indent=2), ui=said(_summary(report), report.notes)
        )


def _choices() -> list[str]:
    """Return the weights that are there: none, those inside the plugin, and files."""
    inside = [word for word, file in BUILT_IN_PIXEL.items() if file.is_file()]
    return [NO_WEIGHTS, *inside, *folders.file_names(FOLDER)]


def _deconvolution(physics: Mapping[str, Any], steps: int) -> Engine:
    has_blur = "psf" in physics or physics.get("psf_sigma_px", 0) > 0
    require(has_blur, "a deconvolution needs a point spread; set psf_sigma_px or psf in Microscope")
    rounds = {"steps": steps} if steps else {}
    return load_engine("richardson-lucy", {**physics, **rounds}, device=memory.device())


def _pixel(path: Path, physics: Mapping[str, Any], asked: Mapping[str, Any]) -> Engine:
    several = {"result": Result.both.value} if asked["samples"] > 1 else {}
    options = {"weights": str(path), **physics, **asked, **several}
    return load_engine("pixel", options, device=memory.device(), dtype=memory.dtype_name())


def _room(engine: Engine) -> AbstractContextManager[None]:
    """Ask ComfyUI to make room for an engine's network, if it has one."""
    return memory.room_for(engine.net, 0.0) if isinstance(engine, Pixel) else nullcontext()


def _shown(bar: Progress) -> Progress:
    """Return a progress callback that shows a canvas in whatever unit, from its darkest to its brightest cell."""

    def move(tick: Tick) -> None:
        every = max(1, max(tick.canvas.shape[-2:]) // progress.PREVIEW_PX)
        small = tick.canvas[:1, :1, ::every, ::every].float()
        low, high = small.min(), small.max()
        bar(replace(tick, canvas=(small - low) / (high - low).clamp(min=1e-6)))

    return move


def _grey(planes_01: Tensor) -> Tensor:
    """Return [n h w] as an IMAGE; always float32: half floats would lose bits."""
    return planes_01.clamp(min=0)[..., None].expand(-1, -1, -1, 3)


def _summary(report: Report) -> str:
    planes, height, width = report.input_px
    chi = report.measures.get("chi_squared")
    told = "" if chi is None else f" · χ² {chi:.2f}"
    return f"{planes} × {width}×{height} px · {report.engine}{told} · {progress.duration(report.seconds)}"
