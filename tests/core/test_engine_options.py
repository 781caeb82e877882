"""An option is one field of a dataclass: flags, tables and pages come from it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import pytest
import typer
from typer.testing import CliRunner

from hypir_core.cli import main
from hypir_core.cli.engine_options import (
    engine_options,
    markdown_table,
    options_for,
    options_of,
    with_engine_options,
)
from hypir_core.config import strict
from hypir_core.engines.catalog import ENGINES, EngineEntry
from hypir_core.errors import ConfigError
from hypir_core.field_docs import field_docs, first_sentence
from hypir_core.registry import Registry

ROOT = Path(__file__).parents[2]


class Shade(str, Enum):
    dark = "dark"
    light = "light"


@dataclass(frozen=True, kw_only=True)
class ToyOptions:
    __pydantic_config__ = strict

    FLAGS: ClassVar[dict[str, str]] = {"file": "--toy-file"}

    file: Path
    """Where the toy lies. It must be there."""
    shade: Shade = Shade.dark
    """How dark: dark or light."""
    sure: bool = True
    """Whether it is sure."""
    loud: bool = False
    """Say more."""
    amount: float | None = None
    """How much of it,
    from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class MoreToyOptions(ToyOptions):
    """Adds one field, and nothing else anywhere."""

    sparkle: int = 3
    """How many sparks fly. More is slower."""


def toys(cls: type) -> Registry[EngineEntry]:
    engines: Registry[EngineEntry] = Registry("engine")
    engines.add("toy", EngineEntry(options=cls, load=lambda: None, skeleton=lambda: None), summary="a toy")  # type: ignore[arg-type,return-value]
    return engines


def app(engines: Registry[EngineEntry], seen: list[dict[str, Any]]) -> typer.Typer:
    def run(engine: str = "toy", option: list[str] | None = None, *, engine_flags: dict[str, Any]) -> None:
        """Play."""
        seen.append(options_for(engine, engine_flags, option, engines))

    made = typer.Typer()
    made.command()(with_engine_options(run, engines))
    return made


def test_a_field_is_a_flag_a_row_and_a_sentence():
    without, with_it = toys(ToyOptions), toys(MoreToyOptions)
    helped = CliRunner(env={"COLUMNS": "120"}).invoke(app(with_it, []), ["--help"]).output
    assert "--sparkle" in helped
    assert "How many sparks fly" in helped
    assert "Settings of --engine toy" in helped
    assert "--sparkle" not in CliRunner().invoke(app(without, []), ["--help"]).output
    assert "| `toy` | `sparkle` | `--sparkle` | 3 | How many sparks fly. More is slower. |" in markdown_table(
        with_it
    )
    (option,) = (o for o in options_of("toy", MoreToyOptions) if o.name == "sparkle")
    assert (option.kind, option.default) == (int, 3)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["--toy-file", "a.bin", "--shade", "light"], {"file": "a.bin", "shade": "light"}),
        (["--no-sure", "--loud"], {"sure": False, "loud": True}),
        (["--amount", "0.5", "--sparkle", "7"], {"amount": 0.5, "sparkle": 7}),
        (["--option", "sparkle=9", "--amount", "1"], {"sparkle": 9, "amount": 1.0}),
    ],
)
def test_flags_become_options(words, expected):
    seen: list[dict[str, Any]] = []
    done = CliRunner().invoke(app(toys(MoreToyOptions), seen), words)
    assert done.exit_code == 0, done.output
    assert seen == [expected]


def test_a_flag_of_another_engine_is_refused_by_name(capsys):
    with pytest.raises(ConfigError, match=r"--coeff-t is a setting of one-step, not of built-in"):
        options_for("built-in", {"coeff_t": 100}, None)
    assert main(["restore", "a.png", "-o", "b.png", "--coeff-t", "100"]) == 2
    assert "choose --engine one-step" in capsys.readouterr().err


def test_every_option_of_every_engine_says_what_it_does():
    for entry in ENGINES:
        docs = field_docs(entry.load().options)
        assert all(docs.values()), entry.name
        assert set(docs) == {f.name for f in dataclasses.fields(entry.load().options)}
    flags = [option.flag for option in engine_options()]
    assert len(set(flags)) == len(flags)
    assert {"--base", "--lora", "--lora-strength", "--reference-mode", "--fast-decoder"} <= set(flags)


def test_docs_are_read_from_the_source():
    assert field_docs(MoreToyOptions) == {
        "file": "Where the toy lies. It must be there.",
        "shade": "How dark: dark or light.",
        "sure": "Whether it is sure.",
        "loud": "Say more.",
        "amount": "How much of it, from 0 to 1.",
        "sparkle": "How many sparks fly. More is slower.",
    }
    assert first_sentence("One. Two.") == "One"
    assert first_sentence("One only.") == "One only"


def test_the_page_is_what_the_command_prints():
    page = (ROOT / "docs" / "reference" / "engines.md").read_text(encoding="utf-8")
    assert page.endswith(markdown_table()), "run: hypir engines --markdown"


def test_engines_prints_every_option(capsys):
    assert main(["engines"]) == 0
    said = capsys.readouterr().out
    for option in engine_options():
        assert option.flag in said
