"""Prompts that the text encoder takes only in part: counted, and told once."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypir_core.models.sd.prompt import PromptTokens, truncation_note

EXAMPLE_LETTERS = 80


@dataclass
class CutPrompts:
    """Which of the different prompts seen so far were cut; the empty prompt does not count."""

    seen: set[int] = field(default_factory=set)
    """Hashes of the different ones, until it is told."""
    cut: int = 0
    """How many of those were cut."""
    example: str = ""
    """The first one, shortened, with what was dropped."""
    told: bool = False

    def count(self, prompt: str, tokens: PromptTokens) -> None:
        """Count a prompt that a picture to train on came with, the first time that it comes."""
        if self.told or not prompt.strip() or hash(prompt) in self.seen:
            return
        self.seen.add(hash(prompt))
        for note in truncation_note(tokens):
            self.cut += 1
            self.example = self.example or f"'{_begin(prompt)}': {note}"

    def notes(self) -> tuple[str, ...]:
        """Return one sentence the first time that a prompt was cut, else nothing."""
        if self.told or not self.cut:
            return ()
        sentence = f"{self.cut} of {len(self.seen)} different prompts seen so far were cut, for instance {self.example}"
        self.told, self.seen = True, set()
        return (sentence,)


def _begin(prompt: str) -> str:
    words = " ".join(prompt.split())
    return words if len(words) <= EXAMPLE_LETTERS else f"{words[:EXAMPLE_LETTERS]} …"
