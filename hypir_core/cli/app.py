"""The command tree."""

from __future__ import annotations

from typing import Annotated

import typer

from ..version import VERSION
from . import (
    bench,
    caption,
    convert,
    degrade,
    demo,
    doctor,
    engines,
    evaluate,
    profiles,
    psf,
    restore,
    schema,
    tune,
    web,
)
from .engine_options import with_engine_options
from .manifest import manifest_app

app = typer.Typer(
    help="Restore old, small, blurred or over-compressed pictures.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("restore")(with_engine_options(restore.restore_command))
app.command("degrade")(degrade.degrade_command)
app.command("eval")(evaluate.eval_command)
app.command("caption")(caption.caption_command)
app.command("convert")(convert.convert_command)
app.command("psf")(psf.psf_command)
app.command("tune")(with_engine_options(tune.tune_command))
app.command("demo")(demo.demo_command)
app.command("bench")(with_engine_options(bench.bench_command))
app.command("doctor")(with_engine_options(doctor.doctor_command))
app.command("engines")(engines.engines_command)
app.command("profiles")(profiles.profiles_command)
app.command("schema")(schema.schema_command)
app.command("web")(with_engine_options(web.web_command))
app.add_typer(manifest_app, name="manifest")

stopped = typer.Abort
"""What typer makes of Ctrl-C, and of an answer that never came."""


def wrong_usage() -> type[Exception]:
    """Return the class of typer's own complaints about the command line, whose `format_message` is one line."""
    try:
        from typer._click.exceptions import ClickException
    except ImportError:  # typer < 0.25 builds on the click package
        from click.exceptions import ClickException
    return ClickException


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"onestep-restore {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """Restore old, small, blurred or over-compressed pictures."""
