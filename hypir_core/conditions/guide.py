"""What ``--guide KIND[=FILE][:STRENGTH]`` means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, UnknownNameError
from .catalog import CONDITIONS

MOST_STRENGTH = 2.0


@dataclass(frozen=True, kw_only=True)
class Guide:
    """One more ControlNet, and the picture that it reads."""

    kind: str
    """Which condition picture, a name in `CONDITIONS`."""
    source: Path | None = None
    """A ready condition picture; None makes it of the degraded picture."""
    strength: float = 1.0
    """0 to 2: how much its residuals count; 0 leaves it out."""
    weights: Path | None = None
    """The ControlNet's file or folder; None looks for the usual one of its kind."""


def parse_guide(text: str) -> Guide:
    r"""Read ``edge``, ``depth:0.5``, ``given=lines.png``, ``given=lines.png:0.8``.

    What follows the last colon is a strength where it is a number, and otherwise a part of the file's name
    (``given=C:\lines.png``).

    Raises:
        ConfigError: the strength is not from 0 to 2, or `given` has no file.
        UnknownNameError: there is no such kind.
    """
    form = "expected KIND[=FILE][:STRENGTH], for instance depth:0.5"
    kind, equals, rest = text.partition("=")
    if not equals:
        kind, colon, number = text.partition(":")
        source, strength = "", _number(number) if colon else 1.0
        if strength is None:
            raise ConfigError(f"guide {text!r}: {number!r} is no number; {form}")
    else:
        before, colon, number = rest.rpartition(":")
        strength = _number(number) if colon else None
        source, strength = (rest, 1.0) if strength is None else (before, strength)
        if not source:
            raise ConfigError(f"guide {text!r}: no file is named after the equals sign; {form}")
    if kind not in CONDITIONS:
        raise UnknownNameError("guide", kind, CONDITIONS.names())
    if not 0 <= strength <= MOST_STRENGTH:  # also true for NaN
        raise ConfigError(f"guide {text!r}: the strength must be from 0 to {MOST_STRENGTH:g}")
    if CONDITIONS.get(kind).needs_source and not source:
        raise ConfigError(f"guide {text!r}: needs a picture, {kind}=FILE")
    return Guide(kind=kind, source=Path(source) if source else None, strength=strength)


def parse_guides(guides: Sequence[str], weights: Sequence[str] = ()) -> tuple[Guide, ...]:
    """Read several guides, and ``KIND=FILE`` for the ControlNets of some of them.

    Raises:
        ConfigError, UnknownNameError: as `parse_guide`; a kind is there twice; weights are of no guide, or named twice.
    """
    parsed = [parse_guide(text) for text in guides]
    kinds = [guide.kind for guide in parsed]
    problems = [
        f"guide {kind!r} is given twice; give it once"
        for kind in dict.fromkeys(kinds)
        if kinds.count(kind) > 1
    ]
    files: dict[str, Path] = {}
    for text in weights:
        kind, _, file = text.partition("=")
        if not file:
            problems.append(
                f"guide weights {text!r}: expected KIND=FILE, for instance edge=controlnet.safetensors"
            )
        elif kind not in kinds:
            problems.append(
                f"guide weights {text!r}: there is no guide {kind!r}; guides: {', '.join(kinds) or 'none'}"
            )
        elif kind in files:
            problems.append(f"guide weights of {kind!r} are given twice; give them once")
        else:
            files[kind] = Path(file)
    if problems:
        raise ConfigError(problems)
    return tuple(
        Guide(kind=g.kind, source=g.source, strength=g.strength, weights=files.get(g.kind)) for g in parsed
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
