"""Restore a picture with Cog: the walk of `hypir restore`, one picture a time. Ranges are those of the dataclasses."""

import tempfile
from pathlib import Path as FilePath

from cog import BaseModel, BasePredictor, Input, Path

from hypir_core.batch.keys import key_with, settings_key
from hypir_core.batch.naming import Job
from hypir_core.batch.restoring import Writing, restore_file
from hypir_core.config import build, parse_assignments
from hypir_core.device import pick_device
from hypir_core.engines.catalog import load_engine
from hypir_core.request import Request
from hypir_core.runtime import Runtime

# Cog reads this file without running it: what it shows must be written out. tests/deploy/test_cog.py holds every
# choice and range against the catalog and the dataclasses.


class Output(BaseModel):
    """What comes back."""

    picture: Path
    report: str
    """What was asked for and what ran, as JSON."""
    licence: str
    """Of the weights that made the picture."""


class Predictor(BasePredictor):
    """One engine at a time, kept until another one is asked for."""

    def setup(self) -> None:
        """Choose the device; weights are read when an engine is first asked for."""
        self.device = pick_device("auto")
        self.loaded = None

    def predict(
        self,
        image: Path = Input(
            description="The picture: PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, JPEG 2000, TGA, PPM or npy."
        ),
        engine: str = Input(
            description="What restores it. built-in and built-in-sharp need no other file.",
            default="built-in",
            choices=[
                "built-in",
                "built-in-sharp",
                "upscaler",
                "adcsr",
                "one-step",
                "seesr",
                "pixel",
                "richardson-lucy",
            ],
        ),
        scale: float = Input(description="Factor on both sides.", default=4.0, ge=1, le=8),
        prompt: str = Input(description="What the picture shows, for engines that listen.", default=""),
        seed: int = Input(description="Only engines that draw noise depend on it.", default=0, ge=0),
        strength: float = Input(
            description="0 gives the resized input back, 1 the restored picture.", default=1.0, ge=0, le=1
        ),
        mask: Path | None = Input(
            description="A picture of the input's size whose brightness multiplies the strength.",
            default=None,
        ),
        color_fix: str = Input(
            description="Where colour comes from; auto takes the engine's.",
            default="auto",
            choices=["auto", "wavelet", "adain", "lab", "histogram", "none"],
        ),
        color_strength: float = Input(
            description="0 leaves the engine's colours, 1 applies the colour fix fully.",
            default=1.0,
            ge=0,
            le=1,
        ),
        sharpen: float = Input(description="Steeper edges in the result.", default=0.0, ge=0, le=1),
        edge_enhance: float = Input(
            description="Steeper edges in what the engine sees.", default=0.0, ge=0, le=1
        ),
        tile: int = Input(
            description="Tile side in px of the result; 0 takes the engine's.", default=0, ge=0
        ),
        overlap: int = Input(
            description="Least overlap of tiles in px; 0 takes the engine's.", default=0, ge=0
        ),
        settings: str = Input(
            description="Settings of this engine, one KEY=VALUE a line: weights=/weights/model.safetensors",
            default="",
        ),
        output_format: str = Input(
            description="Format of the result.", default="png", choices=["png", "jpg", "webp", "tiff", "npy"]
        ),
    ) -> Output:
        """Restore the picture."""
        wishes = {
            "target": {"scale": scale},
            "prompt": prompt,
            "seed": seed,
            "strength": strength,
            "color_fix": None if color_fix == "auto" else color_fix,
            "color_strength": color_strength,
            "sharpen": sharpen,
            "edge_enhance": edge_enhance,
            "tile": {"tile_px": tile or None, "overlap_px": overlap or None},
        }
        request = build(Request, wishes, where="request")
        loaded = self.engine(engine, settings)
        source, folder = FilePath(image), FilePath(tempfile.mkdtemp(prefix="hypir-"))
        job = Job(source, folder / f"restored.{output_format}")
        writing = Writing(mask=None if mask is None else FilePath(mask), protect=(source,))
        print(f"licence of the weights: {loaded.spec.licence}")
        report = restore_file(
            loaded,
            job,
            request,
            Runtime(device=self.device),
            writing=writing,
            key=key_with(job, settings_key(loaded, job, request, writing)),
        )
        for note in report.notes:
            print(note)
        return Output(picture=Path(job.output), report=report.to_json(), licence=loaded.spec.licence)

    def engine(self, name: str, settings: str):
        """Return the engine with these settings; the last one is kept."""
        wanted = name, settings
        if self.loaded is None or self.loaded[0] != wanted:
            self.loaded = None  # its memory is free before the next one is read
            options = parse_assignments([line.strip() for line in settings.splitlines() if line.strip()])
            self.loaded = wanted, load_engine(name, options, device=self.device)
        return self.loaded[1]
