"""A folder of pictures, or two folders of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hypir_core.errors import ConfigError, ImageFileError

from .endings import ARRAY, endings_listed, is_picture, printable
from .files import PictureFiles, Row, check_files
from .pictures import Fit
from .source import COLOUR, Channels
from .usable import sibling

PROMPT_ENDING = ".txt"


def open_folder(
    root: Path,
    *,
    key: str,
    fit: Fit,
    lq_root: Path | None = None,
    check: bool = True,
    channels: Channels = COLOUR,
) -> PictureFiles:
    """List the pictures under `root`, sorted by name; `key` names the setting in messages.

    A text file of the same name (``cat.txt`` beside ``cat.jpg``) is a picture's prompt. With `lq_root` every
    picture needs a partner there, of the same relative name; its ending may differ. A npy file is a picture
    where no other picture has its name.

    Raises:
        ConfigError: there is no such folder, or no usable picture in it.
    """
    listing = _listing(root, key)
    texts = {path for path in listing if path.suffix.lower() == PROMPT_ENDING}
    lq_key = sibling(key, "lq_root")
    partners = _by_stem(lq_root, lq_key) if lq_root else None
    rows = []
    for path in _pictures(listing):
        name = path.relative_to(root)
        shown = printable(name.as_posix())
        try:
            text = path.with_suffix(PROMPT_ENDING)
            prompt = read_prompt(text) if text in texts else ""
            partner = _partner(name, partners, lq_key) if partners is not None else None
            rows.append(Row(shown, path, partner, prompt))
        except ImageFileError as err:
            rows.append(Row(shown, path, problem=str(err)))
    return check_files(
        rows,
        where=printable(str(root)),
        key=key,
        fit=fit,
        paired=lq_root is not None,
        check=check,
        kind=f"holds no usable picture ({endings_listed()})",
        channels=channels,
    )


def read_prompt(path: Path) -> str:
    """Read the prompt of a picture.

    Raises:
        ImageFileError: it is not UTF-8 text; says so without the picture's name.
    """
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as err:
        raise ImageFileError(f"its prompt {path.name} is not readable UTF-8 text ({err})") from err


def _listing(root: Path, key: str) -> list[Path]:
    if not root.is_dir():
        raise ConfigError(f"{key}: {root} is not a folder; set {key}=FOLDER to one with pictures")
    return [path for path in root.rglob("*") if path.is_file()]


def _pictures(listing: list[Path]) -> list[Path]:
    """Return the pictures, sorted; what is kept as npy beside a picture belongs to it and is none."""
    found = sorted(path for path in listing if is_picture(path))
    named = {path.with_suffix("") for path in found if path.suffix.lower() != ARRAY}
    return [path for path in found if path.suffix.lower() != ARRAY or path.with_suffix("") not in named]


def _by_stem(lq_root: Path, key: str) -> dict[str, list[Path]]:
    """Group the pictures of the other folder by relative name without ending."""
    groups: dict[str, list[Path]] = {}
    for path in _pictures(_listing(lq_root, key)):
        groups.setdefault(path.relative_to(lq_root).with_suffix("").as_posix(), []).append(path)
    return groups


def _partner(name: Path, groups: Mapping[str, list[Path]], key: str) -> Path:
    candidates = groups.get(name.with_suffix("").as_posix(), [])
    same_ending = [path for path in candidates if path.suffix == name.suffix]
    chosen = same_ending or candidates
    if not chosen:
        raise ImageFileError(f"has no partner of this name in {key}")
    if len(chosen) > 1:
        raise ImageFileError(f"has several partners: {', '.join(path.name for path in chosen)}")
    return chosen[0]
