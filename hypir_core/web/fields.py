"""What can be set at the page, made from the dataclasses: no option is listed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from ..config import parse_assignments
from ..engines.catalog import ENGINES
from ..engines.settings import EngineOption, options_of
from ..field_docs import field_docs, first_sentence
from .settings import PageSettings

if TYPE_CHECKING:
    from gradio.components import Component

OF_THE_MACHINE = {"download", "offline", "random_weights"}
"""Whoever starts the page decides about these, as about everything that names a file."""


def shown_options(engine: str, settings: PageSettings) -> tuple[EngineOption, ...]:
    """Return the options of an engine that the page shows: switches, numbers and choices that nobody fixed."""
    fixed = settings.options_for(engine)
    return tuple(
        option
        for option in options_of(engine, ENGINES.get(engine).options)
        if option.name not in fixed and option.name not in OF_THE_MACHINE and _can_be_shown(option)
    )


def component_of(option: EngineOption) -> Component:
    """Return what an option is set with; it starts at the option's default."""
    import gradio as gr

    label, info, start = option.name.replace("_", " "), plain(option.doc), start_of(option)
    if option.kind is bool:
        return gr.Checkbox(start, label=label, info=info)
    if start == "":
        return gr.Textbox(start, label=label, info=info, placeholder="a number, or nothing")
    if option.kind in {int, float}:
        return gr.Number(start, label=label, info=info, precision=0 if option.kind is int else None)
    return gr.Dropdown([member.value for member in option.kind], value=start, label=label, info=info)


def start_of(option: EngineOption) -> Any:
    """Return what an option is set to at first: a number that may be left out is an empty text."""
    return "" if option.kind in {int, float} and option.plain_default is None else option.plain_default


def changed_options(options: Sequence[EngineOption], values: Sequence[Any]) -> Mapping[str, Any]:
    """Return option → value of what is not at its default; a number that may be left out is given as text."""
    changed: dict[str, Any] = {}
    for option, value in zip(options, values, strict=True):
        if option.kind in {int, float} and isinstance(value, str):
            if value.strip():
                changed |= parse_assignments([f"{option.name}={value}"])
        elif value is not None and value != option.plain_default:
            changed[option.name] = value
    return changed


def info_of(cls: type, field: str) -> str:
    """Return what the docstring under a field says, up to its first full stop."""
    return plain(field_docs(cls)[field])


def plain(doc: str) -> str:
    """Return the first sentence of a docstring without its marks."""
    return first_sentence(doc.replace("``", "").replace("`", ""))


def _can_be_shown(option: EngineOption) -> bool:
    kind = option.kind
    return kind in {bool, int, float} or (isinstance(kind, type) and issubclass(kind, Enum))
