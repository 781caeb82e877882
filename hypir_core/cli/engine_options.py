"""The engines' own options as flags: made from their dataclasses, so that an option is one field and nothing else."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config import parse_assignments, to_plain
from ..engines.catalog import ENGINES
from ..errors import ConfigError
from ..field_docs import field_docs, first_sentence
from ..registry import Registry

PREFIX = "engine_option_"
"""Of the parameters that a command gets for them."""

PANEL = "Settings of --engine {}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineOption:
    """One option of one or more engines."""

    name: str
    flag: str
    """``--lora-strength``."""
    kind: Any
    """bool, int, float, str, `Path` or an Enum."""
    default: Any
    """`dataclasses.MISSING` where it must be given."""
    doc: str
    engines: tuple[str, ...]

    @property
    def plain_default(self) -> Any:
        """Return the default as JSON holds it; None also where it must be given."""
        return None if self.default is dataclasses.MISSING else to_plain(self.default)

    @property
    def default_text(self) -> str:
        """Return the default as tables show it."""
        if self.default is dataclasses.MISSING:
            return "must be given"
        return "–" if self.default is None else str(to_plain(self.default))


def engine_options(engines: Registry[Any] = ENGINES) -> tuple[EngineOption, ...]:
    """Return the options of all engines in the catalog's order; one that several share stands once."""
    found: dict[str, EngineOption] = {}
    for entry in engines:
        for option in options_of(entry.name, entry.load().options):
            known = found.get(option.name)
            if known is not None:
                if (known.flag, known.kind) != (option.flag, option.kind):
                    raise AssertionError(f"two engines mean different things by {option.name!r}")
                option = dataclasses.replace(known, engines=(*known.engines, entry.name))  # noqa: PLW2901
            found[option.name] = option
    return tuple(found.values())


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


def with_engine_options(
    command: Callable[..., None], engines: Registry[Any] = ENGINES
) -> Callable[..., None]:
    """Return a command that takes the engines' options as flags beside its own.

    The command has a parameter ``engine_flags``: it gets option → value of every flag that was given.
    """
    own = inspect.signature(command, eval_str=True)
    options = engine_options(engines)

    def run(**given: Any) -> None:
        flags = {
            option.name: to_plain(value)
            for option in options
            if (value := given.pop(PREFIX + option.name)) is not None
        }
        command(**given, engine_flags=flags)

    parameters = [p for p in own.parameters.values() if p.name != "engine_flags"]
    signature = own.replace(parameters=[*parameters, *map(_parameter, options)])
    run.__signature__ = signature  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    run.__doc__, run.__name__ = command.__doc__, command.__name__
    return run


def options_for(
    engine: str, flags: Mapping[str, Any], assignments: list[str] | None, engines: Registry[Any] = ENGINES
) -> dict[str, Any]:
    """Return the options of the chosen engine, from flags and from ``--option KEY=VALUE``.

    Raises:
        UnknownNameError: no such engine.
        ConfigError: a flag belongs to another engine.
    """
    engines.entry(engine)
    by_name = {option.name: option for option in engine_options(engines)}
    wrong = [
        f"{by_name[name].flag} is a setting of {' and '.join(by_name[name].engines)}, not of {engine}; "
        f"leave it out, or choose --engine {by_name[name].engines[0]}"
        for name in flags
        if engine not in by_name[name].engines
    ]
    if wrong:
        raise ConfigError(wrong)
    return parse_assignments(assignments or []) | dict(flags)


def markdown_table(engines: Registry[Any] = ENGINES) -> str:
    """Return the table of the documentation: every option of every engine."""
    lines = ["| engine | option | flag | default | what it does |", "|---|---|---|---|---|"]
    for entry in engines:
        options = options_of(entry.name, entry.load().options)
        if not options:
            lines.append(f"| `{entry.name}` | – | – | – | {entry.summary} |")
        for option in options:
            doc = option.doc.replace("|", "\\|").replace("``", "`")
            lines.append(
                f"| `{entry.name}` | `{option.name}` | `{option.flag}` | {option.default_text} | {doc} |"
            )
    return "\n".join(lines) + "\n"


def _parameter(option: EngineOption) -> inspect.Parameter:
    panel = PANEL.format(" or ".join(option.engines))
    info: dict[str, Any] = {"help": first_sentence(option.doc.replace("``", "")), "rich_help_panel": panel}
    if option.kind is bool:
        # A default of False needs no way to say no; typer would offer one.
        flag = (
            option.flag if option.default is False else f"{option.flag}/--no-{option.flag.removeprefix('--')}"
        )
    else:
        flag = option.flag
    annotation = Annotated[option.kind | None, typer.Option(flag, **info)]
    return inspect.Parameter(
        PREFIX + option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _plain_kind(hint: Any) -> Any:
    """Return the type of an option without its None."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    known = isinstance(hint, type) and (hint in {bool, int, float, str, Path} or issubclass(hint, Enum))
    return hint if known else str
