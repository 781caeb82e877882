"""What SeeSR's networks are told about a picture: words from its tags, its tokens, and control pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from ....request import Request, Tag
from ....tiling.geometry import Plane
from ..networks import Words
from ..parts import Condition
from ..sizing import Placed, mirror_to
from .networks import Told

CONTROL = "control"
"""The guide that SeeSR's own ControlNet reads: the degraded picture on the canvas."""


class SeenPicture(Protocol):
    """What a tagger says about a picture."""

    @property
    def tags(self) -> tuple[Tag, ...]:
        """The surest first."""
        ...

    @property
    def tokens(self) -> Tensor:
        """[1 n width]."""
        ...


BuildPrompt = Callable[[tuple[str, ...], str, str], tuple[str, tuple[str, ...]]]
"""(tags, the user's words, words about quality) → one prompt, and what there is to say about it."""

MakeGuide = Callable[[Tensor, tuple[int, ...]], tuple[Tensor, tuple[str, ...]]]
"""(input [1 3 h w] in [0,1], size of its part of the canvas) → what a ControlNet reads there, [1 3 *size] in [0,1],
and what there is to say about it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SeesrConditioner:
    """See `Conditioner`."""

    read: Callable[[str], Words]
    """Prompt → [1 77 width]."""
    build: BuildPrompt
    words: str
    """About quality, last in the prompt."""
    negative: str | None = None
    """None where there is no guidance."""
    look: Callable[[Tensor], SeenPicture] | None = None
    """The tagger, on the input [1 3 h w] in [0,1]; None sees nothing."""
    tags: tuple[str, ...] | None = None
    """Given by the user, instead of the tagger's."""
    control: bool = True
    """Whether the ControlNet reads the picture."""
    guides: Mapping[str, MakeGuide] = field(default_factory=dict)
    """More control pictures."""

    def __call__(self, image_01: Tensor, placed: Placed, request: Request) -> Condition:
        """Look at the picture, build the prompt, make the control pictures."""
        seen = None if self.look is None else self.look(image_01)
        found = () if seen is None else seen.tags
        names = tuple(tag.name for tag in found) if self.tags is None else self.tags
        prompt, notes = self.build(names, request.prompt, self.words)
        words, cut = self.read(prompt)
        canvas = placed.plane
        guides: dict[str, Plane] = {CONTROL: canvas} if self.control else {}
        for name, make in self.guides.items():
            picture, said = make(image_01, placed.content_px)
            guides[name] = Plane(mirror_to(picture, canvas.sizes_px), canvas.strides)
            notes += said
        return Condition(
            value=Told(
                words=words,
                negative=None if self.negative is None else self.read(self.negative)[0],
                tokens=None if seen is None else seen.tokens,
            ),
            guides=guides,
            prompt=prompt,
            tags=found,
            notes=(*notes, *cut),
        )
