"""A prompt made of what a picture shows, of what a person says, and of words about quality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

WORDS = "clean, high-resolution, 8k"
"""What SeeSR adds on its command line, without guidance."""

MORE_WORDS = f"{WORDS}, best quality, masterpiece"
"""What its demo adds, for guidance."""

NEGATIVE = "dotted, noise, blur, lowres, smooth"
"""What its command line steers away from."""

MORE_NEGATIVE = (
    "dotted, noise, blur, lowres, oversmooth, longbody, bad anatomy, bad hands, missing fingers, extra digit, "
    "fewer digits, cropped, worst quality, low quality"
)
"""What its demo steers away from."""

ROOM = 75
"""Tokens that a CLIP text tower reads, without the marks at the start and the end."""


@dataclass(frozen=True, kw_only=True)
class BuiltPrompt:
    """A prompt, and what it could not hold."""

    text: str
    tags: tuple[str, ...]
    """The tags in it."""
    notes: tuple[str, ...] = ()
    """What was left out, for the user."""


def build_prompt(
    tags: Sequence[str],
    user: str,
    words: str,
    *,
    count_tokens: Callable[[str], int],
    user_first: bool = False,
    max_tags: int | None = None,
    room: int = ROOM,
) -> BuiltPrompt:
    """Join tags, a person's text and words about quality so that the last ones are always read.

    The order is tags, text, words; what does not fit into `room` goes in this order: tags from the last on, then the
    text from its end on. A tag that the text or an earlier tag already says is left out.

    Args:
        tags: the surest first.
        user: any text; may be empty.
        words: about quality; may be empty.
        count_tokens: tokens of a text, without marks.
        user_first: the text before the tags, as SeeSR's demo has it.
        max_tags: at most so many; None: all.
        room: tokens that are read.
    """
    user, words = (text.strip().strip(",").strip() for text in (user, words))
    kept = _new_tags(tags, user)[:max_tags]
    before = len(kept)

    def text(tags: Sequence[str], user: str) -> str:
        parts = (user, *tags, words) if user_first else (*tags, user, words)
        return ", ".join(part for part in parts if part)

    while kept and count_tokens(text(kept, user)) > room:
        kept.pop()
    notes = []
    if len(kept) < before:
        notes.append(f"the prompt holds {room} tokens: {before - len(kept)} of {before} tags did not fit")
    short = user
    while short and count_tokens(text(kept, short)) > room:
        short = short.rpartition(" ")[0].rstrip(" ,")
    if short != user:
        notes.append(f"the prompt holds {room} tokens: it was read as {short!r}")
    return BuiltPrompt(text=text(kept, short), tags=tuple(kept), notes=tuple(notes))


def original_prompt(tags: Sequence[str], user: str, words: str) -> str:
    """Join as SeeSR's command line does, commas of empty parts included; the text tower cuts what is too long."""
    return f"{', '.join(tags)}, {user},{words}"


def _new_tags(tags: Sequence[str], user: str) -> list[str]:
    """Return the tags that nothing before says, in any case of their letters."""
    said = {part.strip().casefold() for part in user.split(",")}
    kept = []
    for tag in (tag.strip() for tag in tags):
        if tag and tag.casefold() not in said:
            said.add(tag.casefold())
            kept.append(tag)
    return kept
