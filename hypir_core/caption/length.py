"""Say when a caption is longer than what Stable Diffusion's text tower reads."""

from __future__ import annotations

from typing import Any

from ..errors import MissingDependencyError
from ..models.sd.prompt import BPE_RANKS, LENGTH, find_tokenizer, tokenize, truncation_note

_ROOM = LENGTH - 2
_VOCABULARY = BPE_RANKS + 256 + 2
_SURE_WORDS = 55
"""English takes about 1.3 tokens per word; from here on a caption likely does not fit."""


class LengthCheck:
    """Counts CLIP tokens; the vocabulary is looked for when the first caption comes that may be too long."""

    def __init__(self) -> None:
        self._searched = False
        self._tokenizer: Any | None = None

    def note(self, caption: str) -> tuple[str, ...]:
        """Return one sentence if `caption` is too long for one prompt, else nothing.

        Exact where CLIP's vocabulary is on this machine, otherwise judged by the number of words.
        """
        if len(caption.lower().encode()) <= _ROOM:  # a token is at least one byte
            return ()
        if not self._searched:
            self._tokenizer, self._searched = _tokenizer(), True
        if self._tokenizer is not None:
            return truncation_note(tokenize(caption, self._tokenizer, vocabulary=_VOCABULARY))
        words = len(caption.split())
        if words <= _SURE_WORDS:
            return ()
        return (f"the caption has {words} words, likely more than the {_ROOM} tokens that are read",)


def _tokenizer() -> Any | None:
    try:
        return find_tokenizer(None, beside=None)
    except MissingDependencyError:  # the words are counted instead
        return None
