"""What may be set of an engine, read off its dataclass: flags, pages and tables come from this."""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import Enum
from pathlib import Path
from typing import Any

from ..config import to_plain
from ..field_docs import field_docs


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineOption:
    """One option of one or more engines."""

    name: str
    flag: str
    """``--lora-strength``."""
    kind: Any
    """bool, int, float, str, `Path`, an Enum, or ``list[str]`` where a flag may be given several times."""
    default: Any
    """`dataclasses.MISSING` where it must be given."""
    doc: str
    engines: tuple[str, ...]

    @property
    def must_be_given(self) -> bool:
        """Whether the engine cannot be used without it."""
        return self.default is dataclasses.MISSING

    @property
    def plain_default(self) -> Any:
        """Return the default as JSON holds it; None also where it must be given."""
        return None if self.must_be_given else to_plain(self.default)

    @property
    def default_text(self) -> str:
        """Return the default as tables show it."""
        if self.must_be_given:
            return "must be given"
        return "–" if self.default is None else str(to_plain(self.default))


def options_of(engine: str, cls: type) -> tuple[EngineOption, ...]:
    """Return the options of one engine, from its dataclass."""
    hints, docs, flags = typing.get_type_hints(cls), field_docs(cls), getattr(cls, "FLAGS", {})
    return tuple(
        EngineOption(
            name=field.name,
            flag=flags.get(field.name, f"--{field.name.replace('_', '-')}"),
            kind=_plain_kind(hints[field.name]),
            default=field.default,
            doc=docs[field.name],
            engines=(engine,),
        )
        for field in dataclasses.fields(cls)
    )


def _plain_kind(hint: Any) -> Any:
    """Return the type of an option without its None."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is tuple:
        return list[str]
    known = isinstance(hint, type) and (hint in {bool, int, float, str, Path} or issubclass(hint, Enum))
    return hint if known else str
