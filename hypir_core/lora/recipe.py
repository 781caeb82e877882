"""Recipes: how the restorers of the one-step family are built and run, as data (``presets/one_step``).

A recipe says what a network predicts and at which timestep, what its file holds, and what it wants to be told. All of
them share one step: clean latent = f(degraded latent, one prediction).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache
from typing import ClassVar

from ..color.mode import ColorFix
from ..config import preset, preset_names, strict
from ..errors import ConfigError, SpecMismatchError, UnknownNameError
from ..weights.spec import NOT_STATED, LoraSpec, Prediction

KIND = "one_step"
"""Folder of the recipes, below ``presets``."""

HYPIR = "hypir"
"""The recipe of a plain LoRA that does not say another one."""


class Layout(str, Enum):
    """What the weights come in."""

    plain = "plain"
    """One LoRA of the UNet, in any naming."""
    nested = "nested"
    """One pickle: state dicts of adapters, ranks, and lists of the modules that they adapt."""
    adapters = "adapters"
    """A folder of PEFT folders, one for each network."""
    merged = "merged"
    """A folder with a whole ``unet`` and ``vae`` as diffusers writes them."""


class Sizes(str, Enum):
    """Whose rules of size and of tiles reference mode follows."""

    hypir = "hypir"
    osediff = "osediff"
    """Those that OSEDiff's script handed down to the others: one VAE pass, tiles of the UNet alone."""


class Words(str, Enum):
    """What the text encoder reads."""

    text = "text"
    """The prompt."""
    empty = "empty"
    """Trained with the empty prompt alone."""
    tags = "tags"
    """What a tagger sees in the picture, then the prompt."""


@dataclass(frozen=True, kw_only=True)
class Adapters:
    """Low-rank adapters of one network that belong together."""

    __pydantic_config__ = strict

    names: tuple[str, ...] = ()
    """What stands for the adapter in a key: ``X.lora_A.<name>.weight``. Together they adapt every module once."""
    rank: str = ""
    """Entry of the file that states their rank."""
    modules: tuple[str, ...] = ()
    """Entries of the file that list their modules."""
    targets: str = ""
    """Entry of the file with PEFT's ``target_modules``: endings of their modules' names, or a regular expression."""
    folder: str = ""
    """Where they lie, in a folder of PEFT folders."""
    prefix: str = ""
    """What the names of their modules leave out: ``encoder.``."""


@dataclass(frozen=True, kw_only=True)
class OneStepRecipe:
    """One family of one-step restorers."""

    __pydantic_config__ = strict
    MODEL_FIELDS: ClassVar[tuple[str, ...]] = ("model_t", "coeff_t", "prediction", "noise_t", "base_model")
    """What a file may say for itself in its `LoraSpec`."""

    name: str = ""
    """Its file in ``presets/one_step``."""
    title: str
    """What its authors call it."""
    licence: str
    """Of the published weights."""
    link: str
    """Where code and weights are."""
    base_model: str = "stabilityai/stable-diffusion-2-1-base"
    """What it was trained on, by its first public name."""
    layout: Layout = Layout.plain
    keys: tuple[str, ...] = ()
    """Entries that a nested file has."""
    unet: Mapping[str, Adapters] = field(default_factory=dict)
    """Slider → adapters of the UNet; one without a slider of its own is called ``all``. Where there are several, each
    adds to those before it: a slider weighs what its adapters change in the prediction."""
    vae: tuple[Adapters, ...] = ()
    """Adapters of the VAE."""
    whole: tuple[str, ...] = ()
    """Modules of the UNet that the file holds as they were trained."""
    alpha: float | None = None
    """Of every adapter, where the file does not state it: PEFT's default is 8. None: alpha = rank."""
    model_t: int
    """Timestep given to the UNet, 0 to 999."""
    coeff_t: int
    """Timestep whose ā turns the prediction into the clean latent."""
    prediction: Prediction = Prediction.eps
    noise_t: int | None = None
    """Timestep whose noise is put on the degraded latent before the step; None puts none."""
    words: Words = Words.text
    quality: str = ""
    """Words about quality that close the prompt."""
    negative: str = ""
    """What the picture shall not be; read where `cfg` is not 1."""
    cfg: float = 1.0
    """How strongly the words lead away from the negative ones; 1 needs no second pass."""
    mixed: bool = False
    """Whether the adapters are mixed anew for every picture, by how blurred and noisy it is (`mixing`)."""
    color_fix: ColorFix = ColorFix.wavelet
    sizes: Sizes = Sizes.osediff
    """For reference mode."""
    minimum_px: int = 512
    """The authors enlarge smaller pictures, so that the short side has this size."""
    tile_px: int = 768
    """Side of the tiles in which the authors run the UNet."""
    overlap_px: int = 256
    centred: bool = False
    """Whether the authors' blending windows are centred along rows as along columns; most are half a cell off."""
    note: str = ""
    """What is worth knowing, for tables and documents."""
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    """Number formats that it may be run in without being asked."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} must lie in 0 … 999, got {value}"
            for name, value in (
                ("model_t", self.model_t),
                ("coeff_t", self.coeff_t),
                ("noise_t", self.noise_t or 0),
            )
            if not 0 <= value <= 999
        ]
        if self.alpha is not None and not self.alpha > 0:
            problems.append(f"alpha must be above 0, got {self.alpha:g}")
        if problems:
            raise ConfigError(problems)

    @property
    def base_prediction(self) -> Prediction:
        """Return what its base model predicts: a difference is learned on top of ε."""
        return Prediction.eps if self.prediction is Prediction.difference else self.prediction

    @property
    def sliders(self) -> tuple[str, ...]:
        """Return the names of its sliders; empty where all adapters go together."""
        return tuple(self.unet) if len(self.unet) > 1 else ()

    @property
    def licence_line(self) -> str:
        """Return whose licence it is, for reports; whose work a plain LoRA is, only its own spec can say."""
        return f"{'LoRA' if self.layout is Layout.plain else self.title}: {self.licence}"

    def spec(self, *, rank: int, alpha: float, targets: tuple[str, ...]) -> LoraSpec:
        """Return what a LoRA of this recipe says about itself."""
        return LoraSpec(
            recipe=self.name,
            rank=rank,
            alpha=alpha,
            target_modules=targets,
            model_t=self.model_t,
            coeff_t=self.coeff_t,
            prediction=self.prediction,
            noise_t=self.noise_t,
            base_model=self.base_model,
            licence=self.licence,
        )


@lru_cache
def recipes() -> tuple[OneStepRecipe, ...]:
    """Return every recipe, the plain LoRA's first."""
    names = sorted(preset_names(KIND), key=lambda name: (name != HYPIR, name))
    return tuple(recipe(name) for name in names)


@lru_cache
def recipe(name: str) -> OneStepRecipe:
    """Return the recipe called `name`.

    Raises:
        UnknownNameError: there is none.
    """
    names = preset_names(KIND)
    if name not in names:
        raise UnknownNameError("one-step recipe", name, names)
    return replace(preset(OneStepRecipe, KIND, name), name=name)


def recipe_of(spec: LoraSpec | None, where: object = "LoRA") -> OneStepRecipe:
    """Return the recipe of a LoRA: that which its spec names, with what the spec says itself.

    Without a spec it is run as HYPIR's; whose work it is, nobody knows.

    Raises:
        SpecMismatchError: the spec names a recipe that this version does not know.
    """
    if spec is None:
        return replace(recipe(HYPIR), licence=NOT_STATED)
    try:
        family = recipe(spec.recipe)
    except UnknownNameError as err:
        raise SpecMismatchError(f"{where}: {err}; update this package") from err
    said = {name: getattr(spec, name) for name in OneStepRecipe.MODEL_FIELDS}
    # What the family's own file holds says nothing about this one, nor does its licence.
    return replace(family, **said, licence=spec.licence, unet={}, vae=(), whole=())
