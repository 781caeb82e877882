"""``hypir caption``: say what pictures show, as prompts for the engines that listen."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import Cancelled, HypirError, ImageFileError
from . import console


def caption_command(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders (recursive) or globs.")
    ],
    captioner: Annotated[str, typer.Option(help="empty, fixed, file, openai or vlm.")] = "vlm",
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="A setting of this captioner.")
    ] = None,
    write_sidecar: Annotated[
        bool, typer.Option("--write-sidecar", help="Also write photo.txt beside photo.jpg.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing text files.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what each picture shows, one line per picture."""
    from ..batch.finding import find_pictures
    from ..caption.catalog import load_captioner
    from ..caption.file import sidecar
    from ..caption.length import LengthCheck
    from ..files.picture import to_planes
    from ..files.reading import read_picture

    say = load_captioner(captioner, _settings(captioner, option or []))
    length = LengthCheck()
    rows: list[dict[str, Any]] = []
    paths = [found.path for found in find_pictures(inputs).pictures]
    for path in paths:
        row: dict[str, Any] = {"path": str(path)}
        rows.append(row)
        try:
            target = sidecar(path) if write_sidecar else None
            if target is not None:
                _refuse_overwriting(target, force=force)
            color_01, _alpha = to_planes(read_picture(path))
            row["caption"] = say(color_01, source=path)
            row["notes"] = list(length.note(row["caption"]))
            if target is not None:
                _write_text(target, row["caption"])
                row["sidecar"] = str(target)
        except HypirError as err:
            row["error"] = str(err)
            console.say(str(err).removeprefix(f"{path}: "), of=path)
            continue
        except KeyboardInterrupt as err:
            raise Cancelled(
                f"stopped after {len(rows) - 1} of {len(paths)} pictures; the same command goes on from there"
            ) from err
        for note in row["notes"]:
            console.say(note, of=path)
        if not as_json:
            console.tell(f"{path}: {row['caption']}")
    if as_json:
        console.out.print_json(json.dumps({"captioner": captioner, "captions": rows}, ensure_ascii=False))
    if any("error" in row for row in rows):
        raise typer.Exit(1)


def _settings(captioner: str, items: Sequence[str]) -> dict[str, Any]:
    """Read KEY=VALUE items: a setting that is a text takes the value as typed, others read it as YAML."""
    from ..caption.catalog import CAPTIONERS
    from ..config import parse_assignments

    fields = dataclasses.fields(CAPTIONERS.get(captioner).options)
    texts = {field.name for field in fields if field.type in {"str", "str | None"}}
    typed = {key: text for key, sep, text in (item.partition("=") for item in items) if sep and key in texts}
    return parse_assignments([item for item in items if item.partition("=")[0] not in typed]) | typed


def _refuse_overwriting(target: Path, *, force: bool) -> None:
    if target.exists() and not force:
        raise ImageFileError(f"{target} exists; add --force to overwrite it, or leave --write-sidecar out")


def _write_text(target: Path, caption: str) -> None:
    from ..atomic import atomic_file

    with atomic_file(target) as file:
        file.write(f"{caption}\n".encode())
