"""``hypir caption``: say what pictures show, as prompts for the engines that listen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import Cancelled, ImageFileError
from . import console


def caption_command(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders (recursive) or globs.")
    ],
    captioner: Annotated[str, typer.Option(help="empty, fixed, file, openai, tags or vlm.")] = "vlm",
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
    from ..batch.failing import why_it_failed
    from ..batch.finding import find_pictures
    from ..caption.catalog import load_captioner
    from ..caption.file import sidecar
    from ..caption.length import LengthCheck
    from ..files.picture import to_planes
    from ..files.reading import read_picture

    say = load_captioner(captioner, captioner_settings(captioner, option or []))
    length = LengthCheck()
    rows: list[dict[str, Any]] = []
    finding = find_pictures(inputs)
    paths = [found.path for found in finding.pictures]
    written: dict[Path, Path] = {}
    for path in paths:
        row: dict[str, Any] = {"path": str(path)}
        rows.append(row)
        try:
            target = sidecar(path) if write_sidecar else None
            if target is not None:
                _refuse_overwriting(target, force=force, written=written)
            color_01, _alpha = to_planes(read_picture(path))
            row["caption"] = say(color_01, source=path)
            row["notes"] = list(length.note(row["caption"]))
            if target is not None:
                _write_text(target, row["caption"])
                written[target] = path
                row["sidecar"] = str(target)
        except Cancelled:
            raise
        except Exception as err:  # whatever it is, it is this picture's
            row["error"] = why_it_failed(err, path, path)
            console.say(row["error"], of=path)
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
        console.tell_json({"captioner": captioner, "captions": rows})
    console.say_what_was_left_out(finding)
    if any("error" in row for row in rows) or finding.problems:
        raise typer.Exit(1)


def captioner_settings(captioner: str, items: Sequence[str]) -> dict[str, Any]:
    """Read KEY=VALUE items: a setting that is a text takes the value as typed, others read it as YAML."""
    from ..caption.catalog import CAPTIONERS
    from ..config import parse_assignments

    fields = dataclasses.fields(CAPTIONERS.get(captioner).options)
    texts = {field.name for field in fields if field.type in {"str", "str | None"}}
    typed = {key: text for key, sep, text in (item.partition("=") for item in items) if sep and key in texts}
    return parse_assignments([item for item in items if item.partition("=")[0] not in typed]) | typed


def _refuse_overwriting(target: Path, *, force: bool, written: Mapping[Path, Path]) -> None:
    if target in written:
        raise ImageFileError(
            f"{target} holds the caption of {written[target]} since a moment ago; give one of the two another name"
        )
    if target.exists() and not force:
        raise ImageFileError(f"{target} exists; add --force to overwrite it, or leave --write-sidecar out")


def _write_text(target: Path, caption: str) -> None:
    from ..atomic import atomic_file

    with atomic_file(target) as file:
        file.write(f"{caption}\n".encode())
