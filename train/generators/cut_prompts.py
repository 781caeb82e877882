"""Prompts that the text encoder takes only in part: counted, and told once."""

from __future__ import annotations

from dataclasses import dataclass

from hypir_core.models.sd.prompt import PromptTokens, truncation_note

EXAMPLE_LETTERS = 80


@dataclass
class CutPrompts:
    """How many of the prompts seen so far were cut; the empty prompt does not count."""

    seen: int = 0
    cut: int = 0
    example: str = ""
    """The first one, shortened, with what was dropped."""
    told: bool = False

    def count(self, prompt: str, tokens: PromptTokens) -> None:
        """Count one picture's prompt."""
        self.seen += bool(prompt.strip())
        for note in truncation_note(tokens):
            self.cut += 1
            self.example = self.example or f"'{_begin(prompt)}': {note}"

    def notes(self) -> tuple[str, ...]:
        """Return one sentence the first time that a prompt was cut, else nothing."""
        if self.told or not self.cut:
            return ()
        self.told = True
        return (f"{self.cut} of {self.seen} prompts seen so far were cut, for instance {self.example}",)


def _begin(prompt: str) -> str:
    words = " ".join(prompt.split())
    return words if len(words) <= EXAMPLE_LETTERS else f"{words[:EXAMPLE_LETTERS]} …"
