"""Which base models of the Stable Diffusion 2 family can be looked for, and how their files are called.

Neither the prediction type nor the model that a VAE belongs to can be read from the tensors, so that only names which
say one model, and nothing else, count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..file_names import CHECKPOINT_ENDINGS

_PLAIN_WORDS = frozenset(
    {"base", "512", "ema", "pruned", "unet", "vae", "clip", "text", "encoder", "te", "diffusion", "model"}
    | {"fp16", "f16", "half", "bf16", "fp32", "f32", "full"}
)
"""Words that a file of the wanted model itself may carry; any other names another model (768, inpainting, …)."""


@dataclass(frozen=True, kw_only=True)
class WantedBase:
    """One base model, as a search knows it."""

    what: str
    """Names it in errors, with its article."""
    sources: tuple[str, ...]
    """Sources that hold it; the first one is what is downloaded."""
    start: re.Pattern[str]
    """What the names of its files and folders begin with, in small letters."""
    must_say: frozenset[str] = frozenset()
    """Words of which a whole model's name, or a UNet's, carries one."""
    examples: tuple[str, str, str]
    """A checkpoint, a diffusers folder, and the names of separate files."""
    engine: str
    """The engine that wants it, in the commands that mend a missing one."""

    @property
    def commands(self) -> tuple[str, str]:
        """Return what mends a missing model: download it; use a copy one already has."""
        restore = f"hypir restore photo.jpg -o out.png --engine {self.engine}"
        return f"{restore} --download", f"{restore} --base PATH"

    def is_called(self, name: str, *, whole: bool) -> bool:
        """Return whether `name` says this model and nothing else; `whole`: a whole model, or its UNet."""
        match = self.start.match(name.lower())
        if match is None:
            return False
        words = set(re.split(r"[-_. ]+", name.lower()[match.end() :])) - {""}
        return words <= _PLAIN_WORDS and (not whole or not self.must_say or bool(words & self.must_say))

    def is_checkpoint(self, path: Path) -> bool:
        """Return whether a file's name says that it is this model as a whole."""
        named = path.name.lower().endswith(CHECKPOINT_ENDINGS) and self.is_called(path.stem, whole=True)
        return named and path.is_file()


_SD = r"(?:sd|stable[-_. ]?diffusion)[-_. ]?"

SD21_BASE = WantedBase(
    what="an SD 2.1-base model",
    sources=("sd21-base", "sd21-base-fp16", "sd21-base-checkpoint"),
    start=re.compile(rf"(?:v2-1|{_SD}v?2[-_. ]?1)(?!\d)"),
    must_say=frozenset({"base", "512"}),
    examples=(
        "v2-1_512-ema-pruned.safetensors",
        "stable-diffusion-2-1-base",
        "sd21-base-unet, sd21-vae, sd21-text-encoder",
    ),
    engine="one-step",
)

SD_TURBO = WantedBase(
    what="SD-Turbo",
    sources=("sd-turbo", "sd-turbo-checkpoint"),
    start=re.compile(rf"{_SD}(?:v?2[-_. ]?1[-_. ]?)?turbo(?!\d)"),
    examples=("sd_turbo.safetensors", "sd-turbo", "sd-turbo-unet, sd-turbo-vae, sd-turbo-text-encoder"),
    engine="seesr",
)

SD2_BASE = WantedBase(
    what="an SD 2-base model",
    sources=("sd2-base",),
    start=re.compile(rf"(?:512(?=-base-ema)|{_SD}v?2(?:[-_. ]?0)?(?![-_. ]?\d))"),
    must_say=frozenset({"base"}),
    examples=(
        "512-base-ema.safetensors",
        "stable-diffusion-2-base",
        "sd2-base-unet, sd2-vae, sd2-text-encoder",
    ),
    engine="seesr",
)

BASES = (SD21_BASE, SD_TURBO, SD2_BASE)


def named_by(path: Path) -> WantedBase | None:
    """Return the base model whose name a path carries, in its file, a folder or a folder of the hub's cache."""
    for part in reversed(path.parts):
        name = part.rpartition("--")[2]  # the hub's cache: models--stabilityai--sd-turbo
        stem = name.rpartition(".")[0] if name.lower().endswith(CHECKPOINT_ENDINGS) else name
        for base in BASES:
            if base.is_called(stem, whole=True):
                return base
    return None
