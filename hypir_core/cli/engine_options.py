"""The engines' own options as flags: made from their dataclasses, so that an option is one field and nothing else."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args

import typer

from ..config import parse_assignments, to_plain
from ..engines.catalog import ENGINES
from ..engines.settings import EngineOption, options_of
from ..errors import ConfigError
from ..field_docs import first_sentence
from ..registry import Registry

PREFIX = "engine_option_"
"""Of the parameters that a command gets for them."""

PANEL = "Settings of --engine {}"


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


def with_engine_options(
    command: Callable[..., None], engines: Registry[Any] = ENGINES
) -> Callable[..., None]:
    """Return a command that takes the engines' options as flags beside its own.

    The command has a parameter ``engine_flags``: it gets option → value of every flag that was given.
    """
    own = inspect.signature(command, eval_str=True)
    options = engine_options(engines)
    taken = _flags_of(own)
    if twice := [option.flag for option in options if option.flag in taken]:
        raise AssertionError(
            f"{command.__name__} and an engine both have {', '.join(twice)}; name it in FLAGS"
        )

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


def _flags_of(command: inspect.Signature) -> set[str]:
    """Return the flags of a command's own parameters."""
    found: set[str] = set()
    for parameter in command.parameters.values():
        for about in get_args(parameter.annotation)[1:]:
            # typer takes the first of them for a default until it knows that there is one
            for flag in (getattr(about, "default", None), *(getattr(about, "param_decls", None) or ())):
                found.update(flag.split("/") if isinstance(flag, str) else ())
        found.add(f"--{parameter.name.replace('_', '-')}")
    return found


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
