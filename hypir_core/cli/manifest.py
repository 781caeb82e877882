"""``hypir manifest``: what runs into a folder did, one manifest made of many, and another try for what failed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import console

manifest_app = typer.Typer(
    help="What runs into an output folder did.", no_args_is_help=True, pretty_exceptions_enable=False
)

Folder = Annotated[str, typer.Argument(metavar="OUT", help="Output folder of `hypir restore`.")]

SHOWN = 20
"""So many failures are shown."""


@manifest_app.command("status")
def status_command(
    out: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, every failure in it.")] = False,
) -> None:
    """Count what is done and what failed; ends with 1 if something failed."""
    from ..batch.manifests import status_of

    status = status_of(Path(out))
    if as_json:
        console.tell_json(
            {
                "manifests": status.manifests,
                "done": status.done,
                "failed": list(status.failed),
                "set_aside": list(status.set_aside),
                "seconds": round(status.seconds, 3),
            }
        )
    else:
        console.tell(f"done      {status.done}, in {status.seconds:.1f} s of work")
        console.tell(f"failed    {len(status.failed)}")
        console.tell(f"set aside {len(status.set_aside)}")
        console.tell(f"manifests {status.manifests}")
        failures = (*status.failed, *status.set_aside)
        for line in failures[:SHOWN]:
            console.tell(f"{line.get('input', line['output'])}: {line.get('error')}")
        if len(failures) > SHOWN:
            console.tell(f"and {len(failures) - SHOWN} more; --json shows all")
    if status.failed or status.set_aside:
        raise typer.Exit(1)


@manifest_app.command("merge")
def merge_command(out: Folder) -> None:
    """Make one manifest of all shards'; no run may be writing into the folder."""
    from ..batch.manifests import merge

    count = merge(Path(out))
    console.tell(f"{count} manifest{'s' * (count != 1)} became one")


@manifest_app.command("retry-failed")
def retry_failed_command(out: Folder) -> None:
    """Forget what failed, what was set aside too, and name it: the same restore command tries it again."""
    from ..batch.manifests import retry_failed

    inputs = retry_failed(Path(out))
    for name in inputs:
        console.tell(name)
    count = len(inputs)
    console.say(f"{count} picture{'s' * (count != 1)} to be tried again by the same `hypir restore` command")
