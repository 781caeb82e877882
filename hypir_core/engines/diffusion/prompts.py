"""What a one-step restorer is told: the prompt, or what a tagger sees in the picture and the prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ...errors import WeightsNotFoundError
from ...lora.recipe import OneStepRecipe, Words
from ...models.sd.backbone import Backbone
from ...models.sd.prompt import count_tokens
from ...request import Request, Tag
from ...tags.prompt import build_prompt, original_prompt
from ...weights.download.sources import Fetch
from .networks import prompt_conditioner, word_reader
from .options import AUTO, OFF, OneStepOptions
from .parts import Condition, Conditioner
from .sizing import Placed

TRAINED_WITHOUT_WORDS = "{} was trained with the empty prompt: words may lower the quality"


class SeenTags(Protocol):
    """What a tagger says about a picture."""

    @property
    def tags(self) -> tuple[Tag, ...]:
        """The surest first."""
        ...


Look = Callable[[Tensor], SeenTags]
"""Picture [1 3 h w] in [0,1] → what is in it."""


def conditioner_of(
    recipe: OneStepRecipe, backbone: Backbone, *, look: Look | None = None, reference: bool = False
) -> Conditioner:
    """Return what tells the denoiser about a picture, as the recipe wants it.

    Args:
        recipe: which words it was trained with.
        backbone: its tokenizer and text encoder read them.
        look: the tagger; None where there is none.
        reference: join words as the authors do.
    """
    if recipe.words is Words.tags or recipe.quality:
        return TaggedPrompt(recipe=recipe, backbone=backbone, look=look, reference=reference)
    plain = prompt_conditioner(backbone)
    if recipe.words is Words.text:
        return plain

    def of_picture(image_01: Tensor, placed: Placed, request: Request) -> Condition:
        condition = plain(image_01, placed, request)
        if not request.prompt.strip():
            return condition
        notes = (*condition.notes, TRAINED_WITHOUT_WORDS.format(recipe.title))
        return Condition(value=condition.value, notes=notes)

    return of_picture


@dataclass(frozen=True, kw_only=True, eq=False)
class TaggedPrompt:
    """Tags, the user's words, and words about quality; see `Conditioner`."""

    recipe: OneStepRecipe
    backbone: Backbone
    look: Look | None
    reference: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "_read", word_reader(self.backbone))

    def __call__(self, image_01: Tensor, placed: Placed, request: Request) -> Condition:
        """Look at the picture and read the words."""
        del placed
        found = () if self.look is None else self.look(image_01).tags
        prompt, notes = self._prompt(tuple(tag.name for tag in found), request.prompt)
        words, cut = self._read(prompt)  # type: ignore[attr-defined]  # set once, above
        return Condition(value=words, prompt=prompt, tags=found, notes=(*self._without(), *notes, *cut))

    def _prompt(self, tags: tuple[str, ...], user: str) -> tuple[str, tuple[str, ...]]:
        """Join the parts of the prompt."""
        if self.reference:
            words = user or self.recipe.quality
            return (original_prompt(tags, words, "") if tags else words), ()
        count = partial(count_tokens, tokenizer=self.backbone.tokenizer)
        built = build_prompt(tags, user, self.recipe.quality, count_tokens=count)
        return built.text, built.notes

    def _without(self) -> tuple[str, ...]:
        if self.look is not None or self.recipe.words is not Words.tags:
            return ()
        told = f"only its words {self.recipe.quality!r}" if self.recipe.quality else "the empty prompt"
        return (
            f"{self.recipe.title} was trained with tags of the picture and there is no tagger: it is told {told}, "
            "besides yours; get one with --download",
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Looking:
    """A tagger that was found."""

    look: Look
    label: str
    """Names its files and tells them apart."""
    leave: Callable[[], None]
    """Send it home."""
    licence: str
    notes: tuple[str, ...] = ()


def find_look(
    options: OneStepOptions, device: torch.device, dtype: torch.dtype, fetch: Fetch | None
) -> Looking | None:
    """Return the tagger that the options ask for; None: off, or looked for and not there.

    Raises:
        WeightsNotFoundError: the file that is named is not there.
        WeightsError: it cannot be used.
    """
    from ...tags.find import find_tagger

    if options.tagger == OFF:
        return None
    given: Path | None = None if options.tagger == AUTO else Path(options.tagger)
    try:
        found = find_tagger(
            given,
            options.tagger_lora,
            device=device,
            dtype=str(dtype).removeprefix("torch."),
            offline=options.offline,
            fetch=fetch,
        )
    except WeightsNotFoundError:
        if given is not None or options.tagger_lora is not None:
            raise
        return None
    tagger = found.tagger
    return Looking(
        look=partial(tagger.look, reference=options.reference_mode),
        label=tagger.label,
        leave=tagger.leave,
        licence=tagger.licence,
        notes=found.notes,
    )
